"""Slope of a logistic recalibration, and whether it differs from 1 by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from outerfold.reports.intervals.jackknife import FEWEST, t_quantile
from outerfold.storage.records import FloatArray, Predictions

TINY = 1e-9
"""Smallest distance of a probability to 0 and 1 when its log-odds are taken."""
SEPARATED = "the probabilities separate the classes perfectly, so the slope has no finite value"
_STEPS = 50
_LONGEST = 2.0  # step of Newton's method, on standardised log-odds


@dataclass(frozen=True)
class Slope:
    """Calibration slope of rows of two classes; 1 is ideal, below 1 probabilities are too extreme.

    Attributes:
        estimate: of the log-odds, in a logistic regression with an intercept; None if undefined.
        low, high: 95 % interval with errors clustered by patient; None if there is none.
        chi2: score statistic (one degree of freedom) of the hypothesis that the slope is the usual
            one with any intercept: the smaller one of that with variances clustered by patient and
            of that of the model, since each is too large in some small folds. None if there is no
            interval.
        reason: why there is no interval; None if there is one.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    chi2: float | None = None
    reason: str | None = None


def calibration_slope(rows: Predictions, usual: float = 1.0) -> Slope:
    """Calibration slope of one model's rows of two classes.

    Args:
        rows: the rows.
        usual: positive slope that ``chi2`` compares with.

    References: Cox (1958), Biometrika 45; Van Calster et al. (2019), BMC Medicine 17, 230.
    """
    odds = logit(np.clip(rows.probabilities[:, 1], TINY, 1 - TINY))
    patients = [len(set(rows.groups[rows.labels == c].tolist())) for c in (0, 1)]
    if not min(patients) or float(odds.std()) < TINY:
        return Slope(None, reason="a class is missing, or all probabilities are equal")
    one, other = odds[rows.labels == 1], odds[rows.labels == 0]
    if one.min() >= other.max() or other.min() >= one.max():
        return Slope(None, reason=SEPARATED)
    labels, patient = rows.labels.astype(np.float64), np.unique(rows.groups, return_inverse=True)[1]
    spread, mean = float(odds.std()), float(odds.mean())
    design = np.stack([(odds - mean) / spread, np.ones(len(odds))], axis=1)
    slope, error = _fit(design, labels, patient)
    if min(patients) < FEWEST:
        return Slope(slope / spread, reason=f"a class has fewer than {FEWEST} patients")
    half = t_quantile(patient.max(), 0.95) * error
    chi2 = _score_statistic(usual * odds, labels, patient)
    return Slope(slope / spread, (slope - half) / spread, (slope + half) / spread, chi2)


def _fit(design: FloatArray, labels: FloatArray, patient: np.ndarray) -> tuple[float, float]:
    """Slope of the first column, by Newton's method, and its error clustered by patient."""
    found = np.array([0.0, logit(labels.mean())])
    for _ in range(_STEPS):
        p = expit(design @ found)
        curve = (design.T * (p * (1 - p))) @ design
        step = np.linalg.solve(curve, design.T @ (labels - p))
        found = found + step * min(1.0, _LONGEST / max(float(np.abs(step).max()), TINY))
        if np.abs(step).max() < TINY:
            break
    own = _by_patient(design * (labels - p)[:, None], patient)
    bread = np.linalg.inv(curve)
    covariance = bread @ (own.T @ own) @ bread * len(own) / (len(own) - 1)
    return float(found[0]), float(np.sqrt(covariance[0, 0]))


def _score_statistic(odds: FloatArray, labels: FloatArray, patient: np.ndarray) -> float:
    """Score statistic of slope 1 with a free intercept."""
    shift = 0.0
    for _ in range(_STEPS):
        p = expit(odds + shift)
        step = float((labels - p).sum() / (p * (1 - p)).sum())
        shift += float(np.clip(step, -_LONGEST, _LONGEST))
        if abs(step) < TINY:
            break
    weights = p * (1 - p)
    away = odds - np.average(odds, weights=weights)
    own = _by_patient((away * (labels - p))[:, None], patient)
    variance = max(float((own**2).sum()), float((weights * away**2).sum()))
    return float(own.sum() ** 2 / variance)


def _by_patient(terms: FloatArray, patient: np.ndarray) -> FloatArray:
    """Sums (patients, k) of the terms (n, k) of rows."""
    sums = [np.bincount(patient, column) for column in terms.T]
    return np.stack(sums, axis=1)
