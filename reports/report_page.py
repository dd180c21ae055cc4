"""Page ``report.html``: the whole report as one file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture
from outerfold.reports.figures.catalogue import FIRST, pictures
from outerfold.reports.paper.methods import methods_paragraphs, reference_lines
from outerfold.reports.render.html import (
    block_html,
    blocks_html,
    definitions_html,
    figure_html,
    html_page,
)
from outerfold.reports.schema import Results
from outerfold.reports.sections.level_tables import level_class_table
from outerfold.reports.sections.summary import summary
from outerfold.reports.sections.tables import overall_table, per_class_table

NOT_SHOWN = ("search_space", "command", "weights")
"""Provenance that stays in ``results.json``: the page is mailed, and paths may hold names."""


def page(numbers: Results, images: dict[str, bytes]) -> str:
    """HTML of the report.

    Args:
        numbers: contents of ``results.json``.
        images: file contents of every figure, by figure name.
    """
    name = escape(f"{numbers['provenance']['run']} ({numbers['task']})")
    body = "\n".join(
        [
            f"<header><h1>{name}</h1></header>",
            *_opening(numbers, images),
            *_sections(numbers, images),
        ]
    )
    return html_page(name, body, numbers)


def with_first_figure(blocks: list[Block], numbers: Results) -> list[Block]:
    """The blocks with the figure of the first page before their first heading."""
    at = next(place for place, one in enumerate(blocks) if isinstance(one, Heading))
    return [*blocks[:at], pictures(numbers)[FIRST], *blocks[at:]]


def _opening(numbers: Results, images: dict[str, bytes]) -> Iterable[str]:
    """The summary, with the figure of the first page."""
    for block in with_first_figure(summary(numbers), numbers):
        if isinstance(block, Picture) and block.name in images:
            yield figure_html(block, images[block.name])
        else:
            yield block_html(block)


def _sections(numbers: Results, images: dict[str, bytes]) -> Iterable[str]:
    yield block_html(Heading("Figures"))
    ordered = pictures(numbers)
    for name in ("comprehensive_results", *(n for n in ordered if n != "comprehensive_results")):
        if name in images and name != FIRST:
            yield figure_html(ordered[name], images[name])
    yield block_html(Heading("Tables"))
    if numbers["overall"]:
        yield blocks_html(
            [
                per_class_table(numbers, "test"),
                *(level_class_table(numbers, level) for level in numbers["levels"]),
                overall_table(numbers, "validation"),
                per_class_table(numbers, "validation"),
            ]
        )
    yield block_html(Heading("Methods"))
    yield blocks_html(Paragraph(text) for text in methods_paragraphs(numbers))
    yield blocks_html(Paragraph(text) for text in reference_lines(numbers))
    yield block_html(Heading("Provenance"))
    made = {k: v for k, v in numbers["provenance"].items() if k not in NOT_SHOWN}
    encoders = {
        name: {key: value for key, value in card.items() if key not in NOT_SHOWN}
        for name, card in made.get("encoders", {}).items()
    }
    made = {**made, "encoders": encoders} if encoders else made
    yield definitions_html({**made, "timing": numbers["timing"]})
    yield '<p class="note">Every number on this page is in the file results.json beside it.</p>'
