"""Nouns and where they are kept."""

if __name__ != "outerfold.storage":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.storage")
