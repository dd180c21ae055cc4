"""Variation of models with the patients that train them, measured by models that are at hand.

Two measurements see it. The study's model without one inner fold (the mean of the other inner
folds' networks, with a calibration and a threshold from their rows) scores the test rows of its
outer fold, once for each inner fold: a jackknife over inner folds on the same rows. The scores of
the outer folds' own models vary, too, by more than their patients alone explain: an estimate of the
variance between folds as in a random-effects meta-analysis (DerSimonian & Laird 1986). Intervals
add a share of each. No estimate depends on them.

Single inner folds' models also show how much better models become with more patients, since the
outer fold's model was made from more. If the distance to the best possible score is proportional to
1 / n (n patients), the step from the patients of an outer fold to all patients is (inner folds - 1)
/ (outer folds) times as large as the step from an inner to an outer fold. Where the model of an
outer fold is the mean of its inner folds' networks, the gain of averaging is part of that step, and
the expected gain is rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from outerfold.objectives.measures.metric import Ranks, Sums, sum_terms
from outerfold.objectives.metrics import METRICS, all_scores, class_metrics
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.storage.records import WITHOUT, FloatArray, Predictions

Leaves = Callable[[CodedRows], Mapping[str, LeaveOut]]
Score = Callable[[Predictions], Mapping[str, float]]
Variation = Mapping[str, Predictions]
"""Predictions of an outer fold's test rows by the models of its inner folds, by name of the outer
fold; see ``FoldResult.variation``."""


def overall_scores(rows: Predictions) -> Mapping[str, float]:
    """Overall metrics of one model's rows, by name."""
    return all_scores(rows.labels, rows.probabilities, rows.predicted)


def scores_of_class(index: int) -> Score:
    """Function that computes the metrics of class ``index`` against the rest, by name."""

    def score(rows: Predictions) -> Mapping[str, float]:
        positive, p = rows.labels == index, rows.probabilities[:, index]
        return {
            **_sum_scores(rows, index),
            **{
                metric.name: metric.how.of_class(positive, p)
                for metric in class_metrics()
                if isinstance(metric.how, Ranks)
            },
        }

    return score


def _sum_scores(rows: Predictions, index: int) -> dict[str, float]:
    """Metrics of sums of class ``index`` against the rest, by name."""
    found = {}
    for metric in class_metrics():
        column = metric.column
        if isinstance(metric.how, Sums) and column is not None and column.of_sums is not None:
            terms = metric.how.terms(rows.labels, rows.probabilities, rows.predicted)
            sums = sum_terms(terms, np.zeros_like(rows.labels), 1)[0]
            found[metric.name] = float(column.of_sums(sums)[index])
    return found


def leave_outs(
    predictions: Predictions, leaves: Leaves, variation: Variation, score: Score
) -> tuple[CodedRows, Mapping[str, LeaveOut]]:
    """Leave-outs of all metrics, with what shows the variation of models where it is known.

    Args:
        predictions: outer test rows.
        leaves: function that computes the leave-outs of all metrics from coded rows.
        variation: nothing is added unless it has every outer fold, each with the same number of
            inner folds, two or more.
        score: function that computes the same metrics of one model's rows.
    """
    rows = code_rows(predictions)
    found = leaves(rows)
    each = [_by_model(variation[name], score) for name in rows.fold_names if name in variation]
    counts = {len(models) for models in each}
    if len(each) < len(rows.fold_names) or len(counts) != 1 or min(counts) < 2:
        return rows, found
    alone = [
        leaves(code_rows(predictions.take(rows.fold == fold)))
        for fold in range(len(rows.fold_names))
    ]
    scores = {
        name: np.array([[(a[name], b[name]) for a, b in pairs] for pairs in each]) for name in found
    }
    return rows, {
        name: replace(
            leave,
            inner=scores[name][..., 1],
            alone=tuple(fold[name].without for fold in alone),
            ahead=_expect_gain(name, leave.by_fold, scores[name][..., 0], rows.repeats),
        )
        for name, leave in found.items()
    }


def _expect_gain(name: str, by_fold: FloatArray, inner: FloatArray, repeats: int) -> float:
    """Gain of a model made from all patients over the outer folds' models; 0 if it would be worse.

    Args:
        name: the metric; where less is better, a gain is negative.
        by_fold: (folds,) metric of each outer fold's own model.
        inner: (folds, inner folds) metric of each inner fold's model.
        repeats: number of repeats of the outer folds.
    """
    if not np.isfinite(by_fold).any() or not np.isfinite(inner).any():
        return 0.0
    step = float(np.nanmean(by_fold) - np.nanmean(inner))
    less = name in METRICS and METRICS[name].direction == "minimize"
    ahead = step * (inner.shape[1] - 1) * repeats / len(by_fold)
    return float(min(0.0, ahead) if less else max(0.0, ahead))


def variance_within(inner: FloatArray) -> float:
    """Mean over folds of the jackknife variance over inner folds; 0 if no fold has two values.

    It is (k-1)/k sum d^2 for k inner folds, where d is the metric without one of them minus the
    mean.

    Args:
        inner: (folds, inner folds) metric without each inner fold; NaN where undefined.
    """
    finite = [fold[np.isfinite(fold)] for fold in inner]
    each = [float(fold.var()) * (len(fold) - 1) for fold in finite if len(fold) > 1]
    return float(np.mean(each)) if each else 0.0


def variance_between(by_fold: FloatArray, noise: FloatArray) -> float:
    """Variance over folds less that of their patients, which may be negative; 0 below two folds.

    Args:
        by_fold: (folds,) metric of each outer fold's own model.
        noise: (folds,) squared standard error of ``by_fold`` for the patients of the fold alone.
    """
    known = np.isfinite(by_fold) & np.isfinite(noise)
    if known.sum() < 2:
        return 0.0
    return float(by_fold[known].var(ddof=1) - noise[known].mean())


def _by_model(
    rows: Predictions, score: Score
) -> list[tuple[Mapping[str, float], Mapping[str, float]]]:
    """Metrics of each inner fold's model, and of all others, in order of the folds' names."""
    names = sorted({name for name in rows.fold.tolist() if not name.startswith(WITHOUT)})
    return [
        (score(rows.take(rows.fold == name)), score(rows.take(rows.fold == WITHOUT + name)))
        for name in names
    ]
