"""Writer of all files of a run's report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.chapters.decision_curve import NAME as DECISION_FILE
from outerfold.reports.chapters.decision_curve import decision_csv, decision_table
from outerfold.reports.chapters.errors import NAME as ERROR_FILE
from outerfold.reports.chapters.errors import error_csv
from outerfold.reports.figures.catalogue import FIGURES, FigureSpec, figures_of, pictures
from outerfold.reports.figures.style import render, render_inline
from outerfold.reports.paper.methods import (
    bibliography,
    methods_paragraphs,
    methods_text,
    reference_lines,
)
from outerfold.reports.paper.table_one import table_one
from outerfold.reports.render.docx import document
from outerfold.reports.render.html import INSIDE, with_inside
from outerfold.reports.render.legible import legible_blocks
from outerfold.reports.render.picture import draw_page
from outerfold.reports.report_page import later_figures, page, with_figures
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.results.levels import UNIT_LEVELS
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence, results_text
from outerfold.reports.schema import Results
from outerfold.reports.sections.fold_table import fold_table
from outerfold.reports.sections.level_tables import level_class_table, level_table
from outerfold.reports.sections.summary import summary, title
from outerfold.reports.sections.tables import Side, overall_table, per_class_table
from outerfold.reports.wording import stamps
from outerfold.storage.cache.files import write_bytes
from outerfold.storage.records import Run
from outerfold.storage.runs.results import predictions_csv

SUBMISSION = "submission"
"""Folder of the files that ``outerfold report`` adds to a report."""
_KINDS = (".docx", ".jpg")


def write_report(run: Run, out: Path) -> list[Path]:
    """Write all files of the report into ``out`` and return their paths in order of writing.

    The same run gives the same bytes. Each file is replaced in one step; ``report.html`` is
    written last, so the files of a page that opens are complete.
    """
    return write_evidence(gather_evidence(run), out)


def write_evidence(evidence: Evidence, out: Path) -> list[Path]:
    """Write all files of the report from its evidence; see ``write_report``."""
    shutil.rmtree(out / SUBMISSION, ignore_errors=True)  # made from an earlier report
    for level in (level for level in UNIT_LEVELS if level not in evidence.levels):
        for name in (f"predictions_{level}.csv", *(_table_name(level) + e for e in _KINDS)):
            (out / name).unlink(missing_ok=True)  # left by an earlier report at other levels
    for plate in set(FIGURES.values()) - set(figures_of(evidence.numbers)):
        for name in (plate.file, f"{plate.name}.docx"):
            (out / name).unlink(missing_ok=True)
    if len(evidence.run.classes) != 2:
        (out / DECISION_FILE).unlink(missing_ok=True)
    inside = (out / INSIDE).exists()
    return write_contents(evidence, out, inside=inside)


def write_contents(evidence: Evidence, out: Path, *, inside: bool) -> list[Path]:
    """Write the files of a report from its evidence; see ``write_report``.

    Args:
        evidence: numbers and tables.
        out: folder of the report.
        inside: whether the page of ``outerfold explain`` lies there too.
    """
    return [write_bytes(out / name, contents) for name, contents in _contents(evidence, inside)]


def _contents(evidence: Evidence, inside: bool) -> Iterator[tuple[str, bytes]]:
    numbers, classes = evidence.numbers, evidence.run.classes
    yield "results.json", results_text(numbers).encode()
    yield "predictions.csv", predictions_csv(evidence.test, classes).encode()
    yield "predictions_validation.csv", predictions_csv(evidence.validation, classes).encode()
    for level, rows in evidence.levels.items():
        yield f"predictions_{level}.csv", predictions_csv(rows, classes).encode()
    yield "methods.txt", methods_text(numbers).encode()
    yield "references.bib", bibliography(numbers).encode()
    for name, text in answer_tables(evidence).items():
        yield name, text.encode()
    images, drawings = {}, {}
    for plate in figures_of(numbers):
        images[plate.name], drawings[plate.name] = _drawn(plate, evidence)
        yield plate.file, images[plate.name]
    yield from _figure_documents(numbers, images)
    yield from _table_documents(numbers)
    yield from _summary_documents(numbers, images)
    report = page(numbers, images, drawings)
    yield "report.html", (with_inside(report) if inside else report).encode()


def _drawn(plate: FigureSpec, evidence: Evidence) -> tuple[bytes, str]:
    """File contents of a figure, and its SVG for the page; empty where the page has a picture."""
    if plate.inline:
        return render_inline(
            plate.draw, evidence, name=plate.name, kind=plate.kind, rows=plate.rows
        )
    return render(plate.draw, evidence, kind=plate.kind, rows=plate.rows), ""


def answer_tables(evidence: Evidence) -> dict[str, str]:
    """Text of the CSV files of the answers by name: of the decision curve and of the errors."""
    numbers = evidence.numbers
    leading = evidence.levels.get(leading_level(numbers["protocol"]), evidence.test)
    curve = {} if decision_table(numbers) is None else {DECISION_FILE: decision_csv(numbers)}
    return {**curve, ERROR_FILE: error_csv(leading)}


def _figure_documents(numbers: Results, images: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, picture in pictures(numbers).items():
        if name.startswith("Figure_"):
            yield (
                f"{name}.docx",
                document(
                    [picture],
                    images=images,
                    properties_title=picture.caption,
                    date=end_of_run(numbers),
                ),
            )


def _table_documents(numbers: Results) -> Iterator[tuple[str, bytes]]:
    for name, blocks in table_blocks(numbers):
        yield (
            f"{name}.docx",
            document(blocks, properties_title=_caption(blocks), date=end_of_run(numbers)),
        )
        yield f"{name}.jpg", draw_page(legible_blocks(blocks, numbers))


def table_blocks(numbers: Results) -> Iterator[tuple[str, list[Block]]]:
    """Name and blocks of each document that holds one table.

    Args:
        numbers: contents of ``results.json``.
    """
    for index, (name, table) in enumerate(_tables(numbers), start=1):
        caption = f"Table {index}. {table.caption}"
        yield name, [Table(caption, table.header, table.rows, table.notes)]


def _caption(blocks: list[Block]) -> str:
    """Caption of a table without its number."""
    return next(one.caption for one in blocks if isinstance(one, Table)).split(". ", 1)[1]


def _tables(numbers: Results) -> Iterator[tuple[str, Table]]:
    sides: tuple[Side, Side] = ("validation", "test")
    for side in sides:
        yield f"Table_{side.title()}_Overall_Metrics", overall_table(numbers, side)
    for side in sides:
        yield f"Table_{side.title()}_PerClass_Metrics", per_class_table(numbers, side)
    for level in numbers["levels"]:
        yield _table_name(level), level_table(numbers, level)
    yield "Table_Test_Fold_Metrics", fold_table(numbers)
    columns = table_one(numbers)
    if columns is not None:
        yield "Table_Columns", columns


def _table_name(level: str) -> str:
    return f"Table_Test_{level.title()}_Metrics"


def _summary_documents(numbers: Results, images: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    blocks, heading = summary(numbers), title(numbers)
    glance = pictures(numbers)["comprehensive_results"]
    date, stamp = end_of_run(numbers), "  ·  ".join(stamps(numbers))
    opened = with_figures(blocks, numbers)
    short = document([*opened, glance], title=heading, images=images, date=date, stamp=stamp)
    yield "Summary_Experiment.docx", short
    yield "Summary_Experiment.jpg", draw_page(legible_blocks(blocks, numbers), heading)
    whole = _number_tables([*opened, *_appendix(numbers, opened)])
    yield "Report.docx", document(whole, title=heading, images=images, date=date, stamp=stamp)


def end_of_run(numbers: Results) -> str:
    """When the run ended, in ISO format; empty where an earlier version made the run."""
    return str(numbers["provenance"].get("ended", ""))


def _appendix(numbers: Results, opened: list[Block]) -> Iterator[Block]:
    """Figures and tables that the summary lacks, and the methods."""
    yield Heading("Figures")
    yield from later_figures(opened, numbers)
    yield Heading("Tables")
    if numbers["overall"]:
        yield per_class_table(numbers, "test")
        yield from (level_class_table(numbers, level) for level in numbers["levels"])
        yield overall_table(numbers, "validation")
        yield per_class_table(numbers, "validation")
    yield Heading("Methods")
    yield from map(Paragraph, methods_paragraphs(numbers))
    yield Heading("References")
    yield from map(Paragraph, reference_lines(numbers))


def _number_tables(blocks: list[Block]) -> list[Block]:
    """The blocks, with the tables numbered from 1 in their order."""
    numbers = count(1)
    return [
        replace(one, caption=f"Table {next(numbers)}. {one.caption}")
        if isinstance(one, Table)
        else one
        for one in blocks
    ]
