"""Entries of ``results.json`` for the clinical columns: values and missing values by class."""

from __future__ import annotations

import numpy as np

from outerfold.reports.wording import Json
from outerfold.storage.records import Column, Dataset, FloatArray, Run


def column_entries(run: Run) -> list[Json]:
    """Entry of each column at patient level, by class; empty without columns.

    A patient has the mean of the values of a numeric column over images, and of another column the
    most frequent value, the first one of equally frequent ones. A patient with images of several
    classes counts in the last of these. A value is missing where no image of the patient has it.
    """
    if run.data is None or not run.data.features.columns:
        return []
    columns = run.data.features.columns
    return [_entry(run.data, column, at) for at, column in enumerate(columns)]


def _entry(data: Dataset, column: Column, at: int) -> Json:
    values = data.features.tabular[:, at]
    labels, own = _by_patient(data, column, values)
    names = data.classes
    known = [own[(labels == c) & ~np.isnan(own)] for c in range(len(names))]
    return {
        "name": column.name,
        "kind": column.kind,
        "patients": {name: int((labels == c).sum()) for c, name in enumerate(names)},
        "missing": {name: int(np.isnan(own[labels == c]).sum()) for c, name in enumerate(names)},
        "missing_images": {
            name: int(np.isnan(values[data.labels == c]).sum()) for c, name in enumerate(names)
        },
        "values": _summary(column, names, known),
        "difference": _standardised(column, known),
    }


def _by_patient(data: Dataset, column: Column, values: FloatArray) -> tuple[np.ndarray, FloatArray]:
    """Class (patients,) and value (patients,), NaN where missing, of each patient."""
    import pandas as pd  # takes part of a second, so only where there are columns

    groups = pd.DataFrame({"label": data.labels, "value": values}).groupby(data.patients)
    if column.kind == "numeric":
        own = groups["value"].mean()
    else:
        own = groups["value"].agg(lambda one: one.mode().iloc[0] if one.notna().any() else np.nan)
    return groups["label"].max().to_numpy(), own.to_numpy(dtype=np.float64)


def _summary(column: Column, names: tuple[str, ...], known: list[FloatArray]) -> Json:
    """Mean and standard deviation by class, or the number of patients by level and class."""
    if column.kind == "numeric":
        return {
            name: {
                "mean": float(one.mean()) if len(one) else None,
                "sd": float(one.std(ddof=1)) if len(one) > 1 else None,
            }
            for name, one in zip(names, known, strict=True)
        }
    return {
        level: {name: int((one == code).sum()) for name, one in zip(names, known, strict=True)}
        for code, level in enumerate(column.levels)
    }


def _standardised(column: Column, known: list[FloatArray]) -> float | None:
    """Standardised difference of two classes; None for more, or for more than two levels."""
    if len(known) != 2 or column.kind == "categorical" or min(map(len, known)) < 2:
        return None
    ddof = 1 if column.kind == "numeric" else 0
    spread = float(np.sqrt(sum(one.var(ddof=ddof) for one in known) / 2))
    return float(known[1].mean() - known[0].mean()) / spread if spread > 0 else None
