"""Finished runs to numbers, tables, figures and documents."""

if __name__ != "outerfold.reports":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.reports")
