"""Pictures made of blocks: tables with three rules and whole pages of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from matplotlib import rc_context
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.render.palette import ALARM, INK, QUIET, WIDTH, encode, font_families

_MARGIN = 0.3  # inches
_LEADING = 1.42  # line height over font size
_INNER = WIDTH - 2 * _MARGIN
_GAP = 0.22  # inches between columns


@dataclass
class _Page:
    """A column of text, filled from the top; ``y`` is the height used so far, in inches."""

    texts: list[tuple[float, float, str, dict[str, object]]] = field(default_factory=list)
    rules: list[tuple[float, float, float]] = field(default_factory=list)
    y: float = _MARGIN

    def write(self, text: str, size: float, **look: object) -> None:
        """Add the text, wrapped to the page's full width; ``size`` is in points."""
        bold = look.get("fontweight") == "bold"
        for line in wrap_lines(text, _INNER, size, bold=bold):
            self.texts.append((_MARGIN, self.y, line, {"fontsize": size, **look}))
            self.y += size * _LEADING / 72

    def rule(self, thickness: float, length: float) -> None:
        """Add a line from the left margin, ``thickness`` in points and ``length`` in inches."""
        self.rules.append((self.y, thickness, length))

    def figure(self) -> Figure:
        height = self.y + _MARGIN
        fig = Figure(figsize=(WIDTH, height))
        for x, y, text, look in self.texts:
            fig.text(x / WIDTH, 1 - y / height, text, va="top", **look)  # type: ignore[arg-type]
        for y, thickness, length in self.rules:
            ends = [_MARGIN / WIDTH, (_MARGIN + length) / WIDTH]
            fig.add_artist(Line2D(ends, [1 - y / height] * 2, color=INK, lw=thickness))
        return fig


def draw_page(blocks: Sequence[Block], title: str = "") -> bytes:
    """JPG of the blocks from top to bottom; its height is the height they need."""
    fonts = list(font_families(printed_style().fonts))
    with rc_context({"font.family": fonts, "text.color": INK, "text.parse_math": False}):
        return encode(compose_page(blocks, title), "jpg")


def compose_page(blocks: Sequence[Block], title: str = "") -> Figure:
    """Figure of the page; pictures among the blocks are left out."""
    page = _Page()
    if title:
        page.write(title, 12, fontweight="bold")
        page.y += 0.08
    for block in blocks:
        match block:
            case Heading(text):
                page.y += 0.12
                page.write(text, 10, fontweight="bold")
                page.y += 0.03
            case Paragraph(text, strong):
                look = {"color": ALARM, "fontweight": "bold"} if strong else {}
                page.write(text, 8, **look)
                page.y += 0.07
            case Table():
                _write_table(page, block)
    return page.figure()


def _write_table(page: _Page, table: Table) -> None:
    page.write(table.caption, 8.5, fontweight="bold")
    page.y += 0.05
    size = _font_size(table)
    left, length = _column_edges(table, size)
    page.rule(1.2, length)
    _write_row(page, table.header, left, size, bold=True)
    page.rule(0.6, length)
    for row in table.rows:
        _write_row(page, row, left, size, bold=False)
    page.rule(1.2, length)
    page.y += 0.07
    for note in table.notes:
        page.write(note, 6.8, color=QUIET)
    page.y += 0.1


def _write_row(
    page: _Page, cells: tuple[str, ...], left: list[float], size: float, *, bold: bool
) -> None:
    page.y += 0.045
    weight = "bold" if bold else "normal"
    for x, cell in zip(left, cells, strict=True):
        for index, line in enumerate(cell.split("\n")):
            drop = index * size * 1.3 / 72
            look = {"fontsize": size, "fontweight": weight}
            page.texts.append((_MARGIN + x, page.y + drop, line, look))
    lines = max(cell.count("\n") + 1 for cell in cells)
    page.y += lines * size * 1.3 / 72 + 0.035


def _column_widths(table: Table, size: float) -> list[float]:
    def widest(cells: tuple[str, ...], bold: bool) -> float:
        lines = [line for cell in cells for line in cell.split("\n")]
        return max(text_width(line, size, bold=bold) for line in lines)

    columns = list(zip(*table.rows, strict=True)) or [("",)] * len(table.header)
    heads = [(head,) for head in table.header]
    return [max(widest(h, True), widest(c, False)) for h, c in zip(heads, columns, strict=True)]


def _font_size(table: Table) -> float:
    """Largest font size, in points, at which the columns fit on the page."""
    for size in (8.0, 7.5, 7.0, 6.5, 6.0, 5.5, 5.0):
        gaps = (len(table.header) - 1) * (_GAP if size > 6.5 else 0.12)
        if sum(_column_widths(table, size)) + gaps <= _INNER:
            return size
    return 4.5


def _column_edges(table: Table, size: float) -> tuple[list[float], float]:
    """Left edge of each column, and the width of the table, in inches."""
    widths = _column_widths(table, size)
    spare = (_INNER - sum(widths)) / max(len(widths) - 1, 1)
    gap = max(0.05, min(spare, 0.8))  # a row is hard to follow across wider gaps
    edges = [sum(widths[:at]) + at * gap for at in range(len(widths))]
    return edges, min(_INNER, edges[-1] + widths[-1])


def wrap_lines(text: str, room: float, size: float, *, bold: bool = False) -> Iterator[str]:
    """Yield the text in lines that are no wider than ``room`` inches; ``size`` is in points."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size, bold=bold) > room:
            yield line
            line = word
        else:
            line = longer
    yield line


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of one line of text in inches; ``size`` is in points."""
    fonts = font_families(printed_style().fonts)
    return (
        sum(_word_width(word, bold, fonts) for word in text.split(" ")) * size
        + text.count(" ")
        * (_word_width("a a", bold, fonts) - 2 * _word_width("a", bold, fonts))
        * size
    )


@lru_cache(maxsize=4096)
def _word_width(text: str, bold: bool, fonts: tuple[str, ...]) -> float:
    """Width of a word in inches at a font size of one point.

    It is measured at 100 points, because hinting rounds small glyphs.
    """
    if not text:
        return 0.0
    font = FontProperties(family=list(fonts), weight="bold" if bold else "normal")
    path = TextPath((0, 0), text, size=100, prop=font, usetex=False)
    return right_edge(path) / 100 / 72 * 1.02


def right_edge(path: Path) -> float:
    """Largest x of a closed outline of lines and quadratic curves, to the last bit that of
    ``get_extents``, which looks for the turning points of every curve and took a fifth of a report.

    A curve stays within the polygon of its points. So only those whose control point lies beyond
    all ends can reach further than these.
    """
    points, codes = np.asarray(path.vertices), np.asarray(path.codes)
    x = points[:, 0]
    controls = np.flatnonzero(codes == Path.CURVE3)[::2]
    ends = codes != Path.CLOSEPOLY
    ends[controls] = False
    edge = float(x[ends].max())
    for at in controls[x[controls] > edge]:
        curve = BezierSegment(points[at - 1 : at + 2])
        edge = max(edge, float(curve(curve.axis_aligned_extrema()[1])[:, 0].max(initial=edge)))
    return edge
