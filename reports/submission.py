"""Files that authors hand in with a paper: vector figures, tables as sheets, filled checklists.

Only `outerfold report` writes them, since they take some seconds and the end of a run needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from outerfold.reports.blocks import Table
from outerfold.reports.checklists.pages import CHECKLISTS, checklist_blocks, checklist_csv
from outerfold.reports.drawing import VECTORS, Drawer
from outerfold.reports.figures.catalogue import figures_of
from outerfold.reports.journal_style import PLAIN, printed_in, style_of
from outerfold.reports.render.docx import document
from outerfold.reports.render.html import INSIDE
from outerfold.reports.render.sheets import workbook
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.schema import Results
from outerfold.reports.write import (
    SUBMISSION,
    Part,
    Step,
    end_of_run,
    remove_earlier,
    report_parts,
    table_blocks,
    table_pictures,
    write_parts,
)
from outerfold.storage.processes import Beside
from outerfold.storage.records import Run
from outerfold.storage.words.csv_tables import csv_text


def write_whole_report(
    run: Run,
    out: Path,
    paper: Mapping[str, str],
    step: Step | None = None,
    template: bytes = b"",
    beside: Beside | None = None,
) -> list[Path]:
    """Write a report and the files for a submission; return their paths in order of writing.

    Equal runs give equal bytes.

    Args:
        run: the run.
        out: folder of the report.
        paper: contents of ``paper.toml``.
        step: is told of each part before it is made.
        template: Word file in whose styles ``Report.docx`` is set; empty for none.
        beside: other processes that draw figures; None for none.
    """
    if step is not None:
        step(0, 1, "numbers")
    with Drawer(beside) as figures:
        evidence = gather_evidence(run)
        remove_earlier(evidence.numbers, out)
        (out / SUBMISSION).mkdir(parents=True)
        inside = (out / INSIDE).exists()
        with printed_in(style_of(evidence.numbers["protocol"])):
            parts = [
                *report_parts(evidence, figures, inside=inside, template=template),
                *table_pictures(evidence.numbers),
                *_parts(evidence, figures, paper),
            ]
            return write_parts(parts, out, step)


def _parts(evidence: Evidence, figures: Drawer, paper: Mapping[str, str]) -> Iterator[Part]:
    names = tuple(spec.name for spec in figures_of(evidence.numbers))
    figures.begin(VECTORS, names, evidence)
    yield "tables and checklists", partial(_text_files, evidence.numbers, paper)
    for name in names:
        yield f"{name}.svg", partial(_vector_files, name, figures, evidence)


def _text_files(numbers: Results, paper: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for name, body in submission_texts(numbers, paper):
        yield f"{SUBMISSION}/{name}", body


def _vector_files(name: str, figures: Drawer, evidence: Evidence) -> Iterator[tuple[str, bytes]]:
    for kind, body in figures.draw(VECTORS, name, evidence).items():
        yield f"{SUBMISSION}/{name}.{kind}", body


def submission_texts(numbers: Results, paper: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each file of a submission that is no figure: tables and checklists.

    Args:
        numbers: contents of ``results.json``.
        paper: contents of ``paper.toml``.
    """
    yield from _tables(numbers)
    for checklist in CHECKLISTS:
        blocks = checklist_blocks(checklist, numbers, paper)
        date = end_of_run(numbers)
        yield f"{checklist.file}.docx", document(blocks, title=checklist.name, date=date)
        with printed_in(PLAIN):
            text = checklist_csv(checklist, numbers, paper)
        yield f"{checklist.file}.csv", text.encode()


def _tables(numbers: Results) -> Iterator[tuple[str, bytes]]:
    with printed_in(PLAIN):
        plain = _sheets(numbers)
    for name, table in plain.items():
        rows = [_one_line(row) for row in table.rows]
        yield f"{name}.csv", csv_text(_one_line(table.header), rows).encode()
    yield "Tables.xlsx", workbook(_sheets(numbers), end_of_run(numbers))


def _sheets(numbers: Results) -> dict[str, Table]:
    """All tables by name, in the printed style."""
    sheets: dict[str, Table] = {}
    for name, blocks in table_blocks(numbers):
        sheets[name] = next(block for block in blocks if isinstance(block, Table))
    return sheets


def _one_line(cells: tuple[str, ...]) -> list[str]:
    return [cell.replace("\n", " ") for cell in cells]
