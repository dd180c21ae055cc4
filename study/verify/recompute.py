"""Points of a report, computed again by scikit-learn from predictions alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from outerfold.objectives.measures.metric import Ranks
from outerfold.objectives.metrics import METRICS, class_metrics
from outerfold.reports.schema import Scored
from outerfold.storage.records import FloatArray, IntArray, Predictions

TOLERANCE = 1e-6
"""Largest difference between a printed number and the one that was computed again."""

POOLED = "folds are pooled"
"""Beginning of the note of a rank metric that is computed from all folds together."""

Score = Callable[[IntArray, FloatArray, IntArray], float]
"""Labels (n,), probabilities (n, classes) and decisions (n,) to one number."""


def _rank(score: Callable[..., float]) -> Score:
    def of(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
        if probabilities.shape[1] == 2:
            return float(score(labels, probabilities[:, 1]))
        truth = np.eye(probabilities.shape[1], dtype=np.int64)[labels]
        return float(
            np.mean([score(truth[:, c], probabilities[:, c]) for c in range(truth.shape[1])])
        )

    return of


def _specificity(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
    count = probabilities.shape[1]
    tables = sk.multilabel_confusion_matrix(labels, predicted, labels=np.arange(count))
    each = [table[0, 0] / table[0].sum() for table in tables]
    return float(each[1] if count == 2 else np.mean(each))


def _sensitivity(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
    if probabilities.shape[1] == 2:
        return float(sk.recall_score(labels, predicted, pos_label=1, zero_division=np.nan))
    return float(sk.recall_score(labels, predicted, average="macro", zero_division=np.nan))


def _brier(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
    if probabilities.shape[1] == 2:
        return float(sk.brier_score_loss(labels, probabilities[:, 1]))
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.mean(np.sum((probabilities - truth) ** 2, axis=1)))


def _macro(score: Callable[..., float]) -> Score:
    def of(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
        classes = np.arange(probabilities.shape[1])
        return float(score(labels, predicted, labels=classes, average="macro", zero_division=0))

    return of


SCORES: Mapping[str, Score] = {
    "roc_auc": _rank(sk.roc_auc_score),
    "average_precision": _rank(sk.average_precision_score),
    "accuracy": lambda labels, _, predicted: float(sk.accuracy_score(labels, predicted)),
    "balanced_accuracy": lambda labels, _, predicted: float(
        sk.balanced_accuracy_score(labels, predicted)
    ),
    "f1": _macro(sk.f1_score),
    "precision": _macro(sk.precision_score),
    "recall": _macro(sk.recall_score),
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "brier": _brier,
}
"""Scores by scikit-learn, by name of the metric. A metric that is not here has no counterpart."""


def scores_of(rows: Predictions) -> dict[str, float]:
    """Every score that scikit-learn knows, of all rows together; NaN where it is undefined."""
    present = set(rows.labels.tolist()) == set(range(len(rows.classes)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without rows
        return {
            name: score(rows.labels, rows.probabilities, rows.predicted)
            if present or name in ("accuracy", "brier")
            else float("nan")
            for name, score in SCORES.items()
        }


@dataclass(frozen=True)
class Points:
    """Values of one metric.

    Attributes:
        pooled: of all rows of one repeat, the mean over repeats.
        by_fold: of each fold.
    """

    pooled: float
    by_fold: list[float]

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return float(np.mean(self.by_fold))


def points_of(rows: Predictions) -> dict[str, Points]:
    """Values of every score that scikit-learn knows, by name of the metric."""
    folds = list(dict.fromkeys(rows.fold.tolist()))
    each = [scores_of(rows.take(rows.fold == fold)) for fold in folds]
    whole = [scores_of(rows.take(rows.repeat == number)) for number in np.unique(rows.repeat)]
    return {
        name: Points(
            float(np.mean([scores[name] for scores in whole])), [scores[name] for scores in each]
        )
        for name in SCORES
    }


def compare_points(rows: Predictions, section: Scored, where: str) -> Iterator[str]:
    """Differences between a section of ``results.json`` and scikit-learn, one phrase each.

    Args:
        rows: the predictions that the section is of.
        section: ``overall`` and ``confusion`` of these rows.
        where: name of the section.
    """
    for name, points in points_of(rows).items():
        if not METRICS[name].shown(len(rows.classes)):
            continue
        kept, by_fold = section["overall"][name], points.by_fold
        ranks = isinstance(METRICS[name].how, Ranks)
        pooled = any(note.startswith(POOLED) for note in kept["notes"])
        estimate = points.mean if ranks and not pooled else points.pooled
        mixed = ranks and pooled and len(rows.classes) > 2  # some classes pooled, others not
        if not mixed and not _equal(kept["estimate"], estimate):
            yield f"{where}: {name} is {kept['estimate']}, scikit-learn gives {estimate:.9g}"
        pairs = zip(kept["by_fold"], by_fold, strict=True)
        for fold, (one, other) in enumerate(pairs):
            if not _equal(one, other):
                yield f"{where}: {name} of fold {fold} is {one}, scikit-learn gives {other:.9g}"
    table = sk.confusion_matrix(rows.labels, rows.predicted, labels=np.arange(len(rows.classes)))
    if table.tolist() != section["confusion"]:
        yield f"{where}: confusion is {section['confusion']}, scikit-learn gives {table.tolist()}"


def uncounted() -> list[str]:
    """Names of metrics that scikit-learn does not have, which the run's own code computes again."""
    return [name for name in METRICS if name not in SCORES] + [
        f"{metric.name} of one class" for metric in class_metrics() if metric.name not in SCORES
    ]


def _equal(kept: float | None, found: float) -> bool:
    if kept is None or not np.isfinite(found):
        return kept is None and not np.isfinite(found)
    return abs(kept - found) <= TOLERANCE
