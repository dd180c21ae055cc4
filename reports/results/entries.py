"""Intervals and fold scores as the plain entries of ``results.json``."""

from __future__ import annotations

import numpy as np

from outerfold.objectives.metrics import METRICS, all_scores
from outerfold.reports.intervals.overall import (
    ConfidenceInterval,
    corrected_t,
    optimism,
    overall,
    per_class,
)
from outerfold.reports.wording import Json, biased
from outerfold.storage.records import FoldResult, Predictions, Run

TUNED = True
"""Every study chooses at least an epoch count and a threshold in its inner loop."""


def overall_entries(rows: Predictions | None) -> Json:
    """An entry for each metric of the whole; empty before an outer fold has finished."""
    if rows is None:
        return {}
    beside = corrected_t(rows)
    return {
        metric: {**entry(found), "corrected_t": _corrected(beside[metric])}
        for metric, found in overall(rows, tuned=TUNED).items()
    }


def by_class(rows: Predictions | None) -> Json:
    """An entry for each metric of each class against the rest."""
    if rows is None:
        return {}
    return {
        name: {metric: entry(found) for metric, found in metrics.items()}
        for name, metrics in per_class(rows, tuned=TUNED).items()
    }


def entry(found: ConfidenceInterval) -> Json:
    """One interval in the file's own terms, with the spread over folds named for what it is."""
    by_fold = np.array([v for v in found.by_fold if v is not None], dtype=np.float64)
    by_fold = by_fold[np.isfinite(by_fold)]
    fields = ("estimate", "low", "high", "level", "method", "by_fold", "reason", "notes")
    spread = float(by_fold.std(ddof=1)) if len(by_fold) > 1 else None
    return {**{field: getattr(found, field) for field in fields}, "fold_spread": spread}


def fold_scores(study: FoldResult) -> Json:
    """Point metrics of one outer fold's test rows, decided as that fold decides."""
    if study.test is None:
        return {}
    return dict(all_scores(study.test.labels, study.test.probabilities, study.test.predicted))


def optimism_entry(run: Run) -> Json:
    """Inner minus outer score by fold, in the searched metric; positive is flattering.

    Of a metric that is minimised the sign is turned, so that positive still flatters.
    """
    metric = str(run.protocol["metric"])
    scored = [study for study in run.outer if study.test is not None]
    reason = "" if scored else "no outer fold has finished"
    if biased(run.protocol):
        reason = "the folds that score are the folds that chose, so nothing was held out"
    if reason:
        return {"estimate": None, "low": None, "high": None, "level": 0.95, "reason": reason}
    sign = 1 if METRICS[metric].direction == "maximize" else -1
    found = optimism(
        [sign * study.inner_score for study in scored],
        [sign * float(fold_scores(study)[metric]) for study in scored],
        repeats=len({study.repeat for study in scored}),
    )
    return {"metric": metric, **entry(found)}


def _corrected(found: ConfidenceInterval) -> Json:
    fields = ("estimate", "low", "high", "method", "reason", "notes")
    return {field: getattr(found, field) for field in fields}
