"""One metric and its values without each patient, and the means and decisions that these need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.storage.records import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class LeaveOut:
    """One metric: its estimate, and its estimate without each patient.

    Attributes:
        without: (patients,) estimate with that patient's images left out.
        by_fold: (folds,) metric of each fold alone; NaN where a fold lacks a class.
        pooled: whether it comes from the rows of all folds of a repeat together; if not, it is a
            mean over folds.
        moved: variance of the estimate over the folds' thresholds, each applied to all rows; 0
            if one threshold explains the decisions of every fold.
        inner: (folds, inner folds) metric of the outer fold's model without one inner fold, on the
            same test rows, see ``variation.py``; None if there are no such models.
        alone: for each fold (patients of the fold,) the metric of the fold alone without each of
            them; empty where ``inner`` is None.
        ahead: by how much a model made from all patients is expected to score better than the
            estimate; negative where less is better, 0 if unknown.
    """

    estimate: float
    without: FloatArray
    by_fold: FloatArray
    pooled: bool
    moved: float = 0.0
    inner: FloatArray | None = None
    alone: tuple[FloatArray, ...] = ()
    ahead: float = 0.0


def mean_over_folds(values: FloatArray, fold_repeat: IntArray) -> FloatArray:
    """Mean (...,) of ``values`` (..., folds), first over each repeat's folds, then over repeats.

    NaN is left out.

    Args:
        fold_repeat: (folds,) repeat code of each fold.
    """
    repeats = range(int(fold_repeat.max()) + 1)
    return mean_of_finite(
        np.stack([mean_of_finite(values[..., fold_repeat == r]) for r in repeats], axis=-1)
    )


def mean_of_finite(values: FloatArray) -> FloatArray:
    """Mean (...,) of the finite values on the last axis; NaN if there are none."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0.0).sum(-1), there.sum(-1)
    return np.asarray(np.where(count, total / np.maximum(count, 1), np.nan), dtype=np.float64)


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


def fold_decisions(rows: CodedRows) -> list[IntArray]:
    """Decisions (n,) for all rows by each fold's threshold; empty if one threshold fits all."""
    positive = rows.probabilities[:, 1]
    return [(positive >= one).astype(np.int64) for one in fold_thresholds(rows)]


def variance_over_thresholds(values: Sequence[float]) -> float:
    """Variance over folds' thresholds; 0 where there are none to compare."""
    return float(np.var(values, ddof=1)) if values else 0.0
