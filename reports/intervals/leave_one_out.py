"""Metrics with each patient left out in turn, models fixed, without a loop over patients.

The record of a metric says how (``objectives/measures/metric.py``). Of ``Sums`` a patient's part is
subtracted. Of ``Ranks``, a ROC-AUC loses the pairs that contain one of the patient's images, and an
average precision is rebuilt from prefix sums. Time is O(n log n) per class, memory
O(n + patients x folds). ``Whole`` metrics alone are computed again without each patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from outerfold.objectives.measures.metric import Metric, Ranks, Sums
from outerfold.objectives.metrics import METRICS, class_metrics
from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.leave_out_record import (
    LeaveOut,
    fold_decisions,
    mean_of_finite,
    mean_over_folds,
    variance_over_thresholds,
)
from outerfold.reports.intervals.leave_out_sums import SumValue, sum_leave_outs
from outerfold.storage.records import BoolArray, FloatArray, IntArray

RankMetric = Callable[[BoolArray, FloatArray, IntArray, int], tuple[float, FloatArray]]


def overall_leave_outs(rows: CodedRows) -> dict[str, LeaveOut]:
    """Overall metrics by name, without those that are not shown for this number of classes."""
    shown = [metric for metric in METRICS.values() if metric.shown(len(rows.classes))]
    return metric_leave_outs(rows, shown)


def metric_leave_outs(rows: CodedRows, metrics: Sequence[Metric]) -> dict[str, LeaveOut]:
    """These metrics by name, each as its record says."""
    pooled = sum_leave_outs(
        rows, {m.name: (m.how, m.how.value) for m in metrics if isinstance(m.how, Sums)}
    )
    return {
        metric.name: pooled[metric.name]
        if metric.name in pooled
        else _leave_out_rows(rows, metric, shown_classes(rows))
        for metric in metrics
    }


def auc_leave_out(rows: CodedRows) -> LeaveOut:
    """Overall ROC-AUC alone, the same as in ``overall_leave_outs``."""
    return _leave_out_rows(rows, METRICS["roc_auc"], shown_classes(rows))


def class_leave_outs(rows: CodedRows, index: int) -> dict[str, LeaveOut]:
    """Metrics of class ``index`` against the rest, by name."""
    shown = class_metrics()

    def of_class(metric: Metric) -> SumValue:
        assert metric.column is not None
        assert metric.column.of_sums is not None
        of_sums = metric.column.of_sums
        return lambda sums, _: of_sums(sums)[..., index]

    sums = {m.name: (m.how, of_class(m)) for m in shown if isinstance(m.how, Sums)}
    pooled = sum_leave_outs(rows, sums)
    return {
        metric.name: pooled[metric.name]
        if metric.name in pooled
        else _leave_out_rows(rows, metric, (index,))
        for metric in shown
    }


def shown_classes(rows: CodedRows) -> tuple[int, ...]:
    """Classes over which overall metrics of ranks are averaged: of two the positive one, or all."""
    return (1,) if rows.two else tuple(range(len(rows.classes)))


def _leave_out_rows(rows: CodedRows, metric: Metric, shown: tuple[int, ...]) -> LeaveOut:
    """Leave-out of a metric that is no function of sums."""
    folds, how = len(rows.fold_names), metric.how
    if not isinstance(how, Ranks):
        return _leave_out_whole(rows, metric)
    full, without = _by_part(rows, how.without, shown, rows.fold, folds)
    if _fewest_in_a_fold(rows, shown) >= how.pool_below:
        return _fold_mean(rows, full, without)
    whole, left = _by_part(rows, how.without, shown, rows.repeat, rows.repeats)
    return LeaveOut(float(mean_of_finite(whole)), mean_of_finite(left), full, True)


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


def _leave_out_whole(rows: CodedRows, metric: Metric) -> LeaveOut:
    """Leave-out of a metric that is computed again for each patient.

    Like every other, it is a mean over folds if it needs ranks alone; else the rows of all folds
    of a repeat are pooled.
    """

    def score(at: BoolArray, predicted: IntArray) -> float:
        return metric.score(rows.labels[at], rows.probabilities[at], predicted[at])

    def by_part(part: IntArray, parts: int, predicted: IntArray) -> FloatArray:
        return np.array([score(part == p, predicted) for p in range(parts)])

    folds = by_part(rows.fold, len(rows.fold_names), rows.predicted)
    by_folds = metric.needs == "ranks"
    part, full = (rows.fold, folds) if by_folds else (rows.repeat, None)
    if full is None:
        full = by_part(rows.repeat, rows.repeats, rows.predicted)
    without = np.tile(full, (rows.patients, 1))
    for p in range(len(full)):
        for patient in np.unique(rows.patient[part == p]).tolist():
            left = (part == p) & (rows.patient != patient)
            without[patient, p] = score(left, rows.predicted)
    if by_folds:
        return _fold_mean(rows, full, without)
    moved = [
        float(mean_of_finite(by_part(rows.repeat, rows.repeats, decided)))
        for decided in fold_decisions(rows)
        if metric.needs == "decisions"
    ]
    estimate = float(mean_of_finite(full))
    spread = variance_over_thresholds(moved)
    return LeaveOut(estimate, mean_of_finite(without), folds, True, spread)
