"""What one finished (or unfinished) run has to show: its joined predictions and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from outerfold.reports.wording import Json
from outerfold.storage.records import Predictions, Run


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that figures and documents are made from.

    Attributes:
        numbers: the contents of ``results.json``; documents print no number from elsewhere.
        test: outer test rows of every finished fold; None before the first has finished.
        validation: inner out-of-fold rows of the same folds, see ``validation_rows``.
        levels: test rows combined by patient (and by breast), by level.
    """

    run: Run
    numbers: Json
    test: Predictions | None
    validation: Predictions | None
    levels: Mapping[str, Predictions] = field(default_factory=dict)


def test_rows(run: Run) -> Predictions | None:
    """Outer test predictions of the finished folds, joined; every row once a repeat."""
    return joined(fold.test for fold in run.outer if fold.test is not None)


def validation_rows(run: Run) -> Predictions | None:
    """Inner out-of-fold predictions of the finished outer folds, joined.

    A row was scored in every outer fold whose training side holds it. Each outer fold counts as
    one repeat, so that an estimate is taken within a search and then averaged over searches, and
    a jackknife leaves a patient out of all of them at once.
    """
    parts = []
    for number, study in enumerate(run.outer):
        rows = study.validation
        names = np.array([_within(study.name, str(fold)) for fold in rows.fold], dtype=np.str_)
        parts.append(
            Predictions(
                rows.ids,
                rows.patients,
                names,
                np.full(len(rows), number, dtype=np.int64),
                rows.labels,
                rows.probabilities,
                rows.predicted,
                rows.classes,
            )
        )
    return joined(parts)


def unique_rows(run: Run) -> Predictions | None:
    """Every row that occurs anywhere in the run, once; for counting, not for scoring."""
    parts = [s.validation for s in (*run.outer, *([run.final] if run.final else []))]
    rows = joined([*parts, *(s.test for s in run.outer if s.test is not None)])
    return None if rows is None else distinct(rows)


def distinct(rows: Predictions) -> Predictions:
    """Each image's first row; folds and repeats aside."""
    at = np.unique(rows.ids, return_index=True)[1]
    return rows.take(at)


def patients_per_class(rows: Predictions | None, classes: tuple[str, ...]) -> dict[str, int]:
    """Distinct patients with at least one image of each class."""
    if rows is None:
        return dict.fromkeys(classes, 0)
    return {
        name: len(np.unique(rows.patients[rows.labels == index]))
        for index, name in enumerate(classes)
    }


def images_per_class(rows: Predictions | None, classes: tuple[str, ...]) -> dict[str, int]:
    """Images of each class, every row counted as often as it stands in ``rows``."""
    labels = np.zeros(0, dtype=np.int64) if rows is None else rows.labels
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(counts[index]) for index, name in enumerate(classes)}


def confusion_counts(rows: Predictions | None, classes: tuple[str, ...]) -> list[list[int]]:
    """Images by true class (rows) and predicted class (columns), over all folds and repeats."""
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    if rows is not None:
        np.add.at(table, (rows.labels, rows.predicted), 1)
    return [[int(count) for count in line] for line in table]


def _within(study: str, fold: str) -> str:
    return fold if fold.startswith(study) else f"{study}/{fold}"


def joined(parts: Iterable[Predictions]) -> Predictions | None:
    """The rows of all parts, in their order; None of no parts."""
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
    )
