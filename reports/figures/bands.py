"""Curves with bands: patients are drawn again with all their images, with the models fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.reports.analyses.operating_points import roc_points
from outerfold.reports.intervals.bootstrap import draw_weights
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.leave_out_record import mean_over_folds
from outerfold.storage.records import BoolArray, FloatArray, Predictions

RESAMPLES = 400
SPAN = 0.75
"""Share of the rows that a point of the calibration curve looks at (Austin & Steyerberg 2014)."""


@dataclass(frozen=True, eq=False)
class Band:
    """A curve with a pointwise 95 % band.

    Attributes:
        x: (points,) places.
        height: (points,) the curve.
        low, high: (points,) the band.
        folds: (folds, points) curve of each fold; (0, points) where it is of all rows together.
    """

    x: FloatArray
    height: FloatArray
    low: FloatArray
    high: FloatArray
    folds: FloatArray


def roc_band(
    predictions: Predictions, index: int = 1, *, resamples: int = RESAMPLES
) -> Band | None:
    """ROC curve of a class: mean over folds of the sensitivity at equal 1 - specificity.

    The area under it is the mean over folds of the ROC-AUC, but for the grid. There is none where
    no fold has both sides.

    Args:
        predictions: outer test rows.
        index: the class against all others.
        resamples: number of resamples.
    """
    rows, x = code_rows(predictions), np.linspace(0, 1, 201)
    folds = [f for f in range(len(rows.fold_names)) if _is_mixed(rows, f, index)]
    if not folds:
        return None
    repeats = rows.fold_repeat[folds]
    curves = np.stack([_curve(rows, fold, index, x) for fold in folds])
    height = mean_over_folds(curves.T, repeats)
    drawn = [
        mean_over_folds(
            np.stack([_drawn_curves(rows, fold, index, weights, x) for fold in folds], axis=-1),
            repeats,
        )
        for weights in draw_weights(rows.patients, resamples, len(predictions), seed=0)
    ]
    low, high = np.nanpercentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    return Band(x, height, low, high, curves)


def calibration_band(predictions: Predictions, *, resamples: int = RESAMPLES) -> Band:
    """Share of positives by probability, smoothed by straight lines over the nearest rows (loess).

    Args:
        predictions: outer test rows of two classes; the folds are taken together.
        resamples: number of resamples.
    """
    rows = code_rows(predictions)
    p, positive = rows.probabilities[:, 1], (rows.labels == 1).astype(np.float64)
    x = np.linspace(float(np.quantile(p, 0.01)), float(np.quantile(p, 0.99)), 41)
    near = _tricube(np.abs(x[:, None] - p))  # (points, n)
    height = _lines(near, p, positive, np.ones((1, len(p))), x)[0]
    drawn = [
        _lines(near, p, positive, weights[:, rows.patient], x)
        for weights in draw_weights(rows.patients, resamples, 4 * len(predictions), seed=0)
    ]
    low, high = np.nanpercentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    return Band(x, height, low, high, np.zeros((0, len(x))))


def _is_mixed(rows: CodedRows, fold: int, index: int) -> bool:
    positive = rows.labels[rows.fold == fold] == index
    return bool(0 < positive.sum() < len(positive))


def _curve(rows: CodedRows, fold: int, index: int, x: FloatArray) -> FloatArray:
    at = rows.fold == fold
    alarms, hits = roc_points(rows.labels[at] == index, rows.probabilities[at, index])
    return _heights(alarms, hits, x)


def _heights(alarms: FloatArray, hits: FloatArray, x: FloatArray) -> FloatArray:
    """Sensitivity at each place; of several at one place the largest, but 0 at the first."""
    height = np.interp(x, alarms, hits)
    height[0] = 0.0
    return np.asarray(height, dtype=np.float64)


def _drawn_curves(
    rows: CodedRows, fold: int, index: int, weights: FloatArray, x: FloatArray
) -> FloatArray:
    """Sensitivity (resamples, points) of one fold with rows that count ``weights`` times."""
    at = np.flatnonzero(rows.fold == fold)
    scores = rows.probabilities[at, index]
    order = np.argsort(-scores, kind="stable")
    at, scores = at[order], scores[order]
    drawn, positive = weights[:, rows.patient[at]], rows.labels[at] == index
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    hits, alarms = (_shares(drawn, side, last) for side in (positive, ~positive))
    return np.stack([_heights(a, h, x) for a, h in zip(alarms, hits, strict=True)])


def _shares(drawn: FloatArray, side: BoolArray, last: np.ndarray) -> FloatArray:
    """Cumulated share (resamples, thresholds + 1) of one side; NaN where none was drawn."""
    counts = np.cumsum(drawn * side, axis=1)
    total = np.where(counts[:, -1:] > 0, counts[:, -1:], np.nan)
    return np.insert(counts[:, last] / total, 0, 0.0, axis=1)


def _tricube(distance: FloatArray) -> FloatArray:
    """Weights (points, n) that fall to 0 at the distance of the row that ends the span."""
    nearest = max(int(np.ceil(SPAN * distance.shape[1])) - 1, 1)
    reach = np.partition(distance, nearest, axis=1)[:, nearest, None]
    return (1 - np.clip(distance / np.maximum(reach, 1e-9), 0, 1) ** 3) ** 3


def _lines(
    near: FloatArray, p: FloatArray, positive: FloatArray, weights: FloatArray, x: FloatArray
) -> FloatArray:
    """Heights (resamples, points) of weighted straight lines at ``x``, kept within 0 and 1."""
    s0, s1, s2, t0, t1 = (
        weights @ (near * term).T for term in (np.ones_like(p), p, p * p, positive, p * positive)
    )
    spread = s0 * s2 - s1 * s1
    slope = np.where(spread > 1e-12, (s0 * t1 - s1 * t0) / np.where(spread > 1e-12, spread, 1), 0)
    height = (t0 - slope * s1) / np.maximum(s0, 1e-12) + slope * x
    return np.asarray(np.clip(height, 0, 1), dtype=np.float64)
