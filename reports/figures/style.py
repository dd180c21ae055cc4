"""Style of every figure: sizes, fonts, stamps, and conversion to bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from outerfold.reports.journal_style import PLAIN, printed_style
from outerfold.reports.render.legible import legible_evidence
from outerfold.reports.render.palette import (
    ALARM,
    GRID,
    INK,
    QUIET,
    WIDTH,
    encode,
    font_families,
)
from outerfold.reports.render.restyle import apply_style
from outerfold.reports.render.svg import inline_svg, with_hints
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import RowSet, sample_size, stamps

Draw = Callable[[Evidence], Figure]


_ROWS: dict[RowSet, str] = {
    "dataset": "all data",
    "tested": "outer test rows",
    "validation": "inner out-of-fold rows, optimistic",
}
HEADER, FOOTER = 0.30, 0.24
"""Inches at the top and the bottom without axes."""

_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,
}


_SIZES = ("font.size", "titlesize", "labelsize", "legend.fontsize")
"""Endings of the settings that are sizes of letters."""


def render(draw: Draw, evidence: Evidence, *, kind: str = "jpg", rows: RowSet = "dataset") -> bytes:
    """File contents of the figure at 300 dots per inch, with stamps and a footer.

    Args:
        kind: ``jpg`` or ``png``.
        rows: the rows that the footer counts.
    """
    with rc_context(_settings()):
        return encode(_finish_figure(draw, evidence, rows), kind)


def render_inline(
    draw: Draw, evidence: Evidence, *, name: str, kind: str = "jpg", rows: RowSet = "dataset"
) -> tuple[bytes, str]:
    """As ``render``, and the same figure as SVG with tooltips to stand within a page.

    Args:
        name: name of the figure.
        kind: ``jpg`` or ``png``.
        rows: the rows that the footer counts.
    """
    with rc_context(_settings()):
        figure = _finish_figure(draw, evidence, rows)
        return encode(figure, kind), inline_svg(figure, name)


def vectors(draw: Draw, evidence: Evidence, *, rows: RowSet = "dataset") -> dict[str, bytes]:
    """The figure as vector graphics: file contents by kind, ``svg`` and ``pdf``.

    Args:
        rows: the rows that the footer counts.
    """
    with rc_context({**_settings(), "svg.hashsalt": "outerfold"}):
        figure = _finish_figure(draw, evidence, rows)
        svg = with_hints(encode(figure, "svg").decode())
        figure.set_layout_engine("none")  # it is laid out; once more gives the same and takes time
        return {"svg": svg.encode(), "pdf": encode(figure, "pdf")}


def compose(draw: Draw, evidence: Evidence, *, rows: RowSet = "dataset") -> Figure:
    """Draw the figure in the report's style, with stamps and a footer."""
    with rc_context(_settings()):
        return _finish_figure(draw, evidence, rows)


def _settings() -> dict[Any, Any]:
    """Settings of matplotlib in the printed style, with letters of its size.

    Without any of its fonts the usual one stands in, which is wider and keeps its own size.
    """
    style = printed_style()
    fonts = font_families(style.fonts)
    scale = style.size / PLAIN.size if fonts[0] in style.fonts else 1
    sizes = {name: scale * size for name, size in _RC.items() if name.endswith(_SIZES)}
    return {**_RC, **sizes, "font.family": list(fonts)}


def blank_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Empty figure of ``width`` inches, with ``height`` inches between header and footer."""
    fig = Figure(figsize=(width, height + HEADER + FOOTER), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.05, hspace=0.05)  # type: ignore[union-attr, call-arg]
    return fig


def axes_grid(fig: Figure, rows: int, columns: int, *, share_y: bool = False) -> list[Axes]:
    """Axes of a grid in the figure, row by row."""
    grid = fig.subplots(rows, columns, squeeze=False, sharey=share_y)
    return [axes for line in grid for axes in line]


def placeholder_figure(evidence: Evidence, text: str = "No outer fold has finished yet.") -> Figure:
    """Placeholder for a figure that cannot be drawn, with the reason."""
    fig = blank_figure(2.0)
    axes = fig.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=QUIET)
    return fig


def set_panel_title(axes: Axes, title: str, line: str = "", *, index: int | None = None) -> None:
    """Set a panel's title, with a letter if ``index`` is given and a small line below it."""
    lettered = title if index is None else f"{chr(ord('a') + index)}  {title}"
    axes.set_title(lettered, pad=15 if line else 6)
    if line:
        axes.annotate(
            line,
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=7,
            va="bottom",
        )


def add_legend(fig: Figure, keys: list[Line2D]) -> None:
    """Add a legend for all panels in the header, to the left of the stamps."""
    fig.legend(handles=keys, loc="upper left", ncols=len(keys), borderaxespad=0.3)


def _finish_figure(draw: Draw, evidence: Evidence, rows: RowSet) -> Figure:
    shown = legible_evidence(evidence)
    return _stamp_figure(draw(shown), shown, rows)


def _stamp_figure(fig: Figure, evidence: Evidence, rows: RowSet) -> Figure:
    apply_style(fig)
    height = fig.get_figheight()
    marks = stamps(evidence.numbers)
    top = HEADER if marks or fig.legends else 0.04
    engine = fig.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, FOOTER / height, 1, 1 - (top + FOOTER) / height))  # type: ignore[call-arg]
    fig.text(
        0.008,
        0.07 / height,
        f"{evidence.run.name} · {_ROWS[rows]} · {sample_size(evidence.numbers, rows)}",
        fontsize=6.5,
        color=QUIET,
        ha="left",
        va="bottom",
    )
    if marks:
        fig.text(
            0.992,
            1 - 0.07 / height,
            "  ·  ".join(marks),
            fontsize=7.5,
            color=ALARM,
            fontweight="bold",
            ha="right",
            va="top",
            bbox={"boxstyle": "round,pad=0.3", "edgecolor": ALARM, "facecolor": "white"},
        )
    return fig
