"""Metrics with each patient left out in turn, models fixed, without a loop over patients.

Counts, squared errors and calibration gaps are sums over images, so a patient's part is
subtracted. A ROC-AUC loses the pairs that contain one of the patient's images; an average
precision is rebuilt from prefix sums. Time is O(n log n) per class, memory
O(n + patients x folds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from outerfold.objectives.metrics import ECE_BINS, calibration_gaps, class_scores, count_scores
from outerfold.objectives.metrics import squared_errors as row_errors
from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.rank_leave_one_out import ap_without, auc_without
from outerfold.storage.records import BoolArray, FloatArray, IntArray

POOL_BELOW = 5
"""Average precision uses pooled folds if a fold has fewer patients with the class than this."""
CHUNK = 4096
"""Patients left out at a time, which limits memory."""
RankMetric = Callable[[BoolArray, FloatArray, IntArray, int], tuple[float, FloatArray]]


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


def overall_leave_outs(rows: CodedRows) -> dict[str, LeaveOut]:
    """Overall metrics by name; sensitivity and specificity only for two classes."""
    found = _pooled_leave_outs(rows, overall_from_sums)
    shown = range(1, 2) if rows.two else range(len(rows.classes))
    return {**_rank_leave_outs(rows, tuple(shown)), **found}


def auc_leave_out(rows: CodedRows) -> LeaveOut:
    """Overall ROC-AUC alone, the same as in ``overall_leave_outs``."""
    shown = tuple(range(1, 2) if rows.two else range(len(rows.classes)))
    return _fold_mean(rows, *_by_part(rows, auc_without, shown, rows.fold, len(rows.fold_names)))


def class_leave_outs(rows: CodedRows, index: int) -> dict[str, LeaveOut]:
    """Metrics of class ``index`` against the rest, by name."""

    def of_class(sums: FloatArray, classes: int) -> dict[str, FloatArray]:
        each = class_scores(_confusion_table(sums, classes))
        return {name: values[..., index] for name, values in each.items()}

    return {**_pooled_leave_outs(rows, of_class), **_rank_leave_outs(rows, (index,))}


def sums_by(rows: CodedRows, key: IntArray, keys: int) -> FloatArray:
    """Sums (keys, classes^2 + 1 + bins) from which count metrics, Brier score and ECE follow.

    The columns are the confusion counts, the sum of squared errors, and the sum of calibration
    gaps in each of the ``ECE_BINS`` bins.

    Args:
        key: (n,) group of each row, 0..keys-1.
        keys: number of groups.
    """
    c = len(rows.classes)
    cells = np.bincount((key * c + rows.labels) * c + rows.predicted, minlength=keys * c * c)
    errors = np.bincount(key, row_errors(rows.labels, rows.probabilities), keys)
    bins, gaps = calibration_gaps(rows.labels, rows.probabilities)
    gap = np.bincount(key * ECE_BINS + bins, gaps, keys * ECE_BINS)
    parts = (cells.reshape(keys, -1), errors[:, None], gap.reshape(keys, -1))
    return np.concatenate(parts, axis=1).astype(np.float64)


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


def _confusion_table(sums: FloatArray, classes: int) -> FloatArray:
    return sums[..., : classes**2].reshape(*sums.shape[:-1], classes, classes)


def overall_from_sums(sums: FloatArray, classes: int) -> dict[str, FloatArray]:
    """Overall metrics (...,) by name from the sums of ``sums_by`` (..., terms)."""
    found = count_scores(_confusion_table(sums, classes))
    if classes > 2:
        del found["sensitivity"], found["specificity"]
    images = np.maximum(sums[..., : classes**2].sum(-1), 1)
    found["brier"] = sums[..., classes**2] / images
    found["ece"] = np.abs(sums[..., classes**2 + 1 :]).sum(-1) / images
    return found


def _pooled_leave_outs(
    rows: CodedRows, metric: Callable[[FloatArray, int], dict[str, FloatArray]]
) -> dict[str, LeaveOut]:
    c, key = len(rows.classes), rows.patient * rows.repeats + rows.repeat
    own = sums_by(rows, key, rows.patients * rows.repeats).reshape(rows.patients, rows.repeats, -1)
    total = own.sum(axis=0)
    alone = metric(sums_by(rows, rows.fold, len(rows.fold_names)), c)
    estimate = {name: float(mean_of_finite(value)) for name, value in metric(total, c).items()}
    chunks = [metric(total - part, c) for part in _chunks(own)]
    moved = [
        metric(sums_by(replace(rows, predicted=decided), rows.repeat, rows.repeats), c)
        for decided in _fold_decisions(rows)
    ]
    return {
        name: LeaveOut(
            value,
            np.concatenate([mean_of_finite(chunk[name]) for chunk in chunks]),
            alone[name],
            True,
            float(np.var([mean_of_finite(one[name]) for one in moved], ddof=1)) if moved else 0.0,
        )
        for name, value in estimate.items()
    }


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


def _fold_decisions(rows: CodedRows) -> list[IntArray]:
    """Decisions (n,) for all rows by each fold's threshold; empty if one threshold fits all."""
    positive = rows.probabilities[:, 1]
    return [(positive >= one).astype(np.int64) for one in fold_thresholds(rows)]


def _chunks(values: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _rank_leave_outs(rows: CodedRows, shown: tuple[int, ...]) -> dict[str, LeaveOut]:
    auc = _by_part(rows, auc_without, shown, rows.fold, len(rows.fold_names))
    ap = _by_part(rows, ap_without, shown, rows.fold, len(rows.fold_names))
    found = {"roc_auc": _fold_mean(rows, *auc), "average_precision": _fold_mean(rows, *ap)}
    if _fewest_in_a_fold(rows, shown) < POOL_BELOW:
        whole, without = _by_part(rows, ap_without, shown, rows.repeat, rows.repeats)
        pooled = LeaveOut(float(mean_of_finite(whole)), mean_of_finite(without), ap[0], True)
        found["average_precision"] = pooled
    return found


def _fold_mean(rows: CodedRows, full: FloatArray, without: FloatArray) -> LeaveOut:
    estimate = float(mean_over_folds(full, rows.fold_repeat))
    return LeaveOut(estimate, mean_over_folds(without, rows.fold_repeat), full, False)


def _by_part(
    rows: CodedRows, metric: RankMetric, shown: tuple[int, ...], part: IntArray, parts: int
) -> tuple[FloatArray, FloatArray]:
    """Metric of each part (parts,), and without each patient (patients, parts).

    Both are means over the shown classes.

    Args:
        part: (n,) part of each row (its fold or repeat), 0..parts-1.
    """
    full, without = np.zeros(parts), np.zeros((rows.patients, parts))
    for p in range(parts):
        at = np.flatnonzero(part == p)
        here, local = np.unique(rows.patient[at], return_inverse=True)
        for c in shown:
            value, left = metric(rows.labels[at] == c, rows.probabilities[at, c], local, len(here))
            change = np.full(rows.patients, value)
            change[here] = left
            full[p] += value / len(shown)
            without[:, p] += change / len(shown)
    return full, without


def _fewest_in_a_fold(rows: CodedRows, shown: tuple[int, ...]) -> int:
    folds = range(len(rows.fold_names))
    return min(
        len(np.unique(rows.patient[(rows.fold == f) & (rows.labels == c)]))
        for f in folds
        for c in shown
    )
