"""Nested cross-validation of a study: options, folds, schedule, worker processes, command line."""

if __name__ != "outerfold.study":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.study")
