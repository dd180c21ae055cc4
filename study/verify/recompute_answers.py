"""Answers of a report (``questions``), computed again by scikit-learn from predictions alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from sklearn import metrics as sk

from outerfold.reports.schema import QuestionLevel, Questions
from outerfold.storage.records import Predictions
from outerfold.study.verify.recompute import TOLERANCE

OWN = "calibration slope and intercepts, ROC-AUC of subgroups, reader, ranks of errors"
"""Answers without a counterpart in scikit-learn, which the run's own code computes again."""


def compare_answers(questions: Questions, rows: Mapping[str, Predictions]) -> Iterator[str]:
    """Differences between the answers at each level and scikit-learn, one phrase each.

    Args:
        questions: part of ``results.json``.
        rows: outer test rows by level.
    """
    for level, answers in questions["levels"].items():
        for name, kept, found in _pairs(answers, rows[level]):
            if kept is None and not np.isfinite(found):
                continue
            if kept is None or not abs(kept - found) <= TOLERANCE:
                yield f"questions, {level}: {name} is {kept}, scikit-learn gives {found:.9g}"


def _pairs(answers: QuestionLevel, rows: Predictions) -> Iterator[tuple[str, float | None, float]]:
    """Name of each answer, what is kept, and what scikit-learn gives."""
    if answers["agreement"] is not None:
        kappas = [
            sk.cohen_kappa_score(one.labels, one.predicted, weights="quadratic")
            for one in _repeats(rows)
        ]
        yield "quadratic kappa", answers["agreement"]["estimate"], float(np.mean(kappas))
    for point in answers["decision_curve"] or ():
        found = [_benefit(one, point["threshold"]) for one in _repeats(rows)]
        yield f"net benefit at {point['threshold']}", point["estimate"], float(np.mean(found))
    yield from _of_decisions(answers, rows)
    yield from _of_probabilities(answers, rows)


def _repeats(rows: Predictions) -> list[Predictions]:
    return [rows.take(rows.repeat == number) for number in np.unique(rows.repeat)]


def _benefit(rows: Predictions, threshold: float) -> float:
    called = (rows.probabilities[:, 1] >= threshold).astype(np.int64)
    (_, false), (_, true) = sk.confusion_matrix(rows.labels, called, labels=[0, 1])
    return float(true - false * threshold / (1 - threshold)) / len(rows)


def _of_decisions(
    answers: QuestionLevel, rows: Predictions
) -> Iterator[tuple[str, float | None, float]]:
    ratios, stated = answers["likelihood_ratios"], answers["at_prevalence"]
    if ratios is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ratios by zero, which are NaN
        each = [sk.class_likelihood_ratios(r.labels, r.predicted) for r in _repeats(rows)]
    for at, name in enumerate(("lr_positive", "lr_negative")):
        values = np.array([pair[at] for pair in each], dtype=np.float64)
        yield name, ratios[name]["estimate"], _mean(values)
    if stated is None:
        return
    odds = stated["prevalence"] / (1 - stated["prevalence"])
    positive, negative = (odds * _mean(np.array([pair[at] for pair in each])) for at in (0, 1))
    yield "ppv at the prevalence", stated["ppv"]["estimate"], positive / (1 + positive)
    yield "npv at the prevalence", stated["npv"]["estimate"], 1 / (1 + negative)


def _scaled_error(rows: Predictions) -> float:
    constant = float(np.var(rows.labels))
    found = float(sk.brier_score_loss(rows.labels, rows.probabilities[:, 1], pos_label=1))
    return 1 - found / constant if constant else float("nan")


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _of_probabilities(
    answers: QuestionLevel, rows: Predictions
) -> Iterator[tuple[str, float | None, float]]:
    calibration, fixed = answers["calibration"], answers["fixed_points"]
    if calibration is not None:
        parts = _repeats(rows)
        ratios = [float(r.labels.sum() / r.probabilities[:, 1].sum()) for r in parts]
        yield "O/E", calibration["observed_expected"]["estimate"], float(np.mean(ratios))
        scaled = np.array([_scaled_error(one) for one in parts])
        yield "scaled Brier score", calibration["scaled_brier"]["estimate"], _mean(scaled)
    if fixed is not None:
        name = "sensitivity_at_90_specificity"
        for fold, kept in zip(
            dict.fromkeys(rows.fold.tolist()), fixed[name]["by_fold"], strict=True
        ):
            one = rows.take(rows.fold == fold)
            if len(set(one.labels.tolist())) < 2:
                continue
            alarms, hits, _ = sk.roc_curve(one.labels, one.probabilities[:, 1])
            height = float(np.interp(0.1 + 1e-12, alarms, hits))
            yield f"{name} of {fold}", kept, height
