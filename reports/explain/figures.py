"""Figure of one class's cases with their heat maps, one row per kind."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from outerfold.reports.explain.cases import KINDS, Kind
from outerfold.reports.explain.page import PREDICTED, Inside, Shown, decision_text, heat_map_text
from outerfold.reports.figures.style import FOOTER, HEADER
from outerfold.reports.render.palette import INK, QUIET, WIDTH
from outerfold.reports.render.picture import text_width

_LEFT, _RIGHT = 0.34, 0.62  # inches for the names of the rows and for the colour bar
_BETWEEN, _WITHIN, _LARGEST = 0.14, 0.03, 1.45
_TEXT, _SIZE = 0.50, 6.0  # inches below an image, points
_NAMES: dict[Kind, str] = {
    "right": "most confident\nright",
    "wrong": "most confident\nwrong",
    "borderline": "borderline",
}
_COLOURS = colormaps["inferno"]
_OPAQUE = 0.7


# Longer than 30 lines: sizes in inches are used by all the rows of the figure.
def case_figure(inside: Inside, label: int, count: int) -> Figure:
    """Draw the cases of one class, one row per kind, with ``count`` places per row.

    A row without a case shows the text "no such image".
    """
    room = (WIDTH - _LEFT - _RIGHT) / count
    side = min((room - _BETWEEN - _WITHIN) / 2, _LARGEST)
    height = len(KINDS) * (side + _TEXT) + HEADER + FOOTER
    fig = Figure(figsize=(WIDTH, height))
    for row, kind in enumerate(KINDS):
        bottom = height - HEADER - row * (side + _TEXT) - side
        cases = [one for one in inside.cases_of(label) if one.case.kind == kind]
        fig.text(
            0.17 / WIDTH,
            (bottom + side / 2) / height,
            _NAMES[kind],
            rotation=90,
            ha="center",
            va="center",
            fontsize=7,
            fontweight="bold",
        )
        if not cases:
            fig.text(
                _LEFT / WIDTH,
                (bottom + side / 2) / height,
                "no such image",
                color=QUIET,
                fontsize=7,
                va="center",
            )
        for place, one in enumerate(cases):
            left = _LEFT + place * room
            image, heat = (
                _add_axes(fig, left + shift, bottom, side) for shift in (0, side + _WITHIN)
            )
            _draw_case(image, heat, one)
            number = inside.number_of(one.case)
            _write_lines(image, one, number, inside.run.classes, 2 * side + _WITHIN, side)
    _colour_bar(fig, height, _scale_label(inside.cases_of(label)))
    return fig


def _add_axes(fig: Figure, left: float, bottom: float, side: float) -> Axes:
    wide, high = fig.get_size_inches()
    axes = fig.add_axes((left / wide, bottom / high, side / wide, side / high))
    axes.set_axis_off()
    return axes


def _draw_case(image: Axes, heat: Axes, one: Shown) -> None:
    """Draw the image, and the grey image under its heat, which is more opaque where hotter."""
    image.imshow(one.image, interpolation="bilinear")
    grey = one.image.mean(axis=2)
    heat.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    shares = one.heat.astype(np.float64)
    heat.imshow(_COLOURS(shares), alpha=_OPAQUE * shares**0.5, interpolation="bilinear")


def _write_lines(
    axes: Axes, one: Shown, number: int, classes: tuple[str, ...], room: float, side: float
) -> None:
    lines = (
        f"case {number}",
        shorten_decision(decision_text(one.case, classes), room),
        shorten_text(f"{one.case.fold} · {heat_map_text(one)}", room),
    )
    for place, line in enumerate(lines):
        axes.text(
            0,
            -(0.04 + place * 0.115) / side,
            line,
            transform=axes.transAxes,
            va="top",
            fontsize=_SIZE,
            color=QUIET if place != 1 else INK,
        )


def shorten_decision(text: str, room: float) -> str:
    """Text of a decision, without its first words if it is wider than ``room`` inches."""
    shorter = (text, text.removeprefix(PREDICTED), text.rsplit(": ", 1)[-1])
    return next(
        (one for one in shorter if text_width(one, _SIZE) <= room), shorten_text(text, room)
    )


def shorten_text(text: str, room: float) -> str:
    """Text cut to ``room`` inches, with an ellipsis."""
    if text_width(text, _SIZE) <= room:
        return text
    cuts = range(1, len(text))
    shorter = (f"{text[:-cut]}…" for cut in cuts)
    return next((one for one in shorter if text_width(one, _SIZE) <= room), "…")


def _scale_label(shown: list[Shown]) -> str:
    """Label of the colour bar, for the methods of a figure."""
    weights = {one.peak is not None for one in shown}
    if len(weights) > 1:
        return "heat (scale: see text)"
    return "above an even share" if weights == {True} else "fraction of the map's maximum"


def _colour_bar(fig: Figure, height: float, meaning: str) -> None:
    tall = min(1.5, height / 3)
    axes = fig.add_axes(
        ((WIDTH - 0.5) / WIDTH, 0.5 - tall / height / 2, 0.07 / WIDTH, tall / height)
    )
    bar = Colorbar(axes, ScalarMappable(cmap=_COLOURS), ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label(meaning, fontsize=6)
    axes.tick_params(labelsize=6, length=2)
