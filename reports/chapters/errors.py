"""Section on the largest errors of each fold."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.analyses.errors import EACH, mistakes
from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.chapters.common import chapter_caption, leading_answers
from outerfold.reports.schema import Results
from outerfold.reports.wording import number
from outerfold.storage.records import Predictions
from outerfold.storage.words.csv_tables import csv_text

NAME = "errors.csv"
"""File that tells which image or patient each running number is; it is not for a paper."""


def error_section(numbers: Results) -> Iterator[Block]:
    """Section on the largest errors; empty before an outer fold has finished."""
    level, _ = leading_answers(numbers)
    if numbers["questions"] is None:
        return
    yield Heading("Largest errors")
    if not numbers["questions"]["mistakes"]:
        yield Paragraph(f"No {level} of the outer test rows was decided wrongly.")
        return
    yield error_table(numbers, level)


def error_table(numbers: Results, level: str) -> Table:
    """Table of the largest errors, by fold and true class."""
    assert numbers["questions"] is not None
    rows = tuple(
        (
            str(one["number"]),
            one["fold"],
            one["class"],
            one["predicted"],
            f"{one['rank']} of {one['of']}",
            number(one["probability"]),
            number(one["percentile"]),
        )
        for one in numbers["questions"]["mistakes"]
    )
    return Table(
        chapter_caption(f"Largest errors of each fold, by {level}", numbers),
        ("No.", "Fold", "True", "Decided", "Rank", "Probability", "Percentile"),
        rows,
        (
            f"The {EACH} largest errors of each true class a fold. Rank: among the fold's errors "
            "of the class. Probability: of the true class. Percentile: share of the fold's rows "
            "with a smaller one. Probabilities of two folds are of two models, so ranks compare "
            f"within a fold only. {NAME} tells which rows the numbers are.",
        ),
    )


def error_csv(rows: Predictions | None) -> str:
    """CSV of the running numbers: ``number,id,patient,fold,repeat``.

    Args:
        rows: outer test rows at the level of the headline.
    """
    header = ("number", "id", "patient", "fold", "repeat")
    if rows is None:
        return csv_text(header, ())
    found = [(one.number, one.row) for one in mistakes(rows)]
    return csv_text(
        header,
        [
            (at_number, rows.ids[at], rows.patients[at], rows.fold[at], int(rows.repeat[at]))
            for at_number, at in found
        ],
    )
