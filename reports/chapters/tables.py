"""Tables of all chapters and of the search by name, for files of their own."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Table
from outerfold.reports.chapters.calibration import calibration_section
from outerfold.reports.chapters.decision_curve import decision_section
from outerfold.reports.chapters.errors import error_section
from outerfold.reports.chapters.performance import performance_section
from outerfold.reports.chapters.subgroups import subgroup_section
from outerfold.reports.paper.search import search_section
from outerfold.reports.schema import Results

OWN_TABLES = {
    "Operating points": "Table_Operating_Points",
    "Decisions by class of the source": "Table_Source_Classes",
    "Model against reader": "Table_Reader",
    "Calibration over all folds": "Table_Calibration",
    "Calibration of each fold": "Table_Fold_Calibration",
    "Net benefit": "Table_Net_Benefit",
    "Subgroups": "Table_Subgroups",
    "Largest errors": "Table_Largest_Errors",
    "Searches": "Table_Searches",
    "Chosen by each search": "Table_Search_Choices",
}
"""Name of each table by the beginning of its caption."""


def chapter_blocks(numbers: Results) -> Iterator[Block]:
    """Blocks of all chapters, in the order of the report."""
    yield from performance_section(numbers)
    yield from calibration_section(numbers)
    yield from decision_section(numbers)
    yield from subgroup_section(numbers)
    yield from error_section(numbers)


def own_tables(numbers: Results) -> Iterator[tuple[str, Table]]:
    """Name and table of each answer that the report has, and of the search."""
    for block in (*chapter_blocks(numbers), *search_section(numbers)):
        if isinstance(block, Table):
            yield next(n for head, n in OWN_TABLES.items() if block.caption.startswith(head)), block
