"""What decisions mean for a patient, and what other thresholds would have given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from outerfold.objectives.measures.metric import (
    CORRELATION,
    POSITIVE,
    UNIT,
    Cells,
    Metric,
    Sums,
    Whole,
)
from outerfold.reports.analyses.measure import decided, measure, ratio
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of
from outerfold.reports.intervals.variation import Variation
from outerfold.storage.records import BoolArray, FloatArray, IntArray, Predictions

_ROUNDING = 1e-12  # so that a curve that jumps at the place is read at the top of its jump
FIXED = 0.9
"""Specificity, or sensitivity, at which the other one is read from the ROC curve of each fold."""


def likelihood_ratios(
    rows: Predictions, variation: Variation, of: Of
) -> dict[str, ConfidenceInterval]:
    """Positive and negative likelihood ratio of the decisions of two classes.

    The positive one is sensitivity / (1 - specificity), the negative one (1 - sensitivity) /
    specificity; they are undefined where the divisor is 0.
    """
    return measure(
        rows, [_pooled("lr_positive", _up), _pooled("lr_negative", _down)], variation, of
    )


def predictive_values(
    ratios: Mapping[str, ConfidenceInterval], *, prevalence: float
) -> dict[str, ConfidenceInterval]:
    """Predictive values of the decisions at another prevalence, by Bayes' rule from their ratios.

    The odds of the positive class after a decision are those before it times the likelihood ratio,
    so the bounds of a value are those of its ratio.

    Args:
        ratios: what ``likelihood_ratios`` returns.
        prevalence: share of the positive class in (0, 1), such as that of a screened population.
    """
    odds = prevalence / (1 - prevalence)
    return {
        "ppv": _after(ratios["lr_positive"], lambda ratio: odds * ratio / (1 + odds * ratio)),
        "npv": _after(ratios["lr_negative"], lambda ratio: 1 / (1 + odds * ratio)),
    }


def _after(ratio: ConfidenceInterval, value: Callable[[float], float]) -> ConfidenceInterval:
    """The interval of a rising or falling function of a likelihood ratio."""

    def between(ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is None:
            return None
        low, high = sorted(map(value, ends))
        return low, high

    ends = None if ratio.low is None or ratio.high is None else (ratio.low, ratio.high)
    low, high = between(ends) or (None, None)
    return replace(
        ratio,
        estimate=value(ratio.estimate),
        low=low,
        high=high,
        by_fold=tuple(map(value, ratio.by_fold)),
        procedure=between(ratio.procedure),
    )


def fixed_points(rows: Predictions, of: Of) -> dict[str, ConfidenceInterval]:
    """Sensitivity at 90 % specificity, and the reverse: read fold by fold, averaged over folds.

    They are read from the test rows' own ROC curves, so no threshold was chosen beforehand.

    Args:
        rows: outer test rows of two classes.
        of: what the intervals are of.
    """
    metrics = [
        _read("sensitivity_at_90_specificity", sensitivity_at),
        _read("specificity_at_90_sensitivity", specificity_at),
    ]
    return measure(rows, metrics, {}, of)


def ordered_agreement(rows: Predictions, variation: Variation, of: Of) -> ConfidenceInterval:
    """Cohen's kappa with quadratic weights between true and decided classes, in class order.

    Reference: Cohen (1968), Psychological Bulletin 70.
    """
    count = len(rows.classes)

    def cells(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> Cells:
        return Cells(labels * count + predicted, np.ones(len(labels)), count**2)

    def kappa(sums: FloatArray, n: FloatArray) -> FloatArray:
        table = sums.reshape(*sums.shape[:-1], count, count)
        apart = (np.arange(count)[:, None] - np.arange(count)) ** 2
        chance = table.sum(-1)[..., :, None] * table.sum(-2)[..., None, :] / n[..., None, None]
        return 1 - ratio((apart * table).sum((-2, -1)), (apart * chance).sum((-2, -1)))

    metric = Metric(
        name="quadratic_kappa",
        label="Quadratic kappa",
        direction="maximize",
        needs="decisions",
        how=Sums(cells, kappa),
        scale=CORRELATION,
    )
    return measure(rows, [metric], variation, of)[metric.name]


def roc_points(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates (thresholds + 1,), both from 0 to 1, with ties as one step."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    alarms = last + 1 - hits
    return np.insert(alarms / alarms[-1], 0, 0.0), np.insert(hits / hits[-1], 0, 0.0)


def sensitivity_at(positive: BoolArray, scores: FloatArray, specificity: float = FIXED) -> float:
    """Sensitivity at a specificity, on the ROC curve with straight lines between its points."""
    alarms, hits = roc_points(positive, scores)
    place = 1 - specificity + _ROUNDING
    at = int(np.searchsorted(alarms, place, side="right")) - 1
    if at + 1 >= len(alarms):
        return 1.0
    share = (place - alarms[at]) / (alarms[at + 1] - alarms[at])
    return float(hits[at] + share * (hits[at + 1] - hits[at]))


def specificity_at(positive: BoolArray, scores: FloatArray, sensitivity: float = FIXED) -> float:
    """Largest specificity at a sensitivity, on the ROC curve."""
    return sensitivity_at(~positive, -scores, sensitivity)


def _read(name: str, of: Callable[[BoolArray, FloatArray], float]) -> Metric:
    def score(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
        positive = labels == 1
        if not 0 < positive.sum() < len(labels):
            return float("nan")
        return of(positive, probabilities[:, 1])

    return Metric(
        name=name, label=name, direction="maximize", needs="ranks", how=Whole(score), scale=UNIT
    )


def _pooled(name: str, value: Callable[[FloatArray], FloatArray]) -> Metric:
    return Metric(
        name=name,
        label=name,
        direction="maximize",
        needs="decisions",
        how=Sums(decided, lambda sums, rows: value(sums)),
        scale=POSITIVE,
    )


def _rates(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sensitivity and specificity (...,) from sums (..., 4) of ``decided``."""
    tp, fn, fp, tn = np.moveaxis(sums, -1, 0)
    return ratio(tp, tp + fn), ratio(tn, fp + tn)


def _up(sums: FloatArray) -> FloatArray:
    sensitivity, specificity = _rates(sums)
    return ratio(sensitivity, 1 - specificity)


def _down(sums: FloatArray) -> FloatArray:
    sensitivity, specificity = _rates(sums)
    return ratio(1 - sensitivity, specificity)
