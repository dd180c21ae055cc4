"""Table 1 of a paper: the clinical columns by class, at patient level, with missing values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from outerfold.reports.blocks import Table
from outerfold.reports.schema import ColumnEntry, Results
from outerfold.reports.wording import number, stamps

NOTES = (
    "One row a patient: the mean over a patient's images of a number, the most frequent one of "
    "other values. A patient with images of several classes counts in the last of these.",
    "Missing: patients of whom no image has the value, and in square brackets images without it. "
    "The model sees which values are missing, so a class with more of them can be known by that.",
)
DIFFERENCE = "Std. difference: difference of the means in units of the pooled standard deviation."


def table_one(numbers: Results) -> Table | None:
    """Table of the columns by class; None where the run has no columns."""
    columns = numbers["dataset"]["columns"]
    if not columns:
        return None
    classes = list(numbers["dataset"]["classes"])
    two = len(classes) == 2
    counts = columns[0]["patients"]
    header = (
        "Patients",
        *(f"{name}\n(n = {counts[name]:,})" for name in classes),
        *(("Std. difference",) if two else ()),
    )
    rows = [row for column in columns for row in _rows(column, classes, two, numbers)]
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    notes = (*NOTES, DIFFERENCE) if two else NOTES
    return Table(f"Clinical columns by class{marks}", header, tuple(rows), notes)


def _rows(
    column: ColumnEntry, classes: list[str], two: bool, numbers: Results
) -> Iterator[tuple[str, ...]]:
    found, values = column["difference"], column["values"]
    difference = ("–" if found is None else number(found),) if two else ()
    blank = ("",) if two else ()
    if column["kind"] == "numeric":
        cells = (_mean(values[name]) for name in classes)
        yield (f"{column['name']}, mean (SD)", *cells, *difference)
    else:
        for at, (level, counts) in enumerate(values.items()):
            shares = (
                _share(counts[name], column["patients"][name] - column["missing"][name])
                for name in classes
            )
            label = f"{column['name']}: {level}, n (%)"
            yield (label, *shares, *(difference if at == 0 else blank))
    missing = (
        f"{_share(column['missing'][name], column['patients'][name])} "
        f"[{_share(column['missing_images'][name], numbers['dataset']['classes'][name])}]"
        for name in classes
    )
    yield (f"{column['name']}, missing, n (%)", *missing, *blank)


def _mean(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    return f"{number(found['mean'])}" + ("" if found["sd"] is None else f" ({number(found['sd'])})")


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / max(total, 1):.0f})"
