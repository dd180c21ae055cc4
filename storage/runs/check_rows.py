"""Checks of a finished study: its rows are those of its splits, its probabilities are possible."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from outerfold.storage.errors import DataError, first_three
from outerfold.storage.records import Dataset, FoldResult, OuterFold, Predictions

SUM_TOLERANCE = 1e-4
"""Largest difference between 1 and the sum of a row's probabilities."""


def check_rows(result: FoldResult, study: OuterFold, data: Dataset, path: Path) -> None:
    """Check the tables of one study against the splits and the rows of the run.

    Args:
        result: result of the study as its files give it.
        study: its folds.
        data: rows of the run.
        path: folder of the study, for messages.

    Raises:
        DataError: a table has other rows, labels or patients, or a probability is impossible.
    """
    held = {name: fold.name for fold in study.inner for name in fold.val}
    _check_table(result.validation, held, data, path / "validation.csv")
    outer = dict.fromkeys(study.test, study.name)
    default = result.default.test if result.default is not None else None
    for rows, name in ((result.test, "predictions.csv"), (default, "predictions_default.csv")):
        if rows is not None:
            _check_table(rows, outer, data, path / name)
    inner = result.default.variation if result.default is not None else None
    for rows, name in ((result.variation, "variation.csv"), (inner, "variation_default.csv")):
        if rows is not None:
            _check_ids(set(rows.ids.tolist()), set(study.test), path / name)
            _check_truth(rows, data, path / name)
            _check_probabilities(rows, path / name)


def _check_table(rows: Predictions, folds: dict[str, str], data: Dataset, path: Path) -> None:
    """Check a table with one row for each id of ``folds``, which gives the name of its fold."""
    ids = rows.ids.tolist()
    _check_ids(set(ids), set(folds), path)
    if len(ids) != len(set(ids)):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        _refuse(path, f"lists {first_three(twice)} twice")
    wrong = [
        name for name, fold in zip(ids, rows.fold.tolist(), strict=True) if folds[name] != fold
    ]
    if wrong:
        _refuse(path, f"names another fold than splits.json for {first_three(wrong)}")
    _check_truth(rows, data, path)
    _check_probabilities(rows, path)


def _check_ids(found: set[str], expected: set[str], path: Path) -> None:
    if found - expected:
        _refuse(
            path, f"has rows that are not of this fold: {first_three(sorted(found - expected))}"
        )
    if expected - found:
        _refuse(path, f"lacks rows of this fold: {first_three(sorted(expected - found))}")


def _check_truth(rows: Predictions, data: Dataset, path: Path) -> None:
    at = data.features.positions(rows.ids.tolist())
    pairs = (
        ("label", rows.labels, data.labels[at]),
        ("patient", rows.patients, data.patients[at]),
    )
    for what, found, expected in pairs:
        other = np.flatnonzero(found != expected)
        if len(other):
            _refuse(
                path,
                f"has another {what} than dataset.json for {first_three(rows.ids[other].tolist())}",
            )


def _check_probabilities(rows: Predictions, path: Path) -> None:
    values = rows.probabilities
    sound = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (values <= 1).all(axis=1)
    sound &= np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE
    bad = np.flatnonzero(~sound)
    if len(bad):
        _refuse(
            path,
            f"has impossible probabilities for {first_three(rows.ids[bad].tolist())}, such as "
            f"{values[bad[0]].tolist()}",
        )


def _refuse(path: Path, found: str) -> None:
    raise DataError(
        f"{path}: {found}; restore the file from a copy, or give the run's command again, which "
        f"ends {path.parent.name} anew from its trials"
    )
