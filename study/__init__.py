"""The nested protocol, its schedule, its engines and the command line."""

if __name__ != "outerfold.study":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.study")
