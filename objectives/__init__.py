"""The inner objective of a study: search spaces, metrics and pruning."""

if __name__ != "outerfold.objectives":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.objectives")
