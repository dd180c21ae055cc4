"""Writer of comparisons of two runs: CSV, a document and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outerfold.reports.render.docx import document
from outerfold.reports.render.picture import draw_page
from outerfold.reports.sections.comparison import Comparison, comparison_blocks, comparisons_csv
from outerfold.storage.cache.files import write_bytes


def write_comparisons(found: Sequence[Comparison], out: Path) -> Path:
    """Write ``comparison.csv``, ``.jpg`` and ``.docx`` into ``out``; return the DOCX path."""
    blocks = [block for one in found for block in comparison_blocks(one)]
    write_bytes(out / "comparison.csv", comparisons_csv(found).encode())
    write_bytes(out / "comparison.jpg", draw_page(blocks, "Comparison"))
    return write_bytes(out / "comparison.docx", document(blocks, title="Comparison"))
