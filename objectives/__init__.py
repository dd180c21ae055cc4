"""What is searched and what is scored."""

if __name__ != "outerfold.objectives":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.objectives")
