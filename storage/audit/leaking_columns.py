"""Columns that give the label away, by their name, their texts, or their values alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.names import normalise
from outerfold.storage.records import Column, Dataset, FloatArray, IntArray

ERROR_AUC = 0.95
WARNING_AUC = 0.9
MISSING_AUC = 0.7
MIN_PATIENTS = 5
"""Patients on each side below which a perfect separation says nothing."""
MANY_LEVELS = 20

# fmt: off
VERDICT_NAMES = frozenset({
    "birads", "bi_rads", "pathology", "diagnosis", "verification", "histology", "malignancy",
    "biopsy", "label", "class", "target", "status", "outcome",
    "tumour_contour", "tumour_contour2", "tumor_contour", "tumor_contour2",
    "patient_id", "patient", "case", "case_id", "file", "filename", "fullpath",
})
# fmt: on
"""Normalised names of columns that hold the reader's verdict, the label or the row's own name."""

BoolArray = NDArray[np.bool_]


def column_errors(data: Dataset) -> Iterator[str]:
    """A sentence for each column that must not be trained on."""
    for column, values in _columns(data):
        if is_verdict(column.name):
            yield (
                f"column {column.name!r} holds the reader's verdict, the label or the row's name, "
                "which is not known when a patient comes; leave it out of --columns"
            )
            continue
        named = _levels_naming_the_class(data, column, values)
        if named:
            yield (
                f"column {column.name!r}: its values name the class they belong to {named[:3]} "
                f"({len(named)} in all); leave it out of --columns"
            )
        auc, what = best_auc(data, column, values)
        if auc >= ERROR_AUC:
            yield (
                f"column {column.name!r} alone tells {what} apart (AUC {auc:.2f}, at least "
                f"{ERROR_AUC} is an error); it likely follows from the label: leave it out"
            )


def column_warnings(data: Dataset) -> Iterator[str]:
    """A sentence for each column that is suspicious or useless."""
    for column, values in _columns(data):
        present = values[~np.isnan(values)]
        if len(np.unique(present)) < 2:
            found = "always missing" if not len(present) else "the same in every row"
            yield f"column {column.name!r} is {found}; it cannot help, leave it out of --columns"
            continue
        if is_verdict(column.name):
            continue
        auc, what = best_auc(data, column, values)
        if WARNING_AUC <= auc < ERROR_AUC:
            yield (
                f"column {column.name!r} alone nearly tells {what} apart (AUC {auc:.2f}); "
                "make sure that it is known before the diagnosis"
            )
        gap, what = _missing_auc(data, values)
        if gap >= MISSING_AUC:
            yield (
                f"column {column.name!r}: being missing tells {what} apart (AUC {gap:.2f}); "
                "a model will learn who was asked, not what was answered"
            )
        if len(column.levels) > MANY_LEVELS:
            yield (
                f"column {column.name!r} is text with {len(column.levels)} levels for "
                f"{len(set(data.patients.tolist()))} patients; levels this rare are noise"
            )


def is_verdict(name: str) -> bool:
    """Whether a column's name says that it comes from the verdict: ``*_LEAKY``, BI-RADS, ..."""
    normal = normalise(name)
    return normal.endswith("_leaky") or normal in VERDICT_NAMES


def best_auc(data: Dataset, column: Column, values: FloatArray) -> tuple[float, str]:
    """Largest one-against-rest AUC of the column alone, either direction, and of which class.

    Numbers score by rank; values of few kinds also by the class's share among the *other*
    patients with the same value, so that rare values do not predict themselves.
    """
    here = ~np.isnan(values)
    if column.kind == "numeric" and len(np.unique(values[here])) > MANY_LEVELS:
        shares = False
    else:
        shares = True
    best, what = 0.5, ""
    for label, name in enumerate(data.classes):
        hit = data.labels[here] == label
        patients = data.patients[here]
        if min(_count(patients[hit]), _count(patients[~hit])) < MIN_PATIENTS:
            continue
        auc = 0.5
        if column.kind != "categorical":
            auc = rank_auc(values[here], hit)
        if shares:
            auc = max(auc, rank_auc(_shares(values[here], hit, patients), hit, fold=False))
        if auc > best:
            best, what = auc, repr(name)
    return best, what


def _count(patients: NDArray[np.str_]) -> int:
    return len(np.unique(patients))


def rank_auc(scores: FloatArray, hit: BoolArray, *, fold: bool = True) -> float:
    """Area under the ROC curve by mid-ranks; ``fold`` takes the better direction."""
    from scipy.stats import rankdata

    positives, negatives = int(hit.sum()), int((~hit).sum())
    if not positives or not negatives:
        return 0.5
    ranks = np.asarray(rankdata(scores), dtype=np.float64)
    u = ranks[hit].sum() - positives * (positives + 1) / 2
    auc = float(u / (positives * negatives))
    return max(auc, 1 - auc) if fold else auc


def _shares(values: FloatArray, hit: BoolArray, patients: NDArray[np.str_]) -> FloatArray:
    """(n,) share of hits among other patients' rows of the same value; the base rate if none."""
    cell = _cells(values)
    person = _cells(patients)
    own = _cells(cell * (int(person.max()) + 1) + person)
    hits = np.bincount(cell, hit)[cell] - np.bincount(own, hit)[own]
    rows = np.bincount(cell)[cell] - np.bincount(own)[own]
    base = float(hit.mean())
    return np.asarray((hits + base) / (rows + 1.0), dtype=np.float64)


def _cells(values: NDArray[np.float64] | NDArray[np.str_] | IntArray) -> IntArray:
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64).ravel()


def _missing_auc(data: Dataset, values: FloatArray) -> tuple[float, str]:
    missing = np.isnan(values).astype(np.float64)
    best, what = 0.5, ""
    for label, name in enumerate(data.classes):
        hit = data.labels == label
        if min(_count(data.patients[hit]), _count(data.patients[~hit])) < MIN_PATIENTS:
            continue
        auc = rank_auc(missing, hit)
        if auc > best:
            best, what = auc, repr(name)
    return best, what


def _levels_naming_the_class(data: Dataset, column: Column, values: FloatArray) -> list[str]:
    """Levels whose text holds a class's name and whose rows mostly are of that class.

    A level such as 'family history of cancer' names a class too; only agreement makes it a leak.
    """
    found = []
    for code, level in enumerate(column.levels):
        rows = values == code
        for label, name in enumerate(data.classes):
            worded = re.search(rf"(?<![a-z]){re.escape(name.lower())}(?![a-z])", level.lower())
            if worded and rows.any() and np.mean(data.labels[rows] == label) >= 0.9:
                found.append(level)
    return found


def _columns(data: Dataset) -> Iterator[tuple[Column, FloatArray]]:
    for at, column in enumerate(data.features.columns):
        yield column, data.features.tabular[:, at]
