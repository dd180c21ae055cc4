"""Decision curve: net benefit over thresholds, against treating everyone and no one.

At the threshold probability t, a false positive is worth t / (1 - t) of a true positive, so the net
benefit of n rows is TP/n - FP/n * t/(1 - t). Treating no one has the net benefit 0.

Reference: Vickers & Elkin (2006), Medical Decision Making 26, 565-574.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from outerfold.objectives.measures.metric import REAL, Metric, Sums
from outerfold.reports.analyses.measure import measure
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of
from outerfold.reports.intervals.variation import Variation
from outerfold.storage.records import FloatArray, IntArray, Predictions

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities at which the net benefit is printed."""


def net_benefit(labels: IntArray, positive: FloatArray, threshold: float) -> float:
    """Net benefit of treating rows with a probability of at least ``threshold``; in units of rows.

    Args:
        labels: (n,) 0 or 1.
        positive: (n,) probability of class 1.
        threshold: threshold probability, in (0, 1).

    Example:
        >>> net_benefit(np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.1, 0.2]), 0.5)
        0.0
    """
    treated = positive >= threshold
    true, false = float(np.sum(treated & (labels == 1))), float(np.sum(treated & (labels == 0)))
    return (true - false * threshold / (1 - threshold)) / len(labels)


def treat_all(prevalence: float, threshold: float) -> float:
    """Net benefit of treating everyone."""
    return prevalence - (1 - prevalence) * threshold / (1 - threshold)


def decision_curve(
    rows: Predictions, variation: Variation, of: Of
) -> dict[float, ConfidenceInterval]:
    """Net benefit of the model at each of ``THRESHOLDS``, with its interval.

    Args:
        rows: outer test rows of two classes.
        variation: predictions by the models of inner folds, by outer fold.
        of: what the intervals are of.
    """
    found = measure(rows, _METRICS, variation, of)
    return dict(zip(THRESHOLDS, found.values(), strict=True))


def _gains(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> FloatArray:
    """Gain (n, thresholds) of each row, whose mean is the net benefit."""
    limits = np.array(THRESHOLDS)
    treated = probabilities[:, 1, None] >= limits
    return np.where(treated, np.where(labels[:, None] == 1, 1.0, -limits / (1 - limits)), 0.0)


def _mean_of(column: int) -> Callable[[FloatArray, FloatArray], FloatArray]:
    return lambda sums, rows: np.asarray(sums[..., column] / rows, dtype=np.float64)


_METRICS = tuple(
    Metric(
        name=f"net_benefit_{threshold:g}",
        label="Net benefit",
        direction="maximize",
        needs="probabilities",
        how=Sums(_gains, _mean_of(column)),
        scale=REAL,
        rows="all",
    )
    for column, threshold in enumerate(THRESHOLDS)
)
