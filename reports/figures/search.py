"""Figure of the searches: inner scores in the order of the trials."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from outerfold.objectives.metrics import METRICS
from outerfold.reports.figures.style import (
    add_legend,
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import INK, QUIET, TRAIN, VALIDATION
from outerfold.reports.render.svg import hint
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import number
from outerfold.storage.records import FINAL, Search

_KEYS = (
    Line2D([], [], color=VALIDATION, marker="o", ms=3.5, ls="", label="Complete trial"),
    Line2D([], [], color=INK, marker="D", ms=4.5, mfc="none", ls="", label="Default (trial 0)"),
    Line2D([], [], color=QUIET, marker="x", ms=4, ls="", label="Pruned or failed"),
    Line2D([], [], color=TRAIN, label="Best so far"),
)


def search_history(evidence: Evidence) -> Figure:
    """Draw the inner score of each complete trial by its number, one panel a study."""
    searches = {name: one for name, one in evidence.run.search.items() if one.trials}
    if not searches:
        return placeholder_figure(evidence, "The trials of this run were not recorded.")
    metric = METRICS[str(evidence.run.protocol["metric"])]
    columns = min(3 if len(searches) <= 9 else 5, len(searches))
    rows = math.ceil(len(searches) / columns)
    fig = blank_figure(1.55 * rows + 0.3)
    grid = axes_grid(fig, rows, columns, share_y=True)
    for axes in grid[len(searches) :]:
        axes.set_axis_off()
    for index, (name, search) in enumerate(searches.items()):
        axes = grid[index]
        _draw_search(axes, search, maximise=metric.direction == "maximize")
        set_panel_title(axes, "Delivered model" if name == FINAL else name)
        if index + columns >= len(searches):
            axes.set_xlabel("Trial")
        if index % columns == 0:
            axes.set_ylabel(f"Inner {metric.label}")
    _leave_room(grid[0], [t.value for one in searches.values() for t in one.trials])
    add_legend(fig, list(_KEYS))
    return fig


def _leave_room(axes: Axes, values: list[float | None]) -> None:
    """Set the heights that all panels share, with room below the scores for the marks there."""
    scored = [value for value in values if value is not None]
    if scored and (span := max(scored) - min(scored)) > 0:
        axes.set_ylim(min(scored) - 0.22 * span, max(scored) + 0.1 * span)


def _draw_search(axes: Axes, search: Search, *, maximise: bool) -> None:
    scored = [(one.number, one.value) for one in search.trials if one.value is not None]
    cut = [one.number for one in search.trials if one.value is None]
    best, steps = None, []
    for at, score in scored:
        better = best is None or (score > best if maximise else score < best)
        best = score if better else best
        steps.append((at, best))
    if steps:
        last = max(one.number for one in search.trials)
        ends = [*steps, (last, steps[-1][1])]
        axes.plot(*zip(*ends, strict=True), color=TRAIN, lw=1.1, drawstyle="steps-post")
        (points,) = axes.plot(*zip(*scored, strict=True), color=VALIDATION, marker="o", ms=3, ls="")
        hint(points, *(f"Trial {at}: {number(score, 3)}" for at, score in scored))
    if scored and scored[0][0] == 0:
        (first,) = axes.plot(*scored[0], color=INK, marker="D", ms=5.5, mfc="none", ls="")
        hint(first, f"Trial 0, the default: {number(scored[0][1], 3)}")
    for at in cut:
        (mark,) = axes.plot(
            at, 0.06, color=QUIET, marker="x", ms=3.5, transform=axes.get_xaxis_transform()
        )
        hint(mark, f"Trial {at}: pruned or failed")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y")
