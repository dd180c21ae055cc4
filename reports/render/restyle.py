"""A drawn figure in the colours and with the decimal sign of the printed style."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from matplotlib.ticker import ScalarFormatter

from outerfold.reports.journal_style import PLAIN, JournalStyle, printed_style


class _Decimals(ScalarFormatter):
    """Formatter of numbers at an axis, with a style's decimal sign."""

    def __init__(self, style: JournalStyle) -> None:
        super().__init__()
        self._style = style

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._style.decimals(super().__call__(x, pos))


def apply_style(fig: Figure) -> None:
    """Change a figure that was drawn in the plain style to the printed one."""
    style = printed_style()
    if style is PLAIN:
        return
    colours = dict(zip(map(str.lower, PLAIN.colours), style.colours, strict=True))
    arrows = (note.arrow_patch for note in fig.findobj(Annotation))
    for artist in (*fig.findobj(), *arrows):
        _recolour(artist, colours)
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(_Decimals(style))


def _recolour(artist: Artist | None, colours: dict[str, str]) -> None:
    match artist:
        case Line2D():
            for name in ("color", "markerfacecolor", "markeredgecolor"):
                found = _other(getattr(artist, f"get_{name}")(), colours)
                if found is not None:
                    artist.set(**{name: found})
        case Patch():
            for name in ("facecolor", "edgecolor"):
                found = _other(getattr(artist, f"get_{name}")(), colours)
                if found is not None:
                    artist.set(**{name: found})
        case Collection():
            faces = artist.get_facecolor()
            found = _other(faces[0], colours) if len(faces) == 1 else None
            if found is not None:
                artist.set_facecolor(found)


def _other(colour: object, colours: dict[str, str]) -> tuple[float, float, float, float] | None:
    """Colour in place of one of the plain style, as opaque as it was; None for any other."""
    if isinstance(colour, str) and colour in ("none", "auto"):
        return None
    other = colours.get(to_hex(colour))  # type: ignore[arg-type]
    alpha = to_rgba(colour)[3]  # type: ignore[arg-type]
    return None if other is None else to_rgba(other, alpha)
