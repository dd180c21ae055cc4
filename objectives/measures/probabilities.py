"""Metrics of probabilities: the Brier score and the expected calibration error."""

from __future__ import annotations

import numpy as np

from outerfold.objectives.measures.metric import GAP, Cells, Metric, Scale, Sums
from outerfold.storage.records import FloatArray, IntArray

ECE_BINS = 15
"""Bins of the expected calibration error, equal in width over 0..1."""


def squared_errors(labels: IntArray, probabilities: FloatArray) -> FloatArray:
    """Each row's term of the Brier score, (n,); ``brier`` is their mean.

    With two classes the term is (probability of class 1 - label)^2, in 0..1. With several classes
    it is the sum of squares over classes, in 0..2 (Brier 1950).
    """
    if probabilities.shape[1] == 2:
        return np.asarray((probabilities[:, 1] - labels) ** 2, dtype=np.float64)
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    return np.asarray(np.sum((probabilities - truth) ** 2, axis=1), dtype=np.float64)


def calibration_gaps(labels: IntArray, probabilities: FloatArray) -> tuple[IntArray, FloatArray]:
    """Each row's bin (n,), 0..14, and its probability minus its outcome (n,), -1..1.

    With two classes the probability of class 1 is compared with label 1. With several classes the
    largest probability is compared with whether that class is true (Guo et al. 2017). Bins are
    equal in width and open below, and the first bin contains 0.
    """
    if probabilities.shape[1] == 2:
        sure, right = probabilities[:, 1], labels == 1
    else:
        sure, right = probabilities.max(axis=1), labels == probabilities.argmax(axis=1)
    bins = np.clip(np.ceil(sure * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(np.int64)
    return bins, sure - right


def ece(labels: IntArray, probabilities: FloatArray) -> float:
    """Expected calibration error in 15 bins: sum over bins of |summed gap| / n, 0..1.

    It is NaN without rows. See ``calibration_gaps`` for the gap.
    """
    if not len(labels):
        return float("nan")
    bins, gaps = calibration_gaps(labels, probabilities)
    return float(np.abs(np.bincount(bins, gaps, ECE_BINS)).sum() / len(labels))


def brier(labels: IntArray, probabilities: FloatArray) -> float:
    """Brier score: mean of ``squared_errors``, 0 is best; NaN without rows.

    Example:
        >>> brier(np.array([0, 1]), np.array([[1.0, 0.0], [0.5, 0.5]]))
        0.125
    """
    return float(squared_errors(labels, probabilities).mean()) if len(labels) else float("nan")


def _error_terms(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> FloatArray:
    return squared_errors(labels, probabilities)


def _gap_cells(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> Cells:
    bins, gaps = calibration_gaps(labels, probabilities)
    return Cells(bins, np.asarray(gaps, dtype=np.float64), ECE_BINS)


def _mean_gap(sums: FloatArray, rows: FloatArray) -> FloatArray:
    return np.asarray(np.abs(sums).sum(-1) / rows, dtype=np.float64)


PROBABILITIES = (
    Metric(
        name="brier",
        label="Brier score",
        direction="minimize",
        needs="probabilities",
        how=Sums(_error_terms),
        several=Scale("logit", 0.0, 2.0),
        own_score=lambda labels, probabilities, _: brier(labels, probabilities),
        proper=True,
        rows="all",
    ),
    Metric(
        name="ece",
        label="Expected calibration error",
        direction="minimize",
        needs="probabilities",
        how=Sums(_gap_cells, _mean_gap, biased=True),
        scale=GAP,
        own_score=lambda labels, probabilities, _: ece(labels, probabilities),
        rows="all",
    ),
)
