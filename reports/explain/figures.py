"""Cases of one class with their heat maps, a row a kind."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from outerfold.reports.explain.cases import KINDS, Kind
from outerfold.reports.explain.page import Inside, Shown, called, described
from outerfold.reports.figures.style import FOOTER, HEADER
from outerfold.reports.render.palette import INK, QUIET, WIDTH
from outerfold.reports.render.picture import width as text_width

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


def case_figure(inside: Inside, label: int, count: int) -> Figure:
    """Kinds from top to bottom, ``count`` places a row; an empty place says that there is none."""
    room = (WIDTH - _LEFT - _RIGHT) / count
    side = min((room - _BETWEEN - _WITHIN) / 2, _LARGEST)
    height = len(KINDS) * (side + _TEXT) + HEADER + FOOTER
    fig = Figure(figsize=(WIDTH, height))
    for row, kind in enumerate(KINDS):
        bottom = height - HEADER - row * (side + _TEXT) - side
        cases = [one for one in inside.of(label) if one.case.kind == kind]
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
            image, heat = (_place(fig, left + shift, bottom, side) for shift in (0, side + _WITHIN))
            _draw(image, heat, one)
            _tell(image, one, inside.run.classes, 2 * side + _WITHIN, side)
    _colour_bar(fig, height, _heat_of(inside.of(label)))
    return fig


def _place(fig: Figure, left: float, bottom: float, side: float) -> Axes:
    wide, high = fig.get_size_inches()
    axes = fig.add_axes((left / wide, bottom / high, side / wide, side / high))
    axes.set_axis_off()
    return axes


def _draw(image: Axes, heat: Axes, one: Shown) -> None:
    """The image, and the same in grey under its heat, more opaque where it is hotter."""
    image.imshow(one.image, interpolation="bilinear")
    grey = one.image.mean(axis=2)
    heat.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    shares = one.heat.astype(np.float64)
    heat.imshow(_COLOURS(shares), alpha=_OPAQUE * shares**0.5, interpolation="bilinear")


def _tell(axes: Axes, one: Shown, classes: tuple[str, ...], room: float, side: float) -> None:
    lines = (
        fitted(one.case.id, room, end=True),
        whole(called(one.case, classes), room),
        fitted(f"{one.case.fold} · {described(one)}", room),
    )
    for number, line in enumerate(lines):
        axes.text(
            0,
            -(0.04 + number * 0.115) / side,
            line,
            transform=axes.transAxes,
            va="top",
            fontsize=_SIZE,
            color=QUIET if number != 1 else INK,
        )


def whole(text: str, room: float) -> str:
    """``called``, without its first words where they leave the numbers no room."""
    shorter = (text, text.removeprefix("called "), text.rsplit(": ", 1)[-1])
    return next((one for one in shorter if text_width(one, _SIZE) <= room), fitted(text, room))


def fitted(text: str, room: float, *, end: bool = False) -> str:
    """No wider than ``room`` inches: the beginning of the text, or its end, and an ellipsis."""
    if text_width(text, _SIZE) <= room:
        return text
    cuts = range(1, len(text))
    shorter = (f"…{text[cut:]}" if end else f"{text[:-cut]}…" for cut in cuts)
    return next((one for one in shorter if text_width(one, _SIZE) <= room), "…")


def _heat_of(shown: list[Shown]) -> str:
    """What the colours mean, for the methods of a figure."""
    weights = {one.peak is not None for one in shown}
    if len(weights) > 1:
        return "heat, scaled as the text says"
    return "above an even share" if weights == {True} else "part of the map's own maximum"


def _colour_bar(fig: Figure, height: float, meaning: str) -> None:
    tall = min(1.5, height / 3)
    axes = fig.add_axes(
        ((WIDTH - 0.5) / WIDTH, 0.5 - tall / height / 2, 0.07 / WIDTH, tall / height)
    )
    bar = Colorbar(axes, ScalarMappable(cmap=_COLOURS), ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label(meaning, fontsize=6)
    axes.tick_params(labelsize=6, length=2)
