"""Evidence of one run, finished or not: its joined predictions and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from outerfold.reports.schema import Results
from outerfold.storage.records import Predictions, Run


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that figures and documents are made from.

    Attributes:
        numbers: contents of ``results.json``; documents print no number from elsewhere.
        test: outer test rows of all finished folds; None before the first one has finished.
        validation: inner out-of-fold rows of the same folds, see ``validation_rows``.
        levels: test rows combined by patient (and by breast), by name of the level.
    """

    run: Run
    numbers: Results
    test: Predictions | None
    validation: Predictions | None
    levels: Mapping[str, Predictions] = field(default_factory=dict)


def test_rows(run: Run) -> Predictions | None:
    """Joined outer test predictions of the finished folds; each image occurs once per repeat."""
    return join_predictions(fold.test for fold in run.outer if fold.test is not None)


def inner_models(run: Run) -> dict[str, Predictions]:
    """Predictions of each finished outer fold's test rows by its inner folds' models, by fold.

    Empty where an earlier version made the run.
    """
    return {study.name: study.variation for study in run.outer if study.variation is not None}


def validation_rows(run: Run) -> Predictions | None:
    """Joined inner out-of-fold predictions of the finished outer folds.

    A row was scored in every outer fold that has it among its training rows. Each outer fold counts
    as one repeat: an estimate is computed within a search and then averaged over searches, and the
    jackknife leaves a patient out of all searches together.
    """
    parts = []
    for number, study in enumerate(run.outer):
        rows = study.validation
        folds = [_full_fold_name(study.name, str(fold)) for fold in rows.fold]
        parts.append(
            Predictions(
                rows.ids,
                rows.patients,
                np.array(folds, dtype=np.str_),
                np.full(len(rows), number, dtype=np.int64),
                rows.labels,
                rows.probabilities,
                rows.predicted,
                rows.classes,
                rows.groups,
            )
        )
    return join_predictions(parts)


def unique_rows(run: Run) -> Predictions | None:
    """Every image that occurs in the run, as one row; for counting, not for scoring."""
    parts = [s.validation for s in (*run.outer, *([run.final] if run.final else []))]
    rows = join_predictions([*parts, *(s.test for s in run.outer if s.test is not None)])
    return None if rows is None else distinct(rows)


def distinct(rows: Predictions) -> Predictions:
    """First row of each image, over all folds and repeats, sorted by image id."""
    at = np.unique(rows.ids, return_index=True)[1]
    return rows.take(at)


def patients_per_class(rows: Predictions | None, classes: tuple[str, ...]) -> dict[str, int]:
    """Number of distinct patients with at least one image of each class, by class name."""
    if rows is None:
        return dict.fromkeys(classes, 0)
    return {
        name: len(np.unique(rows.patients[rows.labels == index]))
        for index, name in enumerate(classes)
    }


def images_per_class(rows: Predictions | None, classes: tuple[str, ...]) -> dict[str, int]:
    """Number of rows of each class, by class name; repeated images count each time."""
    labels = np.zeros(0, dtype=np.int64) if rows is None else rows.labels
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(counts[index]) for index, name in enumerate(classes)}


def confusion_counts(rows: Predictions | None, classes: tuple[str, ...]) -> list[list[int]]:
    """Counts of images by true class (rows) and predicted class (columns), over all folds."""
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    if rows is not None:
        np.add.at(table, (rows.labels, rows.predicted), 1)
    return [[int(count) for count in line] for line in table]


def _full_fold_name(study: str, fold: str) -> str:
    return fold if fold.startswith(study) else f"{study}/{fold}"


def join_predictions(parts: Iterable[Predictions]) -> Predictions | None:
    """Rows of all parts, in their order; None if there are no parts."""
    pieces = list(parts)
    if not pieces:
        return None
    return Predictions(
        np.concatenate([p.ids for p in pieces]),
        np.concatenate([p.patients for p in pieces]),
        np.concatenate([p.fold for p in pieces]),
        np.concatenate([p.repeat for p in pieces]),
        np.concatenate([p.labels for p in pieces]),
        np.concatenate([p.probabilities for p in pieces]),
        np.concatenate([p.predicted for p in pieces]),
        pieces[0].classes,
        np.concatenate([p.groups for p in pieces]),
    )
