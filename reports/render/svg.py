"""Figures within a page: SVG with tooltips, in the colours of the page, light or dark."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from outerfold.reports.render.palette import ALARM, FAINT, GRID, INK, QUIET, WIDTH, encode
from outerfold.storage.records import FloatArray

_HINT, _SPOTS = "hint:", "spots:"
_BETWEEN = "\n"
_PAGE_COLOURS = {
    INK.lower(): "--ink",
    QUIET.lower(): "--quiet",
    ALARM.lower(): "--alarm",
    GRID.lower(): "--line",
    FAINT.lower(): "--faint",
    "#ffffff": "--paper",
}
"""Variables of the style sheet that stand for the colours of print."""
_GROUP = re.compile(r'<g id="([^"]*)">')
_POINT = re.compile(r"<use ([^>]*)/>")
_FIGURE = re.compile(r'<figure id="([^"]*)"><div [^>]*>(<svg .*?</svg>)</div>', re.DOTALL)


def hint(mark: Artist, *texts: str) -> None:
    """Give a mark a tooltip, or each point of a line of points its own.

    Args:
        mark: line, point, bar or band.
        texts: one text for the whole mark, or one a point in their order.
    """
    mark.set_gid(_HINT + _BETWEEN.join(texts))


def hint_along(axes: Axes, x: FloatArray, y: FloatArray, texts: Sequence[str]) -> None:
    """Give places on a curve a tooltip; nothing is seen there before the pointer is over one.

    Args:
        axes: panel of the curve.
        x, y: (n,) places in the units of the panel.
        texts: n tooltips.
    """
    (spots,) = axes.plot(x, y, "o", color=INK, ms=7, visible=False, scalex=False, scaley=False)
    spots.set_gid(_SPOTS + _BETWEEN.join(texts))


def inline_svg(fig: Figure, name: str) -> str:
    """The figure as SVG to stand within a page; ids differ between figures of different names.

    Letters stay text. Lines of the layout are those of the last time that the figure was saved.

    Args:
        fig: figure that has been saved before.
        name: name of the figure.
    """
    fig.set_layout_engine(None)  # a placeholder would have it drawn twice
    for spots in fig.findobj(lambda one: str(one.get_gid()).startswith(_SPOTS)):
        spots.set(visible=True, alpha=0)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        text = with_hints(encode(fig, "svg").decode())
    size = re.search(r'viewBox="0 0 (\S+) (\S+)"', text)
    body = text[text.index("</defs>") + len("</defs>") :] if size else ""
    width = 750 * fig.get_figwidth() / WIDTH
    box = size[0] if size else ""
    return f'<svg {box} style="max-width: {width:.0f}px">{_shorten(body)}'.strip()


def with_hints(svg: str) -> str:
    """SVG of matplotlib with a title in each mark that has a tooltip; groups lose their names."""
    first, *rest = re.split(r'(?=<g id="(?:hint|spots):)', svg)
    parts = [first, *(_with_titles(part) for part in rest)]
    return _GROUP.sub("<g>", "".join(parts))


def kept_drawings(page: str) -> dict[str, str]:
    """SVG of the figures within a page, by name of the figure."""
    return dict(_FIGURE.findall(page))


def _with_titles(part: str) -> str:
    """A mark and what follows it, with its titles; ``part`` begins with the group of the mark."""
    name = _GROUP.match(part)
    if name is None:
        return part
    kind, _, told = name[1].partition(":")
    texts, inside, rest = told.split(_BETWEEN), *part[name.end() :].partition("</g>")[::2]
    opened = '<g class="spots">' if kind + ":" == _SPOTS else "<g>"
    if len(texts) == 1:
        return f"{opened}<title>{texts[0]}</title>{inside}</g>{rest}"
    left = iter(texts)
    titled = _POINT.sub(
        lambda point: f"<use {point[1]}><title>{next(left, '')}</title></use>", inside
    )
    return f"{opened}{titled}</g>{rest}"


def _shorten(svg: str) -> str:
    """The same drawing with the page's colours and font, and places to a hundredth of a point."""
    svg = re.sub(r' (d|x|y)="([^"]*)"', _rounded, svg)
    svg = re.sub(r"#[0-9a-fA-F]{6}", _page_colour, svg)
    svg = re.sub(r" ?font-family: [^;\"]*;?", "", svg)
    return re.sub(r"\n\s*", "\n", svg.replace("xlink:href", "href"))


def _rounded(match: re.Match[str]) -> str:
    places = re.sub(r"(\.\d\d)\d+", r"\1", match[2]).replace("\n", "")
    return f' {match[1]}="{places}"'


def _page_colour(match: re.Match[str]) -> str:
    found = _PAGE_COLOURS.get(match[0].lower())
    return f"var({found})" if found else match[0]
