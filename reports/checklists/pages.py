"""Checklists as tables of a document and as CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from outerfold.reports.blocks import Block, Paragraph, Table
from outerfold.reports.checklists.claim import CLAIM
from outerfold.reports.checklists.item import Checklist, answer
from outerfold.reports.checklists.stard_ai import STARD_AI
from outerfold.reports.checklists.tripod_ai import TRIPOD_AI
from outerfold.reports.schema import Results
from outerfold.storage.words.csv_tables import csv_text

CHECKLISTS = (TRIPOD_AI, CLAIM, STARD_AI)
HEADER = ("Item", "What is asked", "Answer", "From")


def checklist_rows(
    checklist: Checklist, numbers: Results, paper: Mapping[str, str]
) -> list[tuple[str, str, str, str]]:
    """Rows of a checklist in the order of ``HEADER``.

    Args:
        checklist: the guideline.
        numbers: contents of ``results.json``.
        paper: contents of ``paper.toml``.
    """
    rows = []
    for item in checklist.items:
        found = answer(item, numbers, paper)
        rows.append((item.number, item.asked, found.text, found.origin))
    return rows


def count_answered(checklist: Checklist, numbers: Results, paper: Mapping[str, str]) -> int:
    """Number of items that the run or its author answers."""
    return sum(not answer(item, numbers, paper).open for item in checklist.items)


def checklist_blocks(
    checklist: Checklist, numbers: Results, paper: Mapping[str, str]
) -> list[Block]:
    """A checklist as a document: how far it is filled, then its table."""
    done = count_answered(checklist, numbers, paper)
    return [
        Paragraph(
            f"{checklist.source}. {checklist.note} {done} of {len(checklist.items)} items are "
            "answered; the others are for the author, who writes them into paper.toml in the run's "
            "folder and gives the command `outerfold report` again. Read every answer before you "
            "submit it: a run knows what was computed, not what was meant."
        ),
        Table(checklist.name, HEADER, tuple(checklist_rows(checklist, numbers, paper))),
    ]


def checklist_csv(checklist: Checklist, numbers: Results, paper: Mapping[str, str]) -> str:
    """A checklist as a CSV file."""
    return csv_text(HEADER, checklist_rows(checklist, numbers, paper))


def summary_lines(numbers: Results, paper: Mapping[str, str]) -> Iterator[str]:
    """One sentence a checklist: how many items are answered, and the file that holds it."""
    for checklist in CHECKLISTS:
        done = count_answered(checklist, numbers, paper)
        yield (
            f"{checklist.name}: {done} of {len(checklist.items)} items answered, "
            f"see {checklist.file}.docx."
        )
