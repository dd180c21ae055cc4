"""Writer of the page of ``outerfold explain`` and of the files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from outerfold.reports.blocks import Block, Heading, Picture, Table
from outerfold.reports.explain.figures import case_figure
from outerfold.reports.explain.importance import contribution_csv, contribution_table
from outerfold.reports.explain.page import (
    TABLE,
    Inside,
    case_picture,
    case_table,
    classes_with_figure,
    contribution_blocks,
    inside_numbers,
    opening_blocks,
)
from outerfold.reports.figures.style import render
from outerfold.reports.journal_style import PLAIN, printed_in, style_of
from outerfold.reports.render.docx import document
from outerfold.reports.render.html import INSIDE, html_page, with_inside
from outerfold.reports.render.picture import draw_page
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence, results_text
from outerfold.reports.schema import Results
from outerfold.reports.wording import Json, stamps
from outerfold.storage.cache.files import write_bytes


def write_inside(inside: Inside, out: Path, *, cases: int) -> list[Path]:
    """Write all files into ``out`` and return their paths in order of writing; the page is last.

    They are printed in the style that the run's protocol names. If ``out`` has a report, it gets a
    link to the page. Files of an earlier call are deleted.

    Args:
        cases: number of places per row of each figure.
    """
    evidence = gather_evidence(inside.run)
    for old in out.glob("*_Inside_*"):
        old.unlink()  # files of an earlier call with other options
    with printed_in(style_of(evidence.numbers["protocol"])):
        written = [
            write_bytes(out / name, contents)
            for name, contents in _contents(inside, evidence, cases)
        ]
    report = out / "report.html"
    if report.exists():
        write_bytes(report, with_inside(report.read_text(encoding="utf-8")).encode())
    return written


def _contents(inside: Inside, evidence: Evidence, cases: int) -> Iterator[tuple[str, bytes]]:
    numbers = evidence.numbers
    yield "inside.json", results_text(inside_numbers(inside, numbers)).encode()
    figures: list[tuple[Picture, bytes]] = []
    for label in classes_with_figure(inside):
        shown = case_picture(inside, numbers, label)
        image = render(partial(_draw_cases, inside, label, cases), evidence, rows="tested")
        figures.append((shown, image))
        yield f"{shown.name}.jpg", image
        yield (
            f"{shown.name}.docx",
            document(
                [*opening_blocks(inside, numbers), shown],
                images={shown.name: image},
                properties_title=shown.caption,
            ),
        )
    if inside.contribution is not None:
        yield from _table_files(inside.contribution, numbers)
    yield INSIDE, _page(inside, numbers, figures).encode()


def _draw_cases(inside: Inside, label: int, cases: int, evidence: Evidence) -> Figure:
    return case_figure(inside, label, cases)


def _table_files(found: Json, numbers: Results) -> Iterator[tuple[str, bytes]]:
    table = contribution_table(found, stamps(numbers))
    blocks: list[Block] = [
        Table(f"Table 1. {table.caption}", table.header, table.rows, table.notes)
    ]
    with printed_in(PLAIN):
        text = contribution_csv(found, synthetic=numbers["synthetic_data"])
    yield f"{TABLE}.csv", text.encode()
    yield f"{TABLE}.docx", document(blocks, properties_title=table.caption)
    yield f"{TABLE}.jpg", draw_page(blocks)


def _page(inside: Inside, numbers: Results, figures: list[tuple[Picture, bytes]]) -> str:
    return html_page(
        f"{inside.run.name}: looking inside",
        [
            *opening_blocks(inside, numbers),
            Heading("Images"),
            *(shown for shown, _ in figures),
            *contribution_blocks(inside, numbers),
            Heading("Cases"),
            case_table(inside, numbers),
        ],
        numbers,
        images={shown.name: image for shown, image in figures},
        source="inside.json",
        back="report.html",
    )
