"""Numbers, tables, figures and documents of a run."""

if __name__ != "outerfold.reports":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.reports")
