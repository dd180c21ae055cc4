"""What the report shows by patient (and by breast): tables, and the line beside the headline."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Paragraph, Table
from outerfold.reports.results.level_entries import ONE_IMAGE, leading_level
from outerfold.reports.sections.tables import Footnotes, class_cell, metric_rows, percent
from outerfold.reports.wording import (
    COVERS,
    PER_CLASS,
    Json,
    class_metric_name,
    counted,
    finished_folds,
    metric_name,
    plural,
    sentence_value,
    stamps,
    value,
)

SHORT = {"mean": "mean over images", "max": "largest over images", "noisy-or": "noisy-or of images"}


def level_table(numbers: Json, level: str) -> Table:
    """Overall metrics with one row a patient or breast, as the table of images has them."""
    found, notes = numbers["levels"][level], Footnotes()
    rows = metric_rows(found["overall"], len(numbers["dataset"]["classes"]), notes)
    return Table(
        _caption("Overall metrics", numbers, level),
        ("Metric", f"Estimate ({percent(found['overall'])} % CI)", "Fold spread"),
        rows,
        (
            *_notes(numbers, level),
            "Fold spread: standard deviation over outer folds; not a confidence interval.",
            *notes.lines(),
        ),
    )


def level_class_table(numbers: Json, level: str) -> Table:
    """Metrics of each class against the rest, one row a patient or breast."""
    found, notes = numbers["levels"][level], Footnotes()
    rows = tuple(
        (
            f"{name}\n({found['units_by_class'][name]:,})",
            *(class_cell(entries.get(metric), notes) for metric in PER_CLASS),
        )
        for name, entries in found["per_class"].items()
    )
    return Table(
        _caption("Metrics per class, one against the rest", numbers, level),
        (f"Class\n({level}s)", *(class_metric_name(metric) for metric in PER_CLASS)),
        rows,
        (
            f"Each cell: estimate ({percent(found['overall'])} % CI).",
            *_notes(numbers, level),
            *notes.lines(),
        ),
    )


def level_tables(numbers: Json) -> Iterator[Block]:
    """The overall table of each level, or why there is none."""
    if not numbers["levels"]:
        yield Paragraph(f"By patient: {ONE_IMAGE}.")
    for level in numbers["levels"]:
        yield level_table(numbers, level)


def leading(numbers: Json) -> Json:
    """The overall entries of the level that the report leads with."""
    found: Json = numbers["levels"].get(leading_level(numbers["protocol"]), numbers)["overall"]
    return found


def beside(numbers: Json) -> Iterator[str]:
    """The searched metric at each level that does not lead: ``By patient (...): ROC-AUC ...``."""
    metric, first = str(numbers["protocol"]["metric"]), leading_level(numbers["protocol"])
    name = metric_name(metric, len(numbers["dataset"]["classes"]))
    if first != "image":
        yield f"By image: {name} {value(numbers['overall'].get(metric))}."
    for level, found in numbers["levels"].items():
        if level != first:
            figure = value(found["overall"].get(metric))
            yield f"By {level} ({SHORT[found['aggregate']]}): {name} {figure}."


def headline_value(numbers: Json) -> str:
    """``ROC-AUC by patient 0.86 (95 % CI 0.68–0.94, patients), 110 patients, 275 images``."""
    metric, level = str(numbers["protocol"]["metric"]), leading_level(numbers["protocol"])
    name = metric_name(metric, len(numbers["dataset"]["classes"]))
    by = f" by {level}" if level in numbers["levels"] else ""
    return f"{name}{by} {sentence_value(leading(numbers)[metric])}, {counted(numbers, 'tested')}"


def _caption(what: str, numbers: Json, level: str) -> str:
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return f"{what} by {level}: outer test rows{marks}"


def _notes(numbers: Json, level: str) -> tuple[str, ...]:
    found = numbers["levels"][level]
    by_class = ", ".join(f"{n:,} {name}" for name, n in found["units_by_class"].items())
    n = plural(found["patients"], "patient")
    n += f", {plural(found['units'], level)}" if level != "patient" else ""
    return (
        f"n = {n} ({by_class}), {plural(found['images'], 'image')}; {finished_folds(numbers)}.",
        *found["notes"],
        COVERS,
    )
