"""Figure of the search: loss by epoch of the chosen configuration."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from outerfold.reports.figures.style import (
    add_legend,
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import INK, QUIET, TRAIN, VALIDATION
from outerfold.reports.render.svg import hint_along
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import number
from outerfold.storage.records import FoldResult

_KEYS = (
    Line2D([], [], color=TRAIN, ls="--", label="Training loss"),
    Line2D([], [], color=VALIDATION, label="Validation loss"),
    Line2D([], [], color=INK, ls=":", lw=1, label="Chosen epoch"),
)


def training_loss(evidence: Evidence) -> Figure:
    """Draw training and validation loss of every study, one panel each, each on its own scale.

    Studies may have chosen other losses (focal, smoothing), so their heights do not compare.
    """
    studies = [s for s in (*evidence.run.outer, evidence.run.final) if s is not None]
    if not studies:
        return placeholder_figure(evidence)
    columns = min(3 if len(studies) <= 9 else 5, len(studies))
    rows = math.ceil(len(studies) / columns)
    fig = blank_figure(1.55 * rows + 0.3)
    grid = axes_grid(fig, rows, columns)
    for index, axes in enumerate(grid):
        if index >= len(studies):
            axes.set_axis_off()
            continue
        loss_lines(axes, studies[index])
        set_panel_title(axes, _title(studies[index]))
        if index + columns >= len(studies):
            axes.set_xlabel("Epoch")
        if index % columns == 0:
            axes.set_ylabel("Loss")
    add_legend(fig, list(_KEYS))
    return fig


def loss_lines(axes: Axes, study: FoldResult) -> None:
    """Draw both losses of one study, and mark its chosen epoch."""
    epochs = [row.epoch for row in study.history]
    axes.plot(epochs, [row.fit_loss for row in study.history], color=TRAIN, ls="--", lw=1.2)
    axes.plot(epochs, [row.val_loss for row in study.history], color=VALIDATION, lw=1.3)
    told = study.history[:: max(1, len(study.history) // 20)]
    texts = [
        f"Epoch {row.epoch}: training loss {number(row.fit_loss, 3)}, "
        f"validation loss {number(row.val_loss, 3)}"
        for row in told
    ]
    places = np.array([row.epoch for row in told]), np.array([row.val_loss for row in told])
    hint_along(axes, *places, texts)
    axes.axvline(study.epochs, color=INK, ls=":", lw=1)
    axes.annotate(
        str(study.epochs),
        (study.epochs, 1),
        (3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=7,
        color=QUIET,
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")


def _title(study: FoldResult) -> str:
    return "Final (all rows)" if study.test is None else study.name
