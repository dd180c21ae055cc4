"""The threshold each fold must have used, from what it decided."""

from __future__ import annotations

import numpy as np

from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.storage.records import FloatArray


def fold_thresholds(rows: CodedRows) -> FloatArray:
    """A threshold (folds,) for each fold's two-class decisions, or (0,) where they do not vary.

    It lies between the largest probability decided as class 0 and the smallest decided as class
    1; the middle is taken. Nothing varies where one threshold explains all folds, and nothing is
    known of decisions that are not a threshold's, or of several classes.
    """
    none = np.zeros(0)
    if not rows.two or len(rows.fold_names) < 2:
        return none
    positive, up = rows.probabilities[:, 1], rows.predicted == 1
    low, high = np.zeros(len(rows.fold_names)), np.ones(len(rows.fold_names))
    np.maximum.at(low, rows.fold[~up], positive[~up])
    np.minimum.at(high, rows.fold[up], positive[up])
    if (low >= high).any() or low.max() < high.min():
        return none
    return (low + high) / 2
