"""Search for columns that reveal the label by their name, their texts or their values."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.names import normalise
from outerfold.storage.records import BoolArray, Column, Dataset, FloatArray, IntArray

ERROR_AUC = 0.95
WARNING_AUC = 0.9
MISSING_AUC = 0.7
MIN_PATIENTS = 5
"""Fewest patients inside and outside a class; with fewer, even a perfect AUC may be chance."""
MANY_LEVELS = 20
LEVEL_PATIENTS, LEVEL_CHANCE = 20, 1e-6
"""A value of so many patients in one class only is suspicious where chance is smaller than this."""

_VERDICTS = """
    birads bi_rads pathology diagnosis verification histology malignancy biopsy label
    class target status outcome tumour_contour tumour_contour2 tumor_contour
    tumor_contour2 assessment birads_assessment bi_rads_assessment breast_birads
    finding_birads birads_category bi_rads_category birads_score bi_rads_score
    overall_assessment asses invasive cancer is_cancer malignant is_malignant
    benign_malignant path_severity pathology_class pathology_type histology_type
    histological_type histopathology tumor_type tumour_type tumor_grade tumour_grade
    histologic_grade nottingham_grade stage tnm difficult_negative_case subtlety suspicion
    biopsy_result biopsied classification ground_truth final_diagnosis finding_categories
    er_status pr_status her2_status subtype molecular_subtype laterality_of_cancer
    abnormality_category left_breast_diagnosis right_breast_diagnosis patient_id patient
    case case_id file filename fullpath
"""
VERDICT_NAMES = frozenset(_VERDICTS.split())
"""Normalised names of columns that hold the reader's verdict, the label or the row's own name."""


def column_errors(data: Dataset) -> Iterator[str]:
    """One sentence for each reason why a column must not be used for training."""
    for column, values in _columns(data):
        if is_verdict(column.name):
            yield (
                f"column {column.name!r} holds the reader's verdict, the label or the row's name, "
                "which is not known before the diagnosis; leave it out of --columns"
            )
            continue
        gap, what = _missing_auc(data, values)
        if gap >= ERROR_AUC:
            yield (
                f"column {column.name!r}: missing values alone separate {what} from the rest (AUC "
                f"{gap:.2f}; {ERROR_AUC} or more is an error), so it was filled in with the label "
                "in mind; leave it out of --columns"
            )
            continue
        named = _levels_naming_the_class(data, column, values)
        if named:
            yield (
                f"column {column.name!r}: its values {named[:3]} name the class of their rows "
                f"({len(named)} in all); leave it out of --columns"
            )
        auc, what = best_auc(data, column, values)
        if auc >= ERROR_AUC:
            yield (
                f"column {column.name!r} alone separates {what} from the rest (AUC {auc:.2f}; "
                f"{ERROR_AUC} or more is an error); it probably follows from the label: leave it "
                "out of --columns"
            )


def column_warnings(data: Dataset) -> Iterator[str]:
    """One sentence for each reason why a column is suspicious or useless."""
    for column, values in _columns(data):
        gap, what = _missing_auc(data, values)
        if gap >= ERROR_AUC:
            continue
        if gap >= MISSING_AUC:
            yield (
                f"column {column.name!r}: missing values alone separate {what} from the rest "
                f"(AUC {gap:.2f}); a model will learn who was asked, not what was answered"
            )
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
                f"column {column.name!r} alone nearly separates {what} from the rest "
                f"(AUC {auc:.2f}); make sure that it is known before the diagnosis"
            )
        yield from _one_class_levels(data, column, values)
        if len(column.levels) > MANY_LEVELS:
            yield (
                f"column {column.name!r} is text with {len(column.levels)} levels for "
                f"{len(set(data.patients.tolist()))} patients; such rare levels are noise"
            )


def _one_class_levels(data: Dataset, column: Column, values: FloatArray) -> Iterator[str]:
    """A sentence for each level of many patients that occurs in one class only, beyond chance."""
    present = np.unique(values[~np.isnan(values)])
    if len(present) > MANY_LEVELS:
        return
    everyone = _count_patients(data.patients)
    for level in present:
        rows = values == level
        patients, classes = _count_patients(data.patients[rows]), set(data.labels[rows].tolist())
        if patients < LEVEL_PATIENTS or len(classes) > 1:
            continue
        label = classes.pop()
        share = _count_patients(data.patients[data.labels == label]) / everyone
        if share**patients < LEVEL_CHANCE:
            shown = repr(column.levels[int(level)]) if column.levels else f"{level:g}"
            yield (
                f"column {column.name!r}: the value {shown} of {patients} patients occurs in class "
                f"{data.classes[label]!r} only, which chance does not explain; make sure that it "
                "is known before the diagnosis"
            )


def is_verdict(name: str) -> bool:
    """Whether a column's name shows that it holds the verdict or label (``*_LEAKY``, BI-RADS)."""
    normal = re.sub(r"[+%-]", "", normalise(name))
    return normal.endswith("_leaky") or normal in VERDICT_NAMES


