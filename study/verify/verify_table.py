"""Checks of other people's predictions: what a table of ids, folds and probabilities can show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from outerfold.storage.errors import DataError, first_three
from outerfold.storage.readers._base import find_column
from outerfold.storage.readers.targets import class_order, order_two
from outerfold.storage.records import FloatArray, IntArray, Predictions
from outerfold.storage.words.csv_tables import read_cell
from outerfold.storage.words.headers import FILE_NAMES, LABEL_NAMES, PATIENT_NAMES
from outerfold.storage.words.numbers import parse_number
from outerfold.storage.words.sheets import TextTable, read_sheet
from outerfold.storage.words.texts import is_missing, spelling_key
from outerfold.study.verify.check import Check, carry_out
from outerfold.study.verify.recompute import points_of

NEEDED: Mapping[str, Sequence[str]] = {
    "id": ("id", *FILE_NAMES),
    "patient": ("patient", *PATIENT_NAMES),
    "fold": ("fold", "outer_fold", "test_fold", "cv_fold", "fold_id", "fold_number", "fold_no"),
    "label": ("label", *LABEL_NAMES),
}
"""Accepted names of each needed column, normalised, in order of preference."""
DECIDED = ("predicted", "predicted_class", "predicted_label")
"""Accepted names of the column of decisions."""
_PROBABILITY = re.compile(r"(?:p|prob|proba|probability)_(.+)", re.IGNORECASE)
NOT_SHOWN = (
    "whether the folds chose epochs, thresholds or parameters that they then scored",
    "whether one patient has several names, or one picture several patients",
    "whether the probabilities are those of the models",
)
"""What a table of predictions cannot show."""


def verify_table(path: Path, positive: str | None = None) -> list[Check]:
    """All checks of a table with the columns ``id, patient, fold, label, p_CLASS, ...``.

    Args:
        path: the table.
        positive: positive class of two; None takes the one that the names show.

    Raises:
        DataError: the file is no such table.
        Question: the names of two classes do not say which one is positive.
    """
    rows, told = read_table(path, positive)
    return [
        Check("classes", told),
        carry_out("patients", lambda: _check_patients(rows)),
        carry_out("rows", lambda: _check_rows(rows)),
        carry_out("probabilities", lambda: _check_probabilities(rows)),
        carry_out("folds", lambda: _check_folds(rows)),
    ]


def read_table(path: Path, positive: str | None = None) -> tuple[Predictions, str]:
    """Predictions in a sheet, and a sentence on its classes; of two the positive one is the last.

    Decisions are those of the column ``predicted``, else the likeliest class.

    Args:
        path: the table, in any form that ``read_sheet`` reads.
        positive: positive class of two; None takes the one that the names show.

    Raises:
        DataError: a column is missing, or a cell is not what its column holds.
        Question: the names of two classes do not say which one is positive.
    """
    sheet = read_sheet(path)
    table = {read_cell(name): tuple(map(read_cell, texts)) for name, texts in sheet.items()}
    found = _find_needed(path, table)
    texts = {name: table[column] for name, column in found.items()}
    probabilities, left_out = _choose_classes(path, table, texts["label"])
    classes, told = _order(path, tuple(probabilities), positive, found["label"])
    values = np.column_stack([probabilities[name] for name in classes])
    chosen, rule = values.argmax(axis=1).astype(np.int64), "the likeliest class"
    decided = find_column(table, DECIDED)
    if decided is not None:
        chosen = _indices(path, decided, table[decided], classes)
        rule = f"the column {decided}"
    repeat = table.get(find_column(table, ("repeat", "repetition")) or "", ("0",) * len(values))
    rows = Predictions(
        np.array(texts["id"], dtype=np.str_),
        np.array(["" if is_missing(name) else name for name in texts["patient"]], dtype=np.str_),
        np.array(texts["fold"], dtype=np.str_),
        np.unique(repeat, return_inverse=True)[1].astype(np.int64),
        _indices(path, found["label"], texts["label"], classes),
        values,
        chosen,
        classes,
    )
    return rows, f"{told}; decisions are those of {rule}{left_out}"


def _find_needed(path: Path, table: TextTable) -> dict[str, str]:
    """Column of the table for each needed one; patients may be unknown, other cells may not.

    Raises:
        DataError: a column is missing, or rows have no id, fold or label.
    """
    needed = {name: find_column(table, known) for name, known in NEEDED.items()}
    found = {name: column for name, column in needed.items() if column is not None}
    if len(found) < len(NEEDED) or len(_probability_columns(path, table)) < 2:
        raise DataError(
            f"{path}: needs the columns {', '.join(NEEDED)} and a column p_CLASS for each of at "
            f"least two classes; found {list(table)}"
        )
    for name in ("id", "fold", "label"):
        gaps, count = table[found[name]].count(""), len(table[found[name]])
        if gaps:
            raise DataError(
                f"{path}: {gaps} of {count} rows have no {name} in the column {found[name]}; "
                "fill them in, or remove these rows"
            )
    return found


def _probability_columns(path: Path, table: TextTable) -> dict[str, str]:
    """Class that each column of probabilities is of by its name, by column.

    Raises:
        DataError: two columns are of one class.
    """
    matches = [match for name in table if (match := _PROBABILITY.fullmatch(name))]
    by_key = {_key(match[1]): match[0] for match in matches}
    for match in matches:
        if by_key[_key(match[1])] != match[0]:
            raise DataError(
                f"{path}: the columns {match[0]} and {by_key[_key(match[1])]} are of one class; "
                "remove one"
            )
    return {match[0]: match[1] for match in matches}


def _key(name: str) -> str:
    """Key of a class, whose name may have ``_`` or ``-`` for a blank in the heading of a column."""
    return spelling_key(re.sub(r"_|(?<=[^\W\d])-(?=[^\W\d])", " ", name))


def _choose_classes(
    path: Path, table: TextTable, labels: Sequence[str]
) -> tuple[dict[str, FloatArray], str]:
    """Probabilities (n,) of each class, and what is said of columns that are of no class.

    A column ``p_NAME`` whose name is no label is of a class that does not occur, if the rows of all
    these columns sum to 1, and else of none, such as ``p_value``.

    Raises:
        DataError: a label has no column, a probability is no number, or it is not clear whether a
            column is of a class.
    """
    columns, keys = _probability_columns(path, table), {_key(name) for name in labels}
    lost = sorted({one for one in labels if _key(one) not in set(map(_key, columns.values()))})
    if lost:
        raise DataError(
            f"{path}: the column label has {first_three(lost)}, and the columns p_CLASS name "
            f"{list(columns.values())}; give both the same names"
        )
    values = {name: _numbers(table[column]) for column, name in columns.items()}
    seen = {name: one for name, one in values.items() if _key(name) in keys}
    others = [column for column, name in columns.items() if name not in seen]
    apart = [_distance(of) for of in (values, seen)]
    if others and min(apart) > FAR:
        raise DataError(
            f"{path}: {first_three(others)} is no class of the column label, and the columns "
            "p_CLASS do not sum to 1 with or without it; rename a column that holds no probability "
            "of a class, or remove it"
        )
    left_out = bool(others) and apart[1] <= apart[0]
    kept = seen if left_out else values
    for column, name in columns.items():
        if name in kept:
            _refuse_texts(path, column, table[column], kept[name])
    said = f"; {first_three(others)} left out, since no label has this name" if left_out else ""
    return kept, said


def _refuse_texts(path: Path, column: str, texts: Sequence[str], numbers: FloatArray) -> None:
    """Refuse texts (n,) of a column that are no numbers, which are NaN in ``numbers`` (n,)."""
    wrong = dict.fromkeys(np.array(texts)[np.isnan(numbers)].tolist())
    if wrong:
        raise DataError(
            f"{path}: the column {column} has probabilities that are no numbers from 0 to 1, "
            f"{first_three(wrong)}; correct them, or remove the rows"
        )


FAR = 0.01
"""Mean distance from 1 of sums of probabilities, from which on their columns are no classes."""


def _distance(values: Mapping[str, FloatArray]) -> float:
    """Mean distance from 1 of the sums of the rows; infinite with gaps or fewer than 2 columns."""
    apart = float(np.abs(sum(values.values(), start=np.zeros(1)) - 1).mean())
    return apart if len(values) > 1 and np.isfinite(apart) else float("inf")


def _numbers(texts: Sequence[str]) -> FloatArray:
    """Numbers (n,) in texts, NaN where there is none."""
    found = [parse_number(text) for text in texts]
    return np.array([np.nan if one is None else one for one in found], dtype=np.float64)


def _order(
    path: Path, names: tuple[str, ...], positive: str | None, column: str
) -> tuple[tuple[str, ...], str]:
    """Classes in order, of two with the positive one last, and the sentence that names them."""
    names = class_order(names)
    if len(names) == 2:
        try:
            ordered, (told,) = order_two(names, positive, column, "")
        except DataError as error:
            raise type(error)(f"{path}: {error}") from None
        return ordered, told
    if positive is not None:
        raise DataError(f"--positive has no effect with {len(names)} classes; leave it out")
    return names, f"{len(names)} classes, {', '.join(names)}"


def _indices(path: Path, column: str, texts: Sequence[str], classes: Sequence[str]) -> IntArray:
    """Class indices (n,) of the texts of a column.

    Raises:
        DataError: a text names no class.
    """
    index = {_key(name): at for at, name in enumerate(classes)}
    unknown = sorted({text for text in texts if _key(text) not in index})
    if unknown:
        raise DataError(
            f"{path}: the column {column} has {first_three(unknown)}, and the columns p_CLASS "
            f"name {list(classes)}; give both the same names"
        )
    return np.array([index[_key(text)] for text in texts], dtype=np.int64)


def _check_patients(rows: Predictions) -> tuple[str, Iterable[str]]:
    named = rows.patients != ""
    without = int((~named).sum())
    findings = (
        [
            f"{without} of {len(rows)} rows name no patient, so it is not known whether their "
            "patients are in several folds"
        ]
        if without
        else []
    )
    for number in np.unique(rows.repeat).tolist():
        of = rows.take((rows.repeat == number) & named)
        folds = pd.Series(of.fold).groupby(of.patients).nunique()
        shared = folds[folds > 1].index.tolist()
        if shared:
            share = np.isin(of.patients, shared).sum() / (rows.repeat == number).sum()
            findings.append(
                f"{first_three(shared)} are in several folds, so their images were scored by "
                f"models that trained on other images of the same patient ({share:.0%} of rows)"
            )
    return f"{len(set(rows.patients.tolist()))} patients, each in one fold", findings


def _check_rows(rows: Predictions) -> tuple[str, Iterable[str]]:
    pairs = pd.Series(list(zip(rows.ids.tolist(), rows.repeat.tolist(), strict=True)))
    twice = [name for name, _ in pairs[pairs.duplicated()]]
    findings = [f"{first_three(twice)} are listed twice"] if twice else []
    return f"{len(rows)} rows, each image once", findings


def _check_probabilities(rows: Predictions) -> tuple[str, Iterable[str]]:
    values, findings = rows.probabilities, []
    outside = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | (values > 1).any(axis=1)
    if outside.any():
        findings.append(f"{first_three(rows.ids[outside].tolist())} have values outside 0..1")
    off = np.abs(values.sum(axis=1) - 1) > 1e-3
    if off.any():
        findings.append(f"{first_three(rows.ids[off].tolist())} do not sum to 1")
    return "all lie in 0..1 and sum to 1", findings


def _check_folds(rows: Predictions) -> tuple[str, Iterable[str]]:
    findings = []
    for fold in dict.fromkeys(rows.fold.tolist()):
        of = rows.take(rows.fold == fold)
        if len(set(of.labels.tolist())) < len(rows.classes):
            findings.append(f"fold {fold} lacks a class, so it has no ROC-AUC")
        elif len(set(of.predicted.tolist())) == 1:
            findings.append(f"fold {fold} calls every image {rows.classes[of.predicted[0]]}")
    points = points_of(rows)
    auc = points["roc_auc"]
    shown = " ".join(f"{value:.3f}" for value in auc.by_fold)
    others = ("sensitivity", "specificity", "brier")
    rest = ", ".join(f"{name} {points[name].pooled:.3f}" for name in others)
    return f"ROC-AUC {auc.mean:.3f} (folds: {shown}), {rest}", findings
