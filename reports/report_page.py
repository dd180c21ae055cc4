"""Page ``report.html``: the whole report as one file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture
from outerfold.reports.figures.catalogue import FIRST, OVERVIEW, SEARCH, pictures
from outerfold.reports.paper.methods import methods_paragraphs, reference_lines
from outerfold.reports.paper.search import HEADING as SEARCH_HEADING
from outerfold.reports.render.html import html_page
from outerfold.reports.schema import Results
from outerfold.reports.sections.level_tables import level_class_table
from outerfold.reports.sections.summary import summary
from outerfold.reports.sections.tables import overall_table, per_class_table

NOT_SHOWN = ("search_space", "command", "weights")
"""Provenance that stays in ``results.json``: the page is mailed, and paths may hold names."""


def page(
    numbers: Results, images: Mapping[str, bytes], drawings: Mapping[str, str] | None = None
) -> str:
    """HTML of the report.

    Args:
        numbers: contents of ``results.json``.
        images: file contents of every figure, by figure name.
        drawings: SVG that stands in place of the picture, by figure name.
    """
    blocks = with_figures(summary(numbers), numbers)
    return html_page(
        f"{numbers['provenance']['run']} ({numbers['task']})",
        [*blocks, *_sections(numbers, later_figures(blocks, numbers), images)],
        numbers,
        images=images,
        drawings=drawings or {},
        definitions=_provenance(numbers),
    )


def with_figures(blocks: Sequence[Block], numbers: Results) -> list[Block]:
    """The blocks with the figures that stand among them.

    The figure of the first page is before the first heading, those of the searches end their
    section.
    """
    heads = [place for place, one in enumerate(blocks) if isinstance(one, Heading)]
    found = pictures(numbers)
    parts = [*blocks[: heads[0]], found[FIRST]]
    for start, end in zip(heads, [*heads[1:], len(blocks)], strict=True):
        parts += blocks[start:end]
        if blocks[start] == Heading(SEARCH_HEADING):
            parts += [found[name] for name in SEARCH if name in found]
    return parts


def later_figures(blocks: Sequence[Block], numbers: Results) -> list[Picture]:
    """Figures that do not stand among the blocks, for the section on figures."""
    shown = {one.name for one in blocks if isinstance(one, Picture)}
    return [one for name, one in pictures(numbers).items() if name not in shown]


def later_tables(numbers: Results) -> Iterator[Block]:
    """Tables that the summary lacks, for the section on tables."""
    if numbers["overall"]:
        yield per_class_table(numbers, "test")
        yield from (level_class_table(numbers, level) for level in numbers["levels"])
        yield overall_table(numbers, "validation")
        yield per_class_table(numbers, "validation")


def _sections(
    numbers: Results, figures: Sequence[Picture], images: Mapping[str, bytes]
) -> Iterator[Block]:
    yield Heading("Figures")
    for one in sorted(figures, key=lambda one: one.name != OVERVIEW):
        if one.name in images:
            yield one
    yield Heading("Tables")
    yield from later_tables(numbers)
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
