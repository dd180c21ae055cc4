"""Pictures made of blocks: tables with three rules and whole pages of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from io import BytesIO

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.render.palette import ALARM, DPI, INK, QUIET, WIDTH, font_families

_MARGIN = 0.3  # inches
_LEADING = 1.42  # line height over font size
_INNER = WIDTH - 2 * _MARGIN
_GAP = 0.22  # inches between columns


_ASCENT = 0.76
"""Height of a letter such as l over the base line, over the font size."""


@dataclass(frozen=True)
class _Text:
    """One line of text: its upper left corner in inches, its size in points, and its look."""

    x: float
    y: float
    text: str
    size: float
    bold: bool
    colour: str


@dataclass
class _Page:
    """A column of text, filled from the top; ``y`` is the height used so far, in inches."""

    texts: list[_Text] = field(default_factory=list)
    rules: list[tuple[float, float, float]] = field(default_factory=list)
    y: float = _MARGIN

    def write(self, text: str, size: float, *, bold: bool = False, colour: str = INK) -> None:
        """Add the text, wrapped to the page's full width; ``size`` is in points."""
        for line in wrap_lines(text, _INNER, size, bold=bold):
            self.texts.append(_Text(_MARGIN, self.y, line, size, bold, colour))
            self.y += size * _LEADING / 72

    def rule(self, thickness: float, length: float) -> None:
        """Add a line from the left margin, ``thickness`` in points and ``length`` in inches."""
        self.rules.append((self.y, thickness, length))

    def image(self) -> Image.Image:
        image = Image.new("RGB", (round(WIDTH * DPI), round((self.y + _MARGIN) * DPI)), "white")
        pen = ImageDraw.Draw(image)
        for one in self.texts:
            x, base = one.x * DPI, one.y * DPI + _ASCENT * _pixels(one.size)
            for path, part in _runs(one.text, one.bold, _families()):
                font = _font(path, _pixels(one.size))
                pen.text((x, base), part, one.colour, font, anchor="ls")
                x += font.getlength(part)
        for y, thickness, length in self.rules:
            half = thickness * DPI / 72 / 2
            ends = (_MARGIN * DPI, (_MARGIN + length) * DPI)
            pen.rectangle((ends[0], y * DPI - half, ends[1], y * DPI + half), INK)
        return image


def draw_page(blocks: Sequence[Block], title: str = "") -> bytes:
    """JPG of the blocks from top to bottom; its height is the height they need.

    Pictures among the blocks are left out.
    """
    target = BytesIO()
    image = _compose_page(blocks, title).image()
    image.save(target, "JPEG", quality=95, subsampling=0, dpi=(DPI, DPI))
    return target.getvalue()


def _compose_page(blocks: Sequence[Block], title: str) -> _Page:
    page = _Page()
    if title:
        page.write(title, 12, bold=True)
        page.y += 0.08
    for block in blocks:
        match block:
            case Heading(text):
                page.y += 0.12
                page.write(text, 10, bold=True)
                page.y += 0.03
            case Paragraph(text, strong):
                page.write(text, 8, bold=strong, colour=ALARM if strong else INK)
                page.y += 0.07
            case Table():
                _write_table(page, block)
    return page


def _write_table(page: _Page, table: Table) -> None:
    page.write(table.caption, 8.5, bold=True)
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
        page.write(note, 6.8, colour=QUIET)
    page.y += 0.1


def _write_row(
    page: _Page, cells: tuple[str, ...], left: list[float], size: float, *, bold: bool
) -> None:
    page.y += 0.045
    for x, cell in zip(left, cells, strict=True):
        for index, line in enumerate(cell.split("\n")):
            drop = index * size * 1.3 / 72
            page.texts.append(_Text(_MARGIN + x, page.y + drop, line, size, bold, INK))
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
    return _width(text, size, bold, _families())


@lru_cache(maxsize=4096)
def _width(text: str, size: float, bold: bool, families: tuple[str, ...]) -> float:
    parts = _runs(text, bold, families)
    return sum(_font(path, _pixels(size)).getlength(part) for path, part in parts) / DPI


def _families() -> tuple[str, ...]:
    return font_families(printed_style().fonts)


def _pixels(size: float) -> float:
    return size * DPI / 72


@cache
def _font(path: str, pixels: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def _runs(text: str, bold: bool, families: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The text in parts, each with the file of the first font that has all of its letters."""
    runs: list[tuple[str, str]] = []
    for letter in text:
        path = _font_of(letter, bold, families)
        if runs and runs[-1][0] == path:
            runs[-1] = (path, runs[-1][1] + letter)
        else:
            runs.append((path, letter))
    return tuple(runs)


@cache
def _font_of(letter: str, bold: bool, families: tuple[str, ...]) -> str:
    """File of the first font that has the letter, else of the first font."""
    weight = "bold" if bold else "normal"
    paths = [
        font_manager.findfont(font_manager.FontProperties(family=name, weight=weight))
        for name in families
    ]
    drawn = (path for path in paths if ord(letter) in font_manager.get_font(path).get_charmap())
    return next(drawn, paths[0])
