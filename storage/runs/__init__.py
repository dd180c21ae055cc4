"""Run directories: data, folds, options and results of a run."""
