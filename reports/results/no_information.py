"""Values of metrics that a model without any information would reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from outerfold.objectives.measures.probabilities import brier
from outerfold.reports.wording import Json
from outerfold.storage.records import FloatArray, FoldResult, Predictions

Priors = Mapping[str, FloatArray]
"""Shares (classes,) of the classes among the training rows, by outer fold."""


def class_shares(rows: Predictions) -> FloatArray:
    """Shares (classes,) of the classes among rows."""
    return np.bincount(rows.labels, minlength=len(rows.classes)) / max(len(rows), 1)


def training_priors(outer: tuple[FoldResult, ...]) -> Priors:
    """Shares of the classes among the training images of each outer fold."""
    return {study.name: class_shares(study.validation) for study in outer}


def add_no_information(entries: Json, rows: Predictions | None, priors: Priors) -> Json:
    """Entries of overall metrics, each with ``no_information``; None where there is no such value.

    Args:
        entries: entry of each overall metric, by name.
        rows: outer test rows that the entries are of.
        priors: shares of classes in training, by outer fold.
    """
    if rows is None:
        return entries
    return {
        name: {
            **found,
            "no_information": _VALUES[name](rows, priors) if name in _VALUES else None,
        }
        for name, found in entries.items()
    }


def constant_rows(rows: Predictions, priors: Priors) -> FloatArray:
    """Probabilities (n, classes) that state the training shares of each row's fold."""
    return np.stack([priors[fold] for fold in rows.fold.tolist()])


def _rank_by_chance(rows: Predictions, priors: Priors) -> float:
    return 0.5


def _prevalence(rows: Predictions, priors: Priors) -> float:
    """Average precision of chance: the positive share; the mean over several classes."""
    return float(rows.labels.mean()) if len(rows.classes) == 2 else 1 / len(rows.classes)


def _commonest(rows: Predictions, priors: Priors) -> float:
    """Accuracy of always deciding for the class that is commonest in training."""
    return float((constant_rows(rows, priors).argmax(axis=1) == rows.labels).mean())


def _even(rows: Predictions, priors: Priors) -> float:
    return 1 / len(rows.classes)


def _constant_brier(rows: Predictions, priors: Priors) -> float:
    return brier(rows.labels, constant_rows(rows, priors))


_VALUES: dict[str, Callable[[Predictions, Priors], float]] = {
    "roc_auc": _rank_by_chance,
    "average_precision": _prevalence,
    "accuracy": _commonest,
    "balanced_accuracy": _even,
    "brier": _constant_brier,
}
