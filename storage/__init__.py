"""Records of rows, folds and results, and the code that reads them, checks them and keeps them."""

if __name__ != "outerfold.storage":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.storage")
