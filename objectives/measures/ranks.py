"""Metrics of the order of rows: the areas under the ROC and the precision-recall curve."""

from __future__ import annotations

import numpy as np

from outerfold.objectives.measures.metric import ClassColumn, Metric, Ranks, ratio
from outerfold.objectives.measures.rank_leave_one_out import ap_without, auc_without
from outerfold.storage.records import BoolArray, FloatArray

POOL_BELOW = 5
"""Average precision uses pooled folds if a fold has fewer patients with the class than this."""


def roc_auc(positive: BoolArray, scores: FloatArray) -> float:
    """Share of (positive, negative) pairs in the right order; a tie counts half, 0..1.

    It is NaN where there is no pair. Source: Mann & Whitney (1947). Both sides are sorted, since
    sorted values halve the time of ``searchsorted``: 0.03 ms for 1,000 rows. One sort of a stacked
    table of folds is no faster.

    Args:
        positive: (n,) True for rows of the positive class.
        scores: (n,) higher for rows that are more likely positive.

    Example:
        >>> roc_auc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
        0.75
    """
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    pairs = above.size * below.size
    if not pairs:
        return float("nan")
    wins = int(np.searchsorted(below, above, "left").sum())
    wins_or_ties = int(np.searchsorted(below, above, "right").sum())
    return (wins + wins_or_ties) / (2 * pairs)


def average_precision(positive: BoolArray, scores: FloatArray) -> float:
    """Area under the precision-recall steps, 0..1; tied rows are one step; NaN without a positive.

    Args:
        positive: (n,) True for rows of the positive class.
        scores: (n,) higher for rows that are more likely positive.

    Example:
        >>> average_precision(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1]))
        0.8333333333333333
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores)
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1)) / hits[-1])


def weighted_auc(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """ROC-AUC (resamples,) of n rows, where row i counts ``weights[:, i]`` times.

    Args:
        positive, scores: (n,).
        weights: (resamples, n).
    """
    order = np.argsort(scores)
    up, down = _sum_ties(positive[order], scores[order], weights[:, order])
    below = np.cumsum(down, axis=1) - down / 2
    return ratio((up * below).sum(1), up.sum(1) * down.sum(1))


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
    return ratio((up * caught / np.maximum(above, 1)).sum(1), caught[:, -1])


def _sum_ties(
    positive: BoolArray, scores: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    up = np.add.reduceat(weights * positive, starts, axis=1)
    return up, np.add.reduceat(weights, starts, axis=1) - up


RANKS = (
    Metric(
        name="roc_auc",
        label="ROC-AUC",
        direction="maximize",
        needs="ranks",
        how=Ranks(roc_auc, auc_without, weighted_auc),
        macro="several",
        proper=True,
        column=ClassColumn(4),
    ),
    Metric(
        name="average_precision",
        label="Average precision",
        direction="maximize",
        needs="ranks",
        how=Ranks(average_precision, ap_without, weighted_ap, POOL_BELOW),
        macro="several",
        column=ClassColumn(5),
    ),
)
