"""Bootstrap over whole patients: intervals with the models fixed, and the bias of the ECE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from outerfold.objectives.metrics import ECE_BINS
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import ConfidenceInterval
from outerfold.reports.intervals.leave_one_out import (
    LeaveOut,
    mean_of_finite,
    mean_over_folds,
    overall_from_sums,
    overall_leave_outs,
    sums_by,
)
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
    for weights in _draw_weights(rows.patients, resamples, len(predictions), seed):
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


def ece_without_bias(rows: CodedRows, estimate: float, *, resamples: int = 400) -> float:
    """ECE corrected for bias: 2 x estimate - mean over patient resamples; it may be below 0.

    Absolute gaps of small bins make a plug-in ECE too large; resampling adds that bias once more.
    Patients are sorted by their contributions, so neither the order of rows nor names matter.

    Args:
        estimate: plug-in ECE of the same rows.
    """
    key = rows.patient * rows.repeats + rows.repeat
    own = sums_by(rows, key, rows.patients * rows.repeats)[:, : len(rows.classes) ** 2].sum(1)
    gaps = sums_by(rows, key, rows.patients * rows.repeats)[:, -ECE_BINS:]
    both = np.concatenate([own[:, None], gaps], axis=1).reshape(rows.patients, -1)
    both = both[np.lexsort(np.round(both, 12).T)]
    total = 0.0
    for weights in _draw_weights(rows.patients, resamples, rows.patients, seed=0):
        drawn = (weights @ both).reshape(len(weights), rows.repeats, -1)
        images = np.maximum(drawn[..., 0], 1)
        total += float((np.abs(drawn[..., 1:]).sum(-1) / images).mean(-1).sum())
    return 2 * estimate - total / resamples


def _draw_weights(patients: int, resamples: int, width: int, seed: int) -> Iterator[FloatArray]:
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
    key = rows.patient * rows.repeats + rows.repeat
    own = sums_by(rows, key, rows.patients * rows.repeats).reshape(rows.patients, -1)
    sums = (weights @ own).reshape(len(weights), rows.repeats, -1)
    found = {n: mean_of_finite(v) for n, v in overall_from_sums(sums, len(rows.classes)).items()}
    found["roc_auc"] = mean_over_folds(_by_fold(rows, weighted_auc, weights), rows.fold_repeat)
    if whole["average_precision"].pooled:
        pooled = _by_part(rows, weighted_ap, weights, rows.repeat, rows.repeats)
        found["average_precision"] = mean_of_finite(pooled)
    else:
        ap = _by_fold(rows, weighted_ap, weights)
        found["average_precision"] = mean_over_folds(ap, rows.fold_repeat)
    return found


def weighted_auc(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """ROC-AUC (resamples,) of n rows, where row i counts ``weights[:, i]`` times.

    Args:
        positive, scores: (n,).
        weights: (resamples, n).
    """
    order = np.argsort(scores)
    up, down = _sum_ties(positive[order], scores[order], weights[:, order])
    below = np.cumsum(down, axis=1) - down / 2
    return _ratio((up * below).sum(1), up.sum(1) * down.sum(1))


def weighted_ap(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Average precision (resamples,) of n rows, where row i counts ``weights[:, i]`` times.

    Args:
        positive, scores: (n,).
        weights: (resamples, n).
    """
    order = np.argsort(-scores)
    up, down = _sum_ties(positive[order], scores[order], weights[:, order])
    caught = np.cumsum(up, axis=1)
    above = caught + np.cumsum(down, axis=1)
    return _ratio((up * caught / np.maximum(above, 1)).sum(1), caught[:, -1])


def _sum_ties(
    positive: BoolArray, scores: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    up = np.add.reduceat(weights * positive, starts, axis=1)
    return up, np.add.reduceat(weights, starts, axis=1) - up


def _by_fold(rows: CodedRows, metric: Weighted, weights: FloatArray) -> FloatArray:
    return _by_part(rows, metric, weights, rows.fold, len(rows.fold_names))


def _by_part(
    rows: CodedRows, metric: Weighted, weights: FloatArray, part: IntArray, parts: int
) -> FloatArray:
    """Metric of each part (resamples, parts), averaged over the shown classes.

    Two classes show the positive one; several show all.
    """
    shown = range(1, 2) if rows.two else range(len(rows.classes))
    found = np.zeros((len(weights), parts))
    for p in range(parts):
        at = np.flatnonzero(part == p)
        drawn = weights[:, rows.patient[at]]
        for c in shown:
            values = metric(rows.labels[at] == c, rows.probabilities[at, c], drawn)
            found[:, p] += values / len(shown)
    return found


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    filled = np.where(whole > 0, whole, 1.0)
    return np.asarray(np.where(whole > 0, part / filled, np.nan), dtype=np.float64)