def best_auc(data: Dataset, column: Column, values: FloatArray) -> tuple[float, str]:
    """Largest one-against-rest AUC of the column alone, and the class that it separates.

    Numbers are scored by rank, in the better direction. Columns with at most ``MANY_LEVELS``
    values, or with levels, are also scored by the share of the class among *other* patients with
    the same value, so that a rare value does not predict itself. Classes of too few patients are
    left out; without any class the result is (0.5, "").

    Args:
        data: n rows with labels and patients.
        column: description of the column.
        values: (n,) its values, NaN for missing.
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
        if min(_count_patients(patients[hit]), _count_patients(patients[~hit])) < MIN_PATIENTS:
            continue
        auc = 0.5
        if column.kind != "categorical":
            auc = rank_auc(values[here], hit)
        if shares:
            auc = max(auc, rank_auc(_hit_shares(values[here], hit, patients), hit, fold=False))
        if auc > best:
            best, what = auc, repr(name)
    return best, what


def _count_patients(patients: NDArray[np.str_]) -> int:
    return len(np.unique(patients))


def rank_auc(scores: FloatArray, hit: BoolArray, *, fold: bool = True) -> float:
    """Area under the ROC curve of scores (n,) for rows with ``hit`` (n,) True, by mid-ranks.

    It is 0.5 where all rows are of one kind. ``fold`` takes the better of both directions.
    """
    from scipy.stats import rankdata

    positives, negatives = int(hit.sum()), int((~hit).sum())
    if not positives or not negatives:
        return 0.5
    ranks = np.asarray(rankdata(scores), dtype=np.float64)
    u = ranks[hit].sum() - positives * (positives + 1) / 2
    auc = float(u / (positives * negatives))
    return max(auc, 1 - auc) if fold else auc


def _hit_shares(values: FloatArray, hit: BoolArray, patients: NDArray[np.str_]) -> FloatArray:
    """Share (n,) of hits among the rows of other patients with the same value.

    One row with the base rate is added to each, so a value of one patient has the base rate.
    """
    cell = _code_values(values)
    person = _code_values(patients)
    own = _code_values(cell * (int(person.max()) + 1) + person)
    hits = np.bincount(cell, hit)[cell] - np.bincount(own, hit)[own]
    rows = np.bincount(cell)[cell] - np.bincount(own)[own]
    base = float(hit.mean())
    return np.asarray((hits + base) / (rows + 1.0), dtype=np.float64)


def _code_values(values: NDArray[np.float64] | NDArray[np.str_] | IntArray) -> IntArray:
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64).ravel()


def _missing_auc(data: Dataset, values: FloatArray) -> tuple[float, str]:
    missing = np.isnan(values).astype(np.float64)
    best, what = 0.5, ""
    for label, name in enumerate(data.classes):
        hit = data.labels == label
        if (
            min(_count_patients(data.patients[hit]), _count_patients(data.patients[~hit]))
            < MIN_PATIENTS
        ):
            continue
        auc = rank_auc(missing, hit)
        if auc > best:
            best, what = auc, repr(name)
    return best, what


def _levels_naming_the_class(data: Dataset, column: Column, values: FloatArray) -> list[str]:
    """Levels whose text holds a class's name and of whose rows at least 90 % are of that class.

    A level such as 'family history of cancer' names a class too; it is a leak only if its rows
    are of that class.
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
