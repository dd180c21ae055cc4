"""Corrected t interval of Nadeau & Bengio: valid for five folds, and wide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outerfold.objectives.measures.metric import UNIT, Scale
from outerfold.reports.intervals.jackknife import (
    NO_LOGARITHM,
    NO_SPREAD,
    ConfidenceInterval,
    logit_interval,
    t_quantile,
    unbounded_interval,
)

REPEATS_NOTE = (
    "with repeats the corrected t covers less than its level; the degrees of freedom are those of "
    "one repeat"
)


def nadeau_bengio(
    scores: Sequence[float],
    *,
    test_share: float,
    level: float = 0.95,
    repeats: int = 1,
    scale: Scale = UNIT,
) -> ConfidenceInterval:
    """Interval for a mean over folds, corrected for training rows that the folds share.

    The variance is S^2 (1/J + test_share) for J scores, transferred to the logit scale, or to that
    of logarithms for a positive number without an upper bound; the
    degrees of freedom are those of one repeat's folds.

    Args:
        scores: (folds x repeats,) one score per fold, inside ``scale``; NaN is left out.
        test_share: test rows divided by training rows; 0.25 for five folds.
        level: nominal coverage.
        repeats: number of repeats of the folds.
        scale: range of the metric; the interval is computed on logits inside a bounded one.

    Raises:
        ValueError: ``test_share`` is not positive.

    Reference: Nadeau & Bengio (2003), Machine Learning 52, section 4.

    Example:
        >>> found = nadeau_bengio([0.80, 0.84, 0.78, 0.82, 0.81], test_share=0.25)
        >>> round(found.estimate, 2), round(found.low, 2), round(found.high, 2)
        (0.81, 0.76, 0.85)
    """
    words = "logit" if scale.bounded else scale.name
    method = f"Nadeau-Bengio corrected t, {words}"
    notes = (REPEATS_NOTE,) if repeats > 1 else ()
    by_fold = tuple(float(value) for value in scores)
    mean, se, df = _mean_and_error(by_fold, test_share, repeats)
    share = (mean - scale.origin) / scale.unit
    reason = _refusal(share if scale.bounded else 0.5, se) or _no_logarithm(mean, scale)
    if reason is not None:
        return ConfidenceInterval(mean, None, None, level, method, by_fold, reason, notes)
    half = t_quantile(df, level) * se
    if scale.bounded:
        low, high = logit_interval(share, half / scale.unit)
        low, high = low * scale.unit + scale.origin, high * scale.unit + scale.origin
    else:
        low, high = unbounded_interval(mean, half, scale)
    return ConfidenceInterval(mean, low, high, level, method, by_fold, None, notes)


def optimism(
    inner_scores: Sequence[float],
    outer_scores: Sequence[float],
    *,
    repeats: int = 1,
    level: float = 0.95,
) -> ConfidenceInterval:
    """Interval for the optimism: the search's own best score minus the score on the outer fold.

    Args:
        inner_scores, outer_scores: (folds x repeats,) of the same metric, fold by fold.
        repeats: number of repeats of the folds.
        level: nominal coverage.

    Raises:
        ValueError: the two differ in length.
    """
    if len(inner_scores) != len(outer_scores):
        raise ValueError(
            f"optimism is the inner minus the outer score of each fold, "
            f"found {len(inner_scores)} and {len(outer_scores)} scores"
        )
    by_fold = tuple(np.subtract(inner_scores, outer_scores).tolist())
    method = "Nadeau-Bengio corrected t, linear"
    notes = (REPEATS_NOTE,) if repeats > 1 else ()
    folds = len(by_fold) // repeats
    mean, se, df = _mean_and_error(by_fold, 1 / max(folds - 1, 1), repeats)
    reason = _refusal(0.5, se)
    if reason is not None:
        return ConfidenceInterval(mean, None, None, level, method, by_fold, reason, notes)
    half = t_quantile(df, level) * se
    return ConfidenceInterval(mean, mean - half, mean + half, level, method, by_fold, None, notes)


def _mean_and_error(
    scores: Sequence[float], test_share: float, repeats: int
) -> tuple[float, float, float]:
    """Mean, corrected standard error and degrees of freedom, NaN below two finite scores."""
    if not test_share > 0:
        raise ValueError(
            f"test_share is test rows divided by training rows and must be positive, "
            f"found {test_share}"
        )
    there = np.array([value for value in scores if np.isfinite(value)])
    if len(there) < 2:
        return (float(there[0]) if len(there) else float("nan")), float("nan"), float("nan")
    variance = float(there.var(ddof=1)) * (1 / len(there) + test_share)
    return float(there.mean()), float(np.sqrt(variance)), max(len(there) / repeats - 1, 1.0)


def _refusal(share: float, se: float) -> str | None:
    if not np.isfinite(se):
        return "fewer than two folds have a score"
    if not 0 < share < 1 or se < NO_SPREAD:
        return "all folds have the same score, so there is no spread over folds"
    return None


def _no_logarithm(mean: float, scale: Scale) -> str | None:
    return NO_LOGARITHM if scale.name == "log" and not mean > 0 else None
