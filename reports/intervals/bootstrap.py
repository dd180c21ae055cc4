"""Bootstrap over whole patients: intervals with the models fixed, and the bias of the ECE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from outerfold.objectives.measures.metric import Metric, Ranks, Sums
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import ConfidenceInterval
from outerfold.reports.intervals.leave_one_out import overall_leave_outs, shown_classes
from outerfold.reports.intervals.leave_out_record import LeaveOut, mean_of_finite, mean_over_folds
from outerfold.reports.intervals.leave_out_sums import SumTable
from outerfold.storage.records import BoolArray, FloatArray, IntArray, Predictions

CELLS = 4_000_000
"""Largest number of cells in one table of weights; 32 MB."""
Weighted = Callable[[BoolArray, FloatArray, FloatArray], FloatArray]


def patient_bootstrap(
    predictions: Predictions, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Percentile intervals of all overall metrics by name, with the models fixed.

    Patients are drawn with all their images. The models stay the same, so the coverage is below
    the nominal level (78-94 % for a nominal 95 %); the interval is printed only with the name of
    its method.

    Args:
        level: nominal coverage.
        resamples: number of bootstrap resamples.

    Raises:
        DataError: no rows, or an image twice in one repeat.
        LeakError: a patient in two folds of one repeat.
    """
    rows = code_rows(predictions)
    whole = overall_leave_outs(rows)
    draws: dict[str, list[FloatArray]] = {name: [] for name in whole}
    for weights in draw_weights(rows.patients, resamples, len(predictions), seed):
        for name, values in _resample_metrics(rows, whole, weights).items():
            draws[name].append(values)
    tails = [50 * (1 - level), 50 * (1 + level)]
    found = {}
    for name, leave in whole.items():
        values = np.concatenate(draws[name])
        low, high = np.percentile(values[np.isfinite(values)], tails)
        method = f"patient bootstrap, percentile, {resamples} resamples, models fixed"
        by_fold = tuple(float(value) for value in leave.by_fold)
        found[name] = ConfidenceInterval(
            leave.estimate, float(low), float(high), level, method, by_fold
        )
    return found


def without_bias(rows: CodedRows, how: Sums, estimate: float, *, resamples: int = 400) -> float:
    """Metric corrected for bias: 2 x estimate - mean over patient resamples; it may be below 0.

    Absolute gaps of small bins make a plug-in calibration error too large; resampling adds that
    bias once more. Patients are sorted by their contributions, so neither the order of rows nor
    names matter.

    Args:
        how: the metric.
        estimate: plug-in value of the same rows.
    """
    table = SumTable([how])
    key = rows.patient * rows.repeats + rows.repeat
    own = table.sums(rows, key, rows.patients * rows.repeats).reshape(rows.patients, -1)
    own = own[np.lexsort(np.round(own, 12).T)]
    total = 0.0
    for weights in draw_weights(rows.patients, resamples, rows.patients, seed=0):
        drawn = (weights @ own).reshape(len(weights), rows.repeats, -1)
        total += float(table.value(how, how.value, drawn).mean(-1).sum())
    return 2 * estimate - total / resamples


def draw_weights(patients: int, resamples: int, width: int, seed: int) -> Iterator[FloatArray]:
    """Yield, chunk by chunk, how often each patient is drawn (chunk, patients).

    Args:
        width: largest second dimension that the weights are used with; it limits the chunk.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // max(width, patients))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(0, patients, (size, patients)) + patients * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * patients)
        yield counts.reshape(size, patients).astype(np.float64)


def _resample_metrics(
    rows: CodedRows, whole: dict[str, LeaveOut], weights: FloatArray
) -> dict[str, FloatArray]:
    hows = {name: METRICS[name].how for name in whole}
    table = SumTable(how for how in hows.values() if isinstance(how, Sums))
    key = rows.patient * rows.repeats + rows.repeat
    own = table.sums(rows, key, rows.patients * rows.repeats).reshape(rows.patients, -1)
    sums = (weights @ own).reshape(len(weights), rows.repeats, -1)
    found = {}
    for name, how in hows.items():
        if isinstance(how, Sums):
            found[name] = mean_of_finite(table.value(how, how.value, sums))
            continue
        pooled = whole[name].pooled
        part = (rows.repeat, rows.repeats) if pooled else (rows.fold, len(rows.fold_names))
        if isinstance(how, Ranks):
            values = _by_part(rows, how.weighted, weights, *part)
        else:
            values = _score_drawn(rows, METRICS[name], weights, *part)
        found[name] = (
            mean_of_finite(values) if pooled else mean_over_folds(values, rows.fold_repeat)
        )
    return found


def _by_part(
    rows: CodedRows, metric: Weighted, weights: FloatArray, part: IntArray, parts: int
) -> FloatArray:
    """Metric of each part (resamples, parts), averaged over the shown classes.

    Two classes show the positive one; several show all.
    """
    shown = shown_classes(rows)
    found = np.zeros((len(weights), parts))
    for p in range(parts):
        at = np.flatnonzero(part == p)
        drawn = weights[:, rows.patient[at]]
        for c in shown:
            values = metric(rows.labels[at] == c, rows.probabilities[at, c], drawn)
            found[:, p] += values / len(shown)
    return found


def _score_drawn(
    rows: CodedRows, metric: Metric, weights: FloatArray, part: IntArray, parts: int
) -> FloatArray:
    """Metric of each part (resamples, parts), computed from rows that are repeated as drawn."""
    found = np.zeros((len(weights), parts))
    for p in range(parts):
        at = np.flatnonzero(part == p)
        for resample, drawn in enumerate(weights[:, rows.patient[at]].astype(np.int64)):
            taken = np.repeat(at, drawn)
            found[resample, p] = metric.score(
                rows.labels[taken], rows.probabilities[taken], rows.predicted[taken]
            )
    return found
