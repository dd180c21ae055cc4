"""Writer of all files of a run's report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.chapters.decision_curve import NAME as DECISION_FILE
from outerfold.reports.chapters.decision_curve import decision_csv, decision_table
from outerfold.reports.chapters.errors import NAME as ERROR_FILE
from outerfold.reports.chapters.errors import error_csv
from outerfold.reports.chapters.tables import OWN_TABLES, own_tables
from outerfold.reports.drawing import PICTURE, Drawer
from outerfold.reports.figures.catalogue import FIGURES, FigureSpec, figures_of, pictures
from outerfold.reports.journal_style import PLAIN, printed_in, style_of
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
from outerfold.reports.report_page import later_figures, later_tables, page, with_figures
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.results.levels import UNIT_LEVELS
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence, results_text
from outerfold.reports.schema import Results
from outerfold.reports.sections.fold_table import fold_table
from outerfold.reports.sections.level_tables import level_table
from outerfold.reports.sections.summary import summary, title
from outerfold.reports.sections.tables import Side, overall_table, per_class_table
from outerfold.reports.wording import stamps
from outerfold.storage.cache.files import write_bytes
from outerfold.storage.processes import Beside
from outerfold.storage.records import Run
from outerfold.storage.runs.results import predictions_csv

SUBMISSION = "submission"
"""Folder of the files that ``outerfold report`` adds to a report."""
COLUMNS = "Table_Columns"
_KINDS = (".docx", ".jpg")


Part = tuple[str, Callable[[], Iterable[tuple[str, bytes]]]]
"""What a part of a report is, and what makes its files: their names and contents."""
Step = Callable[[int, int, str], None]
"""Is told how many parts are written, how many there are, and which one is begun."""


def write_report(run: Run, out: Path, beside: Beside | None = None) -> list[Path]:
    """Write all files of the report into ``out`` and return their paths in order of writing.

    The same run gives the same bytes, whatever process draws a figure. Each file is replaced in one
    step; ``report.html`` is written last, so the files of a page that opens are complete.

    Args:
        run: the run.
        out: folder of the report.
        beside: other processes that draw figures; None for none.
    """
    with Drawer(beside) as figures:
        evidence = gather_evidence(run)
        remove_earlier(evidence.numbers, out)
        with printed_in(style_of(evidence.numbers["protocol"])):
            inside = (out / INSIDE).exists()
            return write_parts(report_parts(evidence, figures, inside=inside), out)


def remove_earlier(numbers: Results, out: Path) -> None:
    """Remove files of an earlier report that this one does not write anew."""
    shutil.rmtree(out / SUBMISSION, ignore_errors=True)
    tables = [name for name, _ in _tables(numbers)]
    gone = [f"{name}.jpg" for name in OWN_TABLES.values()]
    for name in (*map(_table_name, UNIT_LEVELS), *OWN_TABLES.values(), COLUMNS):
        gone += [] if name in tables else [f"{name}{kind}" for kind in _KINDS]
    gone += [f"predictions_{one}.csv" for one in UNIT_LEVELS if one not in numbers["levels"]]
    for plate in set(FIGURES.values()) - set(figures_of(numbers)):
        gone += [plate.file, f"{plate.name}.docx"]
    if len(numbers["dataset"]["classes"]) != 2:
        gone.append(DECISION_FILE)
    for file in gone:
        (out / file).unlink(missing_ok=True)


def write_parts(parts: Iterable[Part], out: Path, step: Step | None = None) -> list[Path]:
    """Write the files of a report's parts; return their paths in order of writing.

    Args:
        parts: the parts.
        out: folder of the report.
        step: is told of each part before it is made.
    """
    listed, written = list(parts), list[Path]()
    for done, (what, make) in enumerate(listed):
        if step is not None:
            step(done, len(listed), what)
        written += [write_bytes(out / name, contents) for name, contents in make()]
    return written


def report_parts(
    evidence: Evidence, figures: Drawer, *, inside: bool, template: bytes = b""
) -> Iterator[Part]:
    """Parts of a report in the order of writing; the later ones hold figures of the earlier ones.

    Args:
        evidence: numbers and tables.
        figures: draws the figures, in other processes from the first part on.
        inside: whether the page of ``outerfold explain`` lies there too.
        template: Word file in whose styles ``Report.docx`` is set; empty for none.
    """
    numbers = evidence.numbers
    images, drawings = dict[str, bytes](), dict[str, str]()
    plates = figures_of(numbers)
    figures.begin(PICTURE, tuple(plate.name for plate in plates), evidence)
    yield "numbers", partial(_number_files, evidence)
    for name, blocks in table_blocks(numbers):
        yield name, partial(_table_files, numbers, name, blocks)
    for plate in plates:
        yield plate.name, partial(_figure_file, plate, figures, evidence, images, drawings)
    yield "documents of the figures", partial(_figure_documents, numbers, images)
    yield "Summary_Experiment", partial(_summary_documents, numbers, images)
    yield "Report.docx", partial(_whole_document, numbers, images, template)
    yield "report.html", partial(_page_file, numbers, images, drawings, inside)


def _number_files(evidence: Evidence) -> Iterator[tuple[str, bytes]]:
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


def _figure_file(
    plate: FigureSpec,
    figures: Drawer,
    evidence: Evidence,
    images: dict[str, bytes],
    drawings: dict[str, str],
) -> Iterator[tuple[str, bytes]]:
    """File of a figure; its contents and its SVG for the page are kept in the two tables."""
    drawn = figures.draw(PICTURE, plate.name, evidence)
    images[plate.name], drawings[plate.name] = drawn[plate.kind], drawn["inline"].decode()
    yield plate.file, images[plate.name]


def _page_file(
    numbers: Results, images: dict[str, bytes], drawings: dict[str, str], inside: bool
) -> Iterator[tuple[str, bytes]]:
    report = page(numbers, images, drawings)
    yield "report.html", (with_inside(report) if inside else report).encode()


def answer_tables(evidence: Evidence) -> dict[str, str]:
    """Text of the CSV files of the answers by name: of the decision curve and of the errors."""
    numbers = evidence.numbers
    leading = evidence.levels.get(leading_level(numbers["protocol"]), evidence.test)
    with printed_in(PLAIN):
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


def _table_files(numbers: Results, name: str, blocks: list[Block]) -> Iterator[tuple[str, bytes]]:
    date = end_of_run(numbers)
    yield f"{name}.docx", document(blocks, properties_title=_caption(blocks), date=date)
    if name not in OWN_TABLES.values():
        yield from _picture_file(numbers, name, blocks)


def table_pictures(numbers: Results) -> Iterator[Part]:
    """Pictures of the tables that only `outerfold report` draws."""
    for name, blocks in table_blocks(numbers):
        if name in OWN_TABLES.values():
            yield f"{name}.jpg", partial(_picture_file, numbers, name, blocks)


def _picture_file(numbers: Results, name: str, blocks: list[Block]) -> Iterator[tuple[str, bytes]]:
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
        yield COLUMNS, columns
    yield from own_tables(numbers)


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


def _whole_document(
    numbers: Results, images: dict[str, bytes], template: bytes
) -> Iterator[tuple[str, bytes]]:
    opened = with_figures(summary(numbers), numbers)
    whole = _number_tables([*opened, *_appendix(numbers, opened)])
    date, stamp = end_of_run(numbers), "  ·  ".join(stamps(numbers))
    contents = document(
        whole, title=title(numbers), images=images, date=date, stamp=stamp, template=template
    )
    yield "Report.docx", contents


def end_of_run(numbers: Results) -> str:
    """When the run ended, in ISO format; empty where an earlier version made the run."""
    return str(numbers["provenance"].get("ended", ""))


def _appendix(numbers: Results, opened: list[Block]) -> Iterator[Block]:
    """Figures and tables that the summary lacks, and the methods."""
    yield Heading("Figures")
    yield from later_figures(opened, numbers)
    yield Heading("Tables")
    yield from later_tables(numbers)
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
