"""Metrics with confidence intervals over patients: the patient jackknife and other methods.

The estimate describes the procedure, measured with models trained on the training rows of each
fold. The interval covers patient sampling and, approximately, training variation. It does not
cover other hospitals, scanners or populations, label errors, or choices made after seeing the
results.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from outerfold.objectives.measures.metric import Sums
from outerfold.objectives.metrics import METRICS, class_metrics
from outerfold.reports.intervals.bootstrap import patient_bootstrap, without_bias
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.corrected_t import nadeau_bengio, optimism
from outerfold.reports.intervals.jackknife import (
    ConfidenceInterval,
    Of,
    fixed_model_interval,
    jackknife_interval,
    paired_interval,
)
from outerfold.reports.intervals.leave_one_out import class_leave_outs, overall_leave_outs
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import (
    class_support,
    overall_support,
    remarks,
)
from outerfold.reports.intervals.variation import (
    Variation,
    leave_outs,
    overall_scores,
    scores_of_class,
)
from outerfold.storage.records import DataError, Predictions

__all__ = [
    "ConfidenceInterval",
    "corrected_t",
    "fixed_models",
    "nadeau_bengio",
    "optimism",
    "overall",
    "paired_difference",
    "patient_bootstrap",
    "per_class",
]


def overall(
    predictions: Predictions,
    *,
    tuned: bool,
    variation: Variation | None = None,
    of: Of = "model",
    level: float = 0.95,
) -> dict[str, ConfidenceInterval]:
    """Overall metrics by name, each with its patient-jackknife interval.

    Rank metrics are means over folds; all others use pooled rows with ``predicted`` as given.
    Inner out-of-fold predictions are used in the same way; if several searches scored a row, each
    search is a repeat. A metric that few rows push to one side (``ece``) is corrected for that.

    Args:
        tuned: whether an inner loop chose anything. Without ``variation``, the standard error is
            multiplied by 1.4 if so, else by 1.25.
        variation: predictions by the models of inner folds, which measure the variation of
            training; no estimate depends on them.
        of: what ``low`` and ``high`` are of, the delivered model or the mean over models made in
            this way; ``procedure`` is always of the latter.
        level: nominal coverage.

    Raises:
        DataError: no rows, or an image twice in one repeat.
        LeakError: a patient in two folds of one repeat.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(60) % 2
        >>> score = np.clip(0.5 + 0.25 * (labels - 0.5) + rng.normal(0, 0.2, 60), 0.01, 0.99)
        >>> names = np.array([f"P{row:02}" for row in range(60)])
        >>> rows = Predictions(
        ...     ids=names,
        ...     patients=names,
        ...     fold=np.array(["a", "b"])[np.arange(60) // 30],
        ...     repeat=np.zeros(60, dtype=int),
        ...     labels=labels,
        ...     probabilities=np.stack([1 - score, score], axis=1),
        ...     predicted=(score > 0.5).astype(int),
        ...     classes=("other", "cancer"),
        ... )
        >>> auc = overall(rows, tuned=True)["roc_auc"]
        >>> auc.low < auc.estimate < auc.high
        True
    """
    rows, found = leave_outs(predictions, overall_leave_outs, variation or {}, overall_scores)
    return {
        name: _overall_interval(rows, name, found[name], tuned, level, of)
        for name in METRICS
        if name in found
    }


def per_class(
    predictions: Predictions,
    *,
    tuned: bool,
    variation: Variation | None = None,
    of: Of = "model",
    level: float = 0.95,
) -> dict[str, dict[str, ConfidenceInterval]]:
    """``class_metrics`` of each class against the rest, by class and metric name.

    See ``overall`` for arguments and errors.
    """
    return {
        name: _class_intervals(predictions, index, variation or {}, tuned, level, of)
        for index, name in enumerate(predictions.classes)
    }


def corrected_t(predictions: Predictions, *, level: float = 0.95) -> dict[str, ConfidenceInterval]:
    """Nadeau-Bengio interval of every overall metric's mean over folds, for comparison.

    See ``overall`` for errors.
    """
    rows = code_rows(predictions)
    folds = len(rows.fold_names) / rows.repeats
    return {
        name: nadeau_bengio(
            leave.by_fold.tolist(),
            test_share=1 / max(folds - 1, 1),
            level=level,
            repeats=rows.repeats,
            scale=METRICS[name].scale_of(len(rows.classes)),
        )
        for name, leave in overall_leave_outs(rows).items()
    }


def fixed_models(
    predictions: Predictions, *, level: float = 0.95
) -> dict[str, dict[str, ConfidenceInterval]]:
    """Overall metrics of each fold's own model, by fold and metric name, over the fold's patients.

    The models are fixed, so these intervals are of the very model of a fold. They do not show
    whether two folds differ, since both the models and the patients do. A metric that few rows push
    to one side (``ece``) is left out. A fold with fewer than five patients of a class has no
    intervals.

    Args:
        predictions: outer test rows; names of folds are unique over repeats.
        level: nominal coverage.

    Raises:
        DataError: no rows, or an image twice in one fold.
    """
    found = {}
    for fold in code_rows(predictions).fold_names:
        rows = code_rows(predictions.take(predictions.fold == fold))
        found[fold] = {
            name: fixed_model_interval(leave, overall_support(rows, name), level=level)
            for name, leave in overall_leave_outs(rows).items()
            if not (isinstance(how := METRICS[name].how, Sums) and how.biased)
        }
    return found


def paired_difference(
    predictions_a: Predictions,
    predictions_b: Predictions,
    *,
    tuned: bool,
    variations: tuple[Variation, Variation] | None = None,
    of: Of = "model",
    level: float = 0.95,
) -> dict[str, ConfidenceInterval]:
    """Difference A minus B in every overall metric, the same patient left out of both.

    Two configurations are compared in this way, never by whether their intervals overlap. Models
    of the same inner fold are compared with each other, since both trained without its patients.
    Where they are not known, the variances of learnt thresholds are added as if the two thresholds
    were independent.

    Args:
        tuned: whether an inner loop chose anything, see ``overall``.
        variations: predictions by the models of inner folds, of A and of B, see ``overall``.
        of: see ``overall``.
        level: nominal coverage.

    Raises:
        DataError: the two differ in rows, classes, patients, labels, folds or repeats.
        LeakError: a patient in two folds of one repeat.
    """
    a, b = _sort_rows(predictions_a), _sort_rows(predictions_b)
    _check_same_rows(a, b)
    inner = variations or ({}, {})
    rows, first = leave_outs(a, overall_leave_outs, inner[0], overall_scores)
    _, second = leave_outs(b, overall_leave_outs, inner[1], overall_scores)
    found = {}
    for name, one in first.items():
        change = _subtract(one, second[name])
        basis = overall_support(rows, name)
        found[name] = paired_interval(change, basis, tuned=tuned, level=level, of=of)
    return found


def _subtract(one: LeaveOut, other: LeaveOut) -> LeaveOut:
    """The first minus the second; models of inner folds only if both have the same ones."""
    change = LeaveOut(
        one.estimate - other.estimate,
        one.without - other.without,
        one.by_fold - other.by_fold,
        one.pooled,
        one.moved + other.moved,
    )
    if one.inner is None or other.inner is None or one.inner.shape != other.inner.shape:
        return change
    alone = (a - b for a, b in zip(one.alone, other.alone, strict=True))
    return replace(change, inner=one.inner - other.inner, alone=tuple(alone))


def _overall_interval(
    rows: CodedRows, name: str, leave: LeaveOut, tuned: bool, level: float, of: Of
) -> ConfidenceInterval:
    notes = remarks(rows, name, leave, tuple(range(len(rows.classes))))
    how = METRICS[name].how
    if isinstance(how, Sums) and how.biased:
        before, leave = leave, replace(leave, estimate=without_bias(rows, how, leave.estimate))
        cut = ", which cut it at 0: no proof of perfect calibration" if leave.estimate <= 0 else ""
        notes = (*notes, f"approximate; {before.estimate:.3f} before the correction for bias{cut}")
    basis = overall_support(rows, name)
    return jackknife_interval(leave, basis, tuned=tuned, level=level, of=of, notes=notes)


def _class_intervals(
    predictions: Predictions,
    index: int,
    variation: Variation,
    tuned: bool,
    level: float,
    of: Of,
) -> dict[str, ConfidenceInterval]:
    def leaves(rows: CodedRows) -> dict[str, LeaveOut]:
        return class_leave_outs(rows, index)

    rows, found = leave_outs(predictions, leaves, variation, scores_of_class(index))
    return {
        name: jackknife_interval(
            found[name],
            class_support(rows, index, name),
            tuned=tuned,
            level=level,
            of=of,
            notes=remarks(rows, name, found[name], (index,)),
        )
        for name in (metric.name for metric in class_metrics())
    }


def _sort_rows(predictions: Predictions) -> Predictions:
    """Rows sorted by repeat and id, so that the rows of two runs have the same order."""
    at = np.lexsort((predictions.ids, predictions.repeat))
    return predictions.take(at)


def _check_same_rows(a: Predictions, b: Predictions) -> None:
    if a.classes != b.classes:
        raise DataError(f"a paired difference needs the same classes: {a.classes} and {b.classes}")
    if len(a) != len(b):
        raise DataError(f"a paired difference needs the same rows: {len(a)} and {len(b)} rows")
    for what in ("ids", "repeat", "patients", "labels", "fold"):
        differ = getattr(a, what) != getattr(b, what)
        if differ.any():
            first = [str(name) for name in a.ids[differ][:3]]
            raise DataError(
                f"a paired difference needs the same {what} in both runs: rows {first} differ "
                f"({int(differ.sum())} in all); run both on one splits.json"
            )
