"""Figure of what the searches tried: one line a trial over all parameters, and their importance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from outerfold.objectives.metrics import METRICS
from outerfold.reports.figures.style import add_legend, blank_figure, placeholder_figure
from outerfold.reports.journal_style import printed_style
from outerfold.reports.render.palette import CLASS_COLOURS, CLASS_LINES, FAINT, INK, QUIET, TEST
from outerfold.reports.render.svg import hint
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import number
from outerfold.storage.records import FINAL, Search, TrialRow

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_NAMED = 12
"""Largest number of outer folds whose chosen trials have a colour and a name of their own."""
_CUT, _COMPLETE = FAINT, "#8A8A8A"
_DEFAULT: dict[str, Any] = {"color": INK, "lw": 4.0, "alpha": 0.22, "solid_capstyle": "round"}
_CROWD = 30
"""Number of complete trials above which their lines are drawn fainter."""
_KEYS = (
    Line2D([], [], color=_CUT, lw=0.8, ls=":", label="Pruned or failed"),
    Line2D([], [], color=_COMPLETE, lw=0.9, label="Complete"),
    Line2D([], [], **_DEFAULT, label="Default (trial 0)"),
    Line2D([], [], color=TEST, lw=1.5, marker="o", ms=4, label="Chosen by a fold"),
)


@dataclass(frozen=True)
class _Axis:
    """Axis of a parameter: its range, or its listed values from the bottom to the top."""

    name: str
    drawn: Mapping[str, Any]

    @property
    def listed(self) -> bool:
        return "values" in self.drawn

    def height(self, value: Any, shift: float) -> float:
        """Height of a value from 0 to 1.

        Args:
            shift: place in the band of a listed value, from -0.5 to 0.5, so that lines through one
                value lie beside each other.
        """
        if self.listed:
            values = self.drawn["values"]
            return float((values.index(value) + 0.5 + 0.6 * shift) / len(values))
        scale = math.log if self.drawn["log"] else float
        low, high = scale(self.drawn["low"]), scale(self.drawn["high"])
        return float((scale(value) - low) / (high - low))


def search_parameters(evidence: Evidence) -> Figure:
    """Draw every trial of the outer folds' searches as a line over the searched parameters."""
    axes_of, searches = _axes_of(evidence), _outer_searches(evidence)
    if not axes_of or not searches:
        return placeholder_figure(evidence, "The searches of this run were not recorded.")
    shares = [one.importance for one in evidence.run.search.values() if one.importance]
    if not shares:
        fig = blank_figure(3.2)
        _draw_trials(fig.subplots(), evidence, axes_of, searches)
    else:
        fig = blank_figure(4.3)
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _draw_trials(top, evidence, axes_of, searches)
        _draw_importance(bottom, axes_of, shares)
    add_legend(fig, list(_KEYS))
    return fig


def _axes_of(evidence: Evidence) -> list[_Axis]:
    space: Mapping[str, Any] = evidence.run.provenance.get("search_space") or {}  # type: ignore[assignment]
    tried = {name for one in evidence.run.search.values() for t in one.trials for name in t.params}
    return [
        _Axis(name, drawn)
        for name, drawn in space.items()
        if name in tried and ("values" in drawn or drawn["low"] < drawn["high"])
    ]


def _outer_searches(evidence: Evidence) -> dict[str, Search]:
    """Searches of the outer folds; that of all rows where there are no others."""
    found = {name: one for name, one in evidence.run.search.items() if one.trials}
    return {name: one for name, one in found.items() if name != FINAL} or found


def _draw_trials(
    axes: Axes, evidence: Evidence, axes_of: Sequence[_Axis], searches: Mapping[str, Search]
) -> None:
    scored = [t.value for one in searches.values() for t in one.trials if t.value is not None]
    ends = (min(scored), max(scored)) if scored else None
    chosen = {name: evidence.numbers["search"][name]["chosen"] for name in searches}
    for at, (name, search) in enumerate(searches.items()):
        for trial in search.trials:
            points = list(_points(axes_of, trial, ends, at / max(1, len(searches) - 1) - 0.5))
            if trial.number != chosen[name]:
                (line,) = axes.plot(*zip(*points, strict=True), **_look(trial, len(scored)))
                hint(line, _told(name, trial))
    default = next((t for s in searches.values() for t in s.trials if t.number == 0), None)
    if default is not None and evidence.numbers["worth"]["params"]:
        points = list(_points(axes_of, default, None, 0.0))
        axes.plot(*zip(*points, strict=True), **_DEFAULT, zorder=3)
    _draw_chosen(axes, axes_of, searches, chosen, ends)
    _label_axes(axes, axes_of, ends, METRICS[str(evidence.run.protocol["metric"])].label)


def _points(
    axes_of: Sequence[_Axis], trial: TrialRow, ends: tuple[float, float] | None, shift: float
) -> Iterator[tuple[float, float]]:
    """Points of a trial's line; a parameter that it does not have is passed over."""
    for x, axis in enumerate(axes_of):
        value = trial.params.get(axis.name)
        if value is not None and (not axis.listed or value in axis.drawn["values"]):
            yield x, axis.height(value, shift)
    if ends is not None and trial.value is not None:
        yield len(axes_of), _share(trial.value, ends)


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return 0.5 if low == high else (value - low) / (high - low)


