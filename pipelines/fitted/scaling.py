"""Fits of calibration: a slope and an intercept of the log-odds, or one temperature of all classes.

With two classes the log-odds are standardised and a logistic regression with a small ridge on the
slope is fitted (Platt 1999). The ridge takes the place of bounds: rows without signal get a slope
near zero and so the training prevalence, and rows that a score separates perfectly get a finite
slope. With several classes one temperature is fitted in the same way (Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.storage.records import FloatArray, IntArray

RIDGE = 1.0
"""Weight of the square of the slope, in rows: the fit is that of a normal prior with variance 1 /
RIDGE on the slope. Others are tried in ``benchmarks/models/operating_point.py``."""
LEAST_SLOPE = 0.01
"""Smallest slope; a slope of 0 or below would lose or turn the order of the rows."""
TINY = 1e-12
"""Smallest probability whose logarithm is taken; smaller ones are raised to it."""
_STEPS = 100
_LONGEST = 2.0  # step of Newton's method; longer ones overshoot where rows are nearly separated
_CLOSE = 1e-10


@dataclass(frozen=True)
class Scaling:
    """Fitted calibration of log-probabilities, and what it was fitted on.

    Attributes:
        temperature: divisor of the log-probabilities, above 0; above 1 it softens them.
        shift: addend to the log-odds of the second of two classes; 0 with several classes.
        slope: of the standardised log-odds (of standardised log-probabilities with several
            classes); near 0 without signal.
        error: standard error of the slope, as if rows were independent.
        spread: standard deviation of the log-odds (of the log-probabilities).
    """

    temperature: float
    shift: float
    slope: float
    error: float
    spread: float


def scale_logs(probabilities: FloatArray, temperature: float, shift: float) -> FloatArray:
    """Return calibrated probabilities (n, classes) of uncalibrated ones (n, classes)."""
    scaled = np.log(np.clip(probabilities, TINY, None)) / temperature
    scaled[:, 1] += shift
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    calibrated: FloatArray = scaled / scaled.sum(axis=1, keepdims=True)
    return calibrated


def fit_scaling(labels: IntArray, probabilities: FloatArray) -> Scaling:
    """Fit the scaling on rows that the scoring models did not train on.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes), uncalibrated.

    Reference: Platt (1999), Probabilistic outputs for support vector machines; Guo et al. (2017),
    On Calibration of Modern Neural Networks, section 4.2.
    """
    logs = np.log(np.clip(probabilities, TINY, None))
    if probabilities.shape[1] == 2:
        return _fit_log_odds(labels, logs[:, 1] - logs[:, 0])
    return _fit_temperature(labels, logs)


def _fit_log_odds(labels: IntArray, odds: FloatArray) -> Scaling:
    """Slope and intercept of the standardised log-odds (n,), by Newton's method."""
    n, mean, spread = len(odds), odds.mean(), max(float(odds.std()), 1e-9)
    design = np.stack([(odds - mean) / spread, np.ones(n)], axis=1)
    penalty = np.array([RIDGE / n, 0.0])
    base = np.clip(labels.mean(), 1e-3, 1 - 1e-3)
    found = start = np.array([0.0, np.log(base / (1 - base))])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ found))
        down = design.T @ (p - labels) / n + penalty * found
        # 1e-9: rows of one class alone have no finite intercept, and their curvature vanishes.
        curve = (design.T * (p * (1 - p))) @ design / n + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, down)
        found = found - step * min(1.0, _LONGEST / max(float(np.abs(step).max()), TINY))
        if np.abs(step).max() < _CLOSE:
            break
    slope, intercept = found if found[0] > LEAST_SLOPE else (LEAST_SLOPE, start[1])
    error = np.sqrt(np.linalg.inv(curve)[0, 0] / n)
    shift = intercept - slope * mean / spread
    return Scaling(*map(float, (spread / slope, shift, found[0], error, spread)))


def _fit_temperature(labels: IntArray, logs: FloatArray) -> Scaling:
    """Slope of the standardised log-probabilities (n, classes), by Newton's method."""
    n, centred = len(logs), logs - logs.mean(1, keepdims=True)
    spread = max(float(centred.std()), 1e-9)
    z = centred / spread
    own, slope = z[np.arange(n), labels].mean(), 0.0
    for _ in range(_STEPS):
        p = np.exp(slope * (z - z.max(1, keepdims=True)))
        p /= p.sum(1, keepdims=True)
        mean = (p * z).sum(1)
        down = mean.mean() - own + RIDGE / n * slope
        curve = ((p * z**2).sum(1) - mean**2).mean() + RIDGE / n
        step = float(np.clip(down / curve, -_LONGEST, _LONGEST))
        slope -= step
        if abs(step) < _CLOSE:
            break
    kept, error = max(slope, LEAST_SLOPE), 1 / np.sqrt(curve * n)
    return Scaling(*map(float, (spread / kept, 0.0, slope, error, spread)))
