"""Checks of other people's predictions: what a table of ids, folds and probabilities can show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from outerfold.storage.errors import DataError, first_three
from outerfold.storage.records import Predictions
from outerfold.storage.words.csv_tables import read_cell
from outerfold.study.verify.check import Check, carry_out
from outerfold.study.verify.recompute import points_of

NEEDED = ("id", "patient", "fold", "label")
NOT_SHOWN = (
    "whether the folds chose epochs, thresholds or parameters that they then scored",
    "whether one patient has several names, or one picture several patients",
    "whether the probabilities are those of the models",
)
"""What a table of predictions cannot show."""


def verify_table(path: Path) -> list[Check]:
    """All checks of a table with the columns ``id, patient, fold, label, p_CLASS, ...``.

    Raises:
        DataError: the file is no such table.
    """
    rows = read_table(path)
    return [
        carry_out("patients", lambda: _check_patients(rows)),
        carry_out("rows", lambda: _check_rows(rows)),
        carry_out("probabilities", lambda: _check_probabilities(rows)),
        carry_out("folds", lambda: _check_folds(rows)),
    ]


def read_table(path: Path) -> Predictions:
    """Predictions in a CSV file; decisions are those of ``predicted``, else the likeliest class.

    Raises:
        DataError: a column is missing, or a cell is not what its column holds.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from None
    table = table.map(read_cell)
    table.columns = table.columns.map(read_cell)
    classes = tuple(name[2:] for name in table.columns if name.startswith("p_"))
    _refuse_unfit(path, table, classes)
    values = table[[f"p_{name}" for name in classes]].apply(pd.to_numeric, errors="coerce")
    probabilities = values.to_numpy(dtype=np.float64)
    if np.isnan(probabilities).any():
        raise DataError(
            f"{path}: has probabilities that are no numbers; correct or remove the rows"
        )
    index = {name: at for at, name in enumerate(classes)}
    decided = table.get("predicted")
    repeat = table.get("repeat", pd.Series(["0"] * len(table)))
    chosen = probabilities.argmax(axis=1) if decided is None else decided.map(index)
    return Predictions(
        table["id"].to_numpy(dtype=np.str_),
        table["patient"].to_numpy(dtype=np.str_),
        table["fold"].to_numpy(dtype=np.str_),
        np.unique(repeat, return_inverse=True)[1].astype(np.int64),
        np.asarray(table["label"].map(index), dtype=np.int64),
        probabilities,
        np.asarray(chosen, dtype=np.int64),
        classes,
    )


def _refuse_unfit(path: Path, table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """Refuse a table without a needed column or row, or with names of other classes."""
    if not set(NEEDED) <= set(table.columns) or len(classes) < 2 or not len(table):
        raise DataError(
            f"{path}: needs the columns {', '.join(NEEDED)} and a column p_CLASS for each of at "
            f"least two classes, and a row; found {list(table.columns)}"
        )
    for column in ("label", "predicted"):
        unknown = sorted(set(table.get(column, ())) - set(classes))
        if unknown:
            raise DataError(
                f"{path}: the column {column} has {first_three(unknown)}, and the columns p_CLASS "
                f"name {list(classes)}; give both the same names"
            )


def _check_patients(rows: Predictions) -> tuple[str, Iterable[str]]:
    findings = []
    for number in np.unique(rows.repeat).tolist():
        of = rows.take(rows.repeat == number)
        folds = pd.Series(of.fold).groupby(of.patients).nunique()
        shared = folds[folds > 1].index.tolist()
        if shared:
            share = np.isin(of.patients, shared).mean()
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
