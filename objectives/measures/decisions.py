"""Metrics of decisions; each is a function of the confusion counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from outerfold.objectives.measures.metric import (
    PROPORTION,
    Cells,
    ClassColumn,
    Metric,
    Sums,
    ratio,
)
from outerfold.storage.records import FloatArray, IntArray


def confusion(labels: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Confusion table (classes, classes): counts of images, true class by row, predicted by column.

    Args:
        labels: (n,) true class indices.
        predicted: (n,) predicted class indices.
    """
    pairs = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes).astype(np.int64)


def confusion_cells(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> Cells:
    """Cell of each row in the confusion table of its classes, in which it counts 1."""
    classes = probabilities.shape[1]
    return Cells(labels * classes + predicted, np.ones(len(labels)), classes * classes)


def class_scores(counts: NDArray[np.generic]) -> dict[str, FloatArray]:
    """Precision, recall, f1 and specificity of each class, (..., classes), by name.

    Args:
        counts: (..., classes, classes) one or more tables of ``confusion``.
    """
    table = counts.astype(np.float64)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    actual, called = table.sum(-1), table.sum(-2)
    others = actual.sum(-1, keepdims=True) - actual
    return {
        "precision": np.where(actual > 0, ratio(hits, called, empty=0.0), np.nan),
        "recall": ratio(hits, actual),
        "f1": np.where(actual > 0, ratio(2 * hits, actual + called), np.nan),
        "specificity": ratio(others - (called - hits), others),
    }


def count_scores(counts: NDArray[np.generic]) -> dict[str, FloatArray]:
    """All metrics of a decision, (...,) by name, from confusion tables (..., classes, classes)."""
    each = class_scores(counts)
    table = counts.astype(np.float64)
    hits = np.trace(table, axis1=-2, axis2=-1)
    two = table.shape[-1] == 2
    return {
        "accuracy": ratio(hits, table.sum((-1, -2))),
        "balanced_accuracy": each["recall"].mean(-1),
        "f1": each["f1"].mean(-1),
        "precision": each["precision"].mean(-1),
        "recall": each["recall"].mean(-1),
        "sensitivity": each["recall"][..., 1] if two else each["recall"].mean(-1),
        "specificity": each["specificity"][..., 1] if two else each["specificity"].mean(-1),
    }


def decision_scores(labels: IntArray, predicted: IntArray, classes: int) -> dict[str, float]:
    """All metrics of a decision, by name, for true and predicted class indices (n,).

    Any rule may have made the predictions.
    """
    scores = count_scores(confusion(labels, predicted, classes))
    return {name: float(value) for name, value in scores.items()}


def _table(sums: FloatArray) -> FloatArray:
    """Confusion tables (..., classes, classes) from sums of ``confusion_cells``."""
    classes = isqrt(sums.shape[-1])
    return sums.reshape(*sums.shape[:-1], classes, classes)


def _count_score(name: str, sums: FloatArray, rows: FloatArray) -> FloatArray:
    return count_scores(_table(sums))[name]


def _class_score(name: str, sums: FloatArray) -> FloatArray:
    return class_scores(_table(sums))[name]


def _of_counts(name: str) -> Sums:
    return Sums(confusion_cells, partial(_count_score, name))


def _of_class(name: str) -> Callable[[FloatArray], FloatArray]:
    return partial(_class_score, name)


DECISIONS = (
    Metric(
        name="accuracy",
        label="Accuracy",
        direction="maximize",
        needs="decisions",
        how=_of_counts("accuracy"),
        scale=PROPORTION,
        rows="all",
    ),
    Metric(
        name="balanced_accuracy",
        label="Balanced accuracy",
        direction="maximize",
        needs="decisions",
        how=_of_counts("balanced_accuracy"),
    ),
    Metric(
        name="f1",
        label="F1",
        direction="maximize",
        needs="decisions",
        how=_of_counts("f1"),
        macro="always",
        proper=True,
        column=ClassColumn(2, _of_class("f1")),
    ),
    Metric(
        name="precision",
        label="Precision",
        direction="maximize",
        needs="decisions",
        how=_of_counts("precision"),
        macro="always",
        never_predicted="its precision counts as 0",
        column=ClassColumn(0, _of_class("precision"), rows="predicted"),
    ),
    Metric(
        name="recall",
        label="Recall",
        direction="maximize",
        needs="decisions",
        how=_of_counts("recall"),
        macro="always",
        column=ClassColumn(1, _of_class("recall"), PROPORTION, "inside"),
    ),
    Metric(
        name="sensitivity",
        label="Sensitivity",
        direction="maximize",
        needs="decisions",
        how=_of_counts("sensitivity"),
        scale=PROPORTION,
        macro="several",
        two_only=True,
        rows="positive",
    ),
    Metric(
        name="specificity",
        label="Specificity",
        direction="maximize",
        needs="decisions",
        how=_of_counts("specificity"),
        scale=PROPORTION,
        macro="several",
        two_only=True,
        rows="negative",
        column=ClassColumn(3, _of_class("specificity"), PROPORTION, "outside"),
    ),
)
