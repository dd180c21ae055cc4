"""Threshold of each fold, reconstructed from its decisions."""

from __future__ import annotations

import numpy as np

from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.storage.records import FloatArray


def fold_thresholds(rows: CodedRows) -> FloatArray:
    """Threshold (folds,) of each fold's two-class decisions; (0,) if there are none to compare.

    It lies between the largest probability decided as class 0 and the smallest decided as class
    1; the middle is taken. The result is empty if one threshold explains all folds, if the
    decisions do not follow a threshold, for one fold, and for more than two classes.
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
