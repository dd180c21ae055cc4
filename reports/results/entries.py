"""Entries of ``results.json`` for intervals and fold scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from outerfold.objectives.metrics import METRICS, all_scores
from outerfold.reports.intervals.jackknife import Of
from outerfold.reports.intervals.overall import (
    ConfidenceInterval,
    corrected_t,
    optimism,
    overall,
    paired_difference,
    per_class,
)
from outerfold.reports.intervals.variation import Variation
from outerfold.reports.wording import Json, is_biased
from outerfold.storage.records import Predictions, Run

TUNED = True
"""Always true: the inner loop of every study chooses at least epochs and a threshold."""


def interval_of(protocol: Mapping[str, object]) -> Of:
    """What a run's intervals are of: the delivered model, or models made in this way.

    An ensemble of the outer folds' models is no such model: it was not tested, only its members.
    """
    return "procedure" if protocol.get("final") == "ensemble" else "model"


def overall_entries(
    rows: Predictions | None, variation: Variation | None = None, of: Of = "model"
) -> Json:
    """Entry of each overall metric, by name; empty before an outer fold has finished.

    Args:
        variation: predictions by the models of inner folds, by outer fold.
        of: what ``low`` and ``high`` are of.
    """
    if rows is None:
        return {}
    corrected = corrected_t(rows)
    return {
        metric: {**entry(found), "corrected_t": _corrected_t_entry(corrected[metric])}
        for metric, found in overall(rows, tuned=TUNED, variation=variation, of=of).items()
    }


def class_entries(
    rows: Predictions | None, variation: Variation | None = None, of: Of = "model"
) -> Json:
    """Entry of each metric of each class against the rest, by class and metric name."""
    if rows is None:
        return {}
    return {
        name: {metric: entry(found) for metric, found in metrics.items()}
        for name, metrics in per_class(rows, tuned=TUNED, variation=variation, of=of).items()
    }


def entry(found: ConfidenceInterval) -> Json:
    """One interval as an entry of ``results.json``.

    ``fold_spread`` is the standard deviation over folds and ``fold_range`` their smallest and
    largest score; both are None below two folds with a score.
    """
    by_fold = np.array([v for v in found.by_fold if v is not None], dtype=np.float64)
    by_fold = by_fold[np.isfinite(by_fold)]
    fields = ("estimate", "low", "high", "of", "level", "method", "by_fold", "reason", "notes")
    spread = float(by_fold.std(ddof=1)) if len(by_fold) > 1 else None
    bounds = found.procedure
    return {
        **{field: getattr(found, field) for field in fields},
        "procedure": None if bounds is None else dict(zip(("low", "high"), bounds, strict=True)),
        "fold_spread": spread,
        "fold_range": [by_fold.min(), by_fold.max()] if len(by_fold) > 1 else None,
    }


def paired_entries(
    rows: dict[str, Predictions],
    variations: tuple[Variation, Variation] | None = None,
    of: Of = "model",
) -> dict[str, Json]:
    """Entries of two models of the same rows, by metric: both estimates and their ``difference``.

    Args:
        rows: predictions of the two by the name of their estimate; the difference is the first
            minus the second.
        variations: predictions by the models of inner folds, of the two, by outer fold.
        of: what the interval of the difference is of.

    Raises:
        DataError: the two differ in rows, classes, patients, labels, folds or repeats.
    """
    first, second = rows.values()
    changes = paired_difference(first, second, tuned=TUNED, variations=variations, of=of)
    found = {name: overall(of, tuned=TUNED) for name, of in rows.items()}
    return {
        metric: {
            **{name: of[metric].estimate for name, of in found.items()},
            "difference": entry(change),
        }
        for metric, change in changes.items()
    }


def fold_scores(rows: Predictions | None) -> Json:
    """Metrics of one outer fold's test rows, with that fold's own decisions; empty if untested."""
    return {} if rows is None else dict(all_scores(rows.labels, rows.probabilities, rows.predicted))


def optimism_entry(run: Run) -> Json:
    """Entry of the optimism: inner minus outer score by fold, in the searched metric.

    Positive means that the search's score was too good. For a metric that is minimised the sign is
    changed, so that this stays true.
    """
    metric = str(run.protocol["metric"])
    scored = [study for study in run.outer if study.test is not None]
    reason = "" if scored else "no outer fold has finished"
    if is_biased(run.protocol):
        reason = (
            "the folds that gave the scores also chose the configuration, so nothing was held out"
        )
    if reason:
        return {"estimate": None, "low": None, "high": None, "level": 0.95, "reason": reason}
    sign = 1 if METRICS[metric].direction == "maximize" else -1
    found = optimism(
        [sign * study.inner_score for study in scored],
        [sign * float(fold_scores(study.test)[metric]) for study in scored],
        repeats=len({study.repeat for study in scored}),
    )
    return {"metric": metric, **entry(found)}


def _corrected_t_entry(found: ConfidenceInterval) -> Json:
    fields = ("estimate", "low", "high", "method", "reason", "notes")
    return {field: getattr(found, field) for field in fields}
