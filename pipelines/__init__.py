"""Models and their training; a model learns from the rows given to it and from no others."""

if __name__ != "outerfold.pipelines":
    raise ImportError(f"the folder {__name__} is part of outerfold: import outerfold.pipelines")
