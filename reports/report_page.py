"""Page ``report.html``: the whole report as one file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.figures.catalogue import FIRST, OVERVIEW, pictures
from outerfold.reports.paper.methods import methods_paragraphs, reference_lines
from outerfold.reports.render.html import html_page
from outerfold.reports.schema import Results
from outerfold.reports.sections.level_tables import level_class_table
from outerfold.reports.sections.summary import summary
from outerfold.reports.sections.tables import overall_table, per_class_table

NOT_SHOWN = ("search_space", "command", "weights")
"""Provenance that stays in ``results.json``: the page is mailed, and paths may hold names."""


def page(numbers: Results, images: Mapping[str, bytes]) -> str:
    """HTML of the report.

    Args:
        numbers: contents of ``results.json``.
        images: file contents of every figure, by figure name.
    """
    return html_page(
        f"{numbers['provenance']['run']} ({numbers['task']})",
        [*with_first_figure(summary(numbers), numbers), *_sections(numbers, images)],
        numbers,
        images=images,
        definitions=_provenance(numbers),
    )


def with_first_figure(blocks: list[Block], numbers: Results) -> list[Block]:
    """The blocks with the figure of the first page before their first heading."""
    at = next(place for place, one in enumerate(blocks) if isinstance(one, Heading))
    return [*blocks[:at], pictures(numbers)[FIRST], *blocks[at:]]


def _sections(numbers: Results, images: Mapping[str, bytes]) -> Iterator[Block]:
    yield Heading("Figures")
    ordered = pictures(numbers)
    for name in (OVERVIEW, *(n for n in ordered if n not in (OVERVIEW, FIRST))):
        if name in images:
            yield ordered[name]
    yield Heading("Tables")
    if numbers["overall"]:
        yield per_class_table(numbers, "test")
        yield from (level_class_table(numbers, level) for level in numbers["levels"])
        yield overall_table(numbers, "validation")
        yield per_class_table(numbers, "validation")
    yield Heading("Methods")
    yield from map(Paragraph, methods_paragraphs(numbers))
    yield from map(Paragraph, reference_lines(numbers))
    yield Heading("Provenance")


def _provenance(numbers: Results) -> dict[str, Any]:
    made = {k: v for k, v in numbers["provenance"].items() if k not in NOT_SHOWN}
    encoders = {
        name: {key: value for key, value in card.items() if key not in NOT_SHOWN}
        for name, card in made.get("encoders", {}).items()
    }
    made = {**made, "encoders": encoders} if encoders else made
    return {**made, "timing": numbers["timing"]}
