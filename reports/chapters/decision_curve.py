"""Section on the decision curve, and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Table
from outerfold.reports.chapters.common import chapter_caption, fine_cell, leading_answers, levels_of
from outerfold.reports.schema import Results
from outerfold.reports.wording import number
from outerfold.storage.words.csv_tables import csv_text

NAME = "decision_curve.csv"
"""File of the numbers, in the folder of the report."""
MEANING = (
    "Net benefit (Vickers & Elkin 2006): true positives minus false positives times t / (1 − t), "
    "divided by all rows, where t is the probability from which a patient is treated. It is in "
    "units of true positives a row. Treating no one has 0. At each t, the model is of use if it is "
    "above both treating everyone and 0; which t matters is a clinical choice."
)
BAND = "How often these intervals hold the true value was not counted."


def decision_section(numbers: Results) -> Iterator[Block]:
    """Section on the decision curve; empty for several classes."""
    table = decision_table(numbers)
    if table is not None:
        yield Heading("Decision curve")
        yield table


def decision_table(numbers: Results) -> Table | None:
    """Table of the net benefit at each threshold, at the level of the headline."""
    level, answers = leading_answers(numbers)
    curve = None if answers is None else answers["decision_curve"]
    if curve is None:
        return None
    rows = tuple(
        (number(one["threshold"]), fine_cell(one), number(one["treat_all"], 3)) for one in curve
    )
    return Table(
        chapter_caption(f"Net benefit, by {level}", numbers),
        ("Threshold", "Model (95 % CI)", "Treat all"),
        rows,
        (MEANING, BAND, f"The numbers of every level are in {NAME}."),
    )


def decision_csv(numbers: Results) -> str:
    """CSV of the decision curve at every level.

    Columns: ``level,threshold,net_benefit,low,high,treat_all``; empty where there is no interval.
    """
    return csv_text(
        ("level", "threshold", "net_benefit", "low", "high", "treat_all"),
        [
            (level, one["threshold"], one["estimate"], one["low"], one["high"], one["treat_all"])
            for level, found in levels_of(numbers).items()
            for one in found["decision_curve"] or ()
        ],
    )
