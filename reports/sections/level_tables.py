"""Results by patient (and by breast): tables, and the lines below the headline."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.objectives.metrics import class_metrics
from outerfold.reports.blocks import Block, Paragraph, Table
from outerfold.reports.results.level_entries import ONE_IMAGE, leading_level
from outerfold.reports.schema import Overall, Results, Scored
from outerfold.reports.sections.tables import (
    Footnotes,
    class_cell,
    interval_notes,
    metric_header,
    metric_rows,
    percent,
    spread_notes,
)
from outerfold.reports.wording import (
    coverage_sentence,
    finished_folds,
    metric_name,
    plural,
    sample_size,
    sentence_estimate,
    stamps,
    value,
)

SHORT = {"mean": "mean over images", "max": "largest over images", "noisy-or": "noisy-or of images"}


def level_table(numbers: Results, level: str) -> Table:
    """Table of overall metrics in which each patient or breast counts as one row."""
    found, notes = numbers["levels"][level], Footnotes()
    rows = metric_rows(found["overall"], len(numbers["dataset"]["classes"]), notes)
    return Table(
        _caption("Overall metrics", numbers, level),
        metric_header(found["overall"]),
        rows,
        (
            *_notes(numbers, level),
            *interval_notes(numbers, found["overall"]),
            *spread_notes(found["overall"]),
            *notes.lines(),
        ),
    )


def level_class_table(numbers: Results, level: str) -> Table:
    """Table of metrics per class in which each patient or breast counts as one row."""
    found, notes = numbers["levels"][level], Footnotes()
    rows = tuple(
        (
            f"{name}\n({found['units_by_class'][name]:,})",
            *(class_cell(entries.get(metric.name), notes) for metric in class_metrics()),
        )
        for name, entries in found["per_class"].items()
    )
    return Table(
        _caption("Metrics per class, one against the rest", numbers, level),
        (f"Class\n({level}s)", *(metric.label for metric in class_metrics())),
        rows,
        (
            f"Each cell: estimate ({percent(found['overall'])} % CI).",
            *_notes(numbers, level),
            *notes.lines(),
        ),
    )


def level_tables(numbers: Results) -> Iterator[Block]:
    """Overall table of each level, or a sentence on why there is none."""
    if not numbers["levels"]:
        yield Paragraph(f"By patient: {ONE_IMAGE}.")
    for level in numbers["levels"]:
        yield level_table(numbers, level)


def leading_entries(numbers: Results) -> Overall:
    """Overall entries of the level in the report's headline."""
    return leading_scores(numbers)["overall"]


def leading_scores(numbers: Results) -> Scored:
    """Metrics of the level in the report's headline."""
    return numbers["levels"].get(leading_level(numbers["protocol"]), numbers)


def other_level_lines(numbers: Results) -> Iterator[str]:
    """Searched metric at each level outside the headline: ``By patient (...): ROC-AUC ...``."""
    metric, first = str(numbers["protocol"]["metric"]), leading_level(numbers["protocol"])
    name = metric_name(metric, len(numbers["dataset"]["classes"]))
    if first != "image":
        yield f"By image: {name} {value(numbers['overall'].get(metric))}."
    for level, found in numbers["levels"].items():
        if level != first:
            figure = value(found["overall"].get(metric))
            yield f"By {level} ({SHORT[found['aggregate']]}): {name} {figure}."


def headline_value(numbers: Results) -> str:
    """Searched metric in the headline, with its interval and the sample size.

    For example ``ROC-AUC by patient 0.86 (95 % CI over patients 0.68–0.94), 110 patients,
    275 images``.
    """
    metric, level = str(numbers["protocol"]["metric"]), leading_level(numbers["protocol"])
    name = metric_name(metric, len(numbers["dataset"]["classes"]))
    by = f" by {level}" if level in numbers["levels"] else ""
    estimate = sentence_estimate(leading_entries(numbers)[metric])
    return f"{name}{by} {estimate}, {sample_size(numbers, 'tested')}"


def _caption(what: str, numbers: Results, level: str) -> str:
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return f"{what} by {level}: outer test rows{marks}"


def _notes(numbers: Results, level: str) -> tuple[str, ...]:
    found = numbers["levels"][level]
    by_class = ", ".join(f"{n:,} {name}" for name, n in found["units_by_class"].items())
    n = plural(found["patients"], "patient")
    n += f", {plural(found['units'], level)}" if level != "patient" else ""
    return (
        f"n = {n} ({by_class}), {plural(found['images'], 'image')}; {finished_folds(numbers)}.",
        *found["notes"],
        coverage_sentence(numbers),
    )