def _told(study: str, trial: TrialRow) -> str:
    """Tooltip of a trial."""
    score = "" if trial.value is None else f", inner score {number(trial.value, 3)}"
    values = ", ".join(f"{name.replace('_', ' ')} {_short(v)}" for name, v in trial.params.items())
    return f"{study}, trial {trial.number}: {trial.state}{score}; {values}".replace("\n", " ")


def _look(trial: TrialRow, complete: int) -> dict[str, Any]:
    if trial.value is None:
        return {"color": _CUT, "lw": 0.6, "ls": ":", "zorder": 1}
    faint = min(1.0, max(0.3, _CROWD / complete))
    return {"color": _COMPLETE, "lw": 0.7, "alpha": faint, "zorder": 2}


def _draw_chosen(
    axes: Axes,
    axes_of: Sequence[_Axis],
    searches: Mapping[str, Search],
    chosen: Mapping[str, int | None],
    ends: tuple[float, float] | None,
) -> None:
    named, labels = len(searches) <= MOST_NAMED, []
    looks = zip(cycle(CLASS_COLOURS), cycle(MARKERS), cycle(CLASS_LINES), strict=False)
    for at, ((name, search), (colour, marker, line)) in enumerate(
        zip(searches.items(), looks, strict=False)
    ):
        shift = at / max(1, len(searches) - 1) - 0.5
        for trial in (one for one in search.trials if one.number == chosen[name]):
            points = list(_points(axes_of, trial, ends, shift))
            look: dict[str, Any] = {"color": colour, "marker": marker, "ls": line}
            look = look if named else {"color": TEST}
            (drawn,) = axes.plot(*zip(*points, strict=True), lw=1.4, ms=4, zorder=4, **look)
            hint(drawn, f"{_told(name, trial)}; chosen")
            labels.append((points[-1][1], f"{name} ({number(trial.value, 3)})", colour))
    if named:
        _name_lines(axes, len(axes_of), labels)


def _name_lines(axes: Axes, x: int, labels: list[tuple[float, str, str]]) -> None:
    """Write the folds' names beside the ends of their lines, none over another."""
    gap, labels = 0.075, sorted(labels)
    heights: list[float] = []
    for height, _, _ in labels:
        heights.append(max(height, heights[-1] + gap) if heights else height)
    ends = {"shrinkA": 0, "shrinkB": 3}
    over = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for height, (end, text, colour) in zip(heights, labels, strict=True):
        axes.annotate(
            text,
            (x, end),
            (x + 0.22, height - over),
            fontsize=6.5,
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "relpos": (0, 0.5), **ends},
        )


def _label_axes(
    axes: Axes, axes_of: Sequence[_Axis], ends: tuple[float, float] | None, metric: str
) -> None:
    small: dict[str, Any] = {"fontsize": 6.5, "ha": "center"}
    bounds = [
        ("", "") if a.listed else (_short(a.drawn["low"]), _short(a.drawn["high"])) for a in axes_of
    ]
    bounds.append(("", "") if ends is None else (number(ends[0], 3), number(ends[1], 3)))
    for x, (low, high) in enumerate(bounds):
        axes.axvline(x, color=INK, lw=0.7, ymin=0.07 / 1.14, ymax=1.07 / 1.14, zorder=1)
        axes.text(x, -0.02, low, va="top", **small)
        axes.text(x, 1.02, high, va="bottom", **small)
    _name_values(axes, axes_of)
    axes.set_xlim(-0.3, len(axes_of) + 1.3)
    axes.set_ylim(-0.07, 1.07)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    names = [*(axis.name.replace("_", " ") for axis in axes_of), f"inner {metric}"]
    slanted: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, fontsize=6.5, **slanted)
    axes.tick_params(axis="x", length=0, labelbottom=True)


def _name_values(axes: Axes, axes_of: Sequence[_Axis]) -> None:
    """Write the listed values of a parameter beside its axis."""
    for x, axis in enumerate(axes_of):
        for value in axis.drawn.get("values", ()):
            axes.text(
                x + 0.06,
                axis.height(value, 0.0),
                _short(value),
                fontsize=6,
                va="center",
                zorder=5,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "lw": 0, "alpha": 0.75},
            )


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return printed_style().decimals(f"{value:g}")
    return str(value).replace("_", "\n")


def _draw_importance(
    axes: Axes, axes_of: Sequence[_Axis], shares: Sequence[Mapping[str, float]]
) -> None:
    """Draw the mean share of each parameter as a bar, and each study as a dot."""
    for x, axis in enumerate(axes_of):
        found = [one[axis.name] for one in shares if axis.name in one]
        if found:
            axes.bar(x, sum(found) / len(found), width=0.5, color="#D5D5D5", ec=QUIET, lw=0.6)
            axes.plot([x] * len(found), found, color=INK, marker="o", ms=2.5, ls="")
    axes.set_ylabel("Importance")
    axes.set_ylim(0, None)
    axes.tick_params(axis="x", labelbottom=False, length=0)
    axes.grid(axis="y")
