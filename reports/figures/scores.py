"""Figures of predictions: confusion matrices, ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from outerfold.reports.figures.style import empty, keyed, panel, sheet, titled
from outerfold.reports.render.palette import CLASS_COLOURS, INK, QUIET
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import Json, interval_text, number, value
from outerfold.storage.records import FloatArray, IntArray, Predictions

Curve = Callable[[IntArray, FloatArray], FloatArray]
"""Height on ``GRID`` of one fold's curve, from (n,) membership and (n,) probability."""

GRID: FloatArray = np.linspace(0, 1, 401)


def test_confusion(evidence: Evidence) -> Figure:
    """Outer test rows by true and predicted class."""
    return _confusion(evidence, evidence.numbers)


def validation_confusion(evidence: Evidence) -> Figure:
    """Inner out-of-fold rows by true and predicted class."""
    return _confusion(evidence, evidence.numbers["validation"])


def test_curves(evidence: Evidence) -> Figure:
    """One-vs-rest ROC and precision-recall curves of the outer test rows."""
    return _curves(evidence, evidence.test, evidence.numbers)


def validation_curves(evidence: Evidence) -> Figure:
    """The same curves of the inner out-of-fold rows."""
    return _curves(evidence, evidence.validation, evidence.numbers["validation"])


def shown_classes(classes: tuple[str, ...]) -> list[int]:
    """Two classes have one curve, the positive one's; several have one each."""
    return [1] if len(classes) == 2 else list(range(len(classes)))


def draw_confusion(axes: Axes, evidence: Evidence, numbers: Json, *, small: bool = False) -> None:
    """Row-normalised colours, counts, and the recall of each class with its interval."""
    import seaborn  # seconds, and pyplot with its globals: only when something is drawn

    classes = evidence.run.classes
    counts = np.array(numbers["confusion"], dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = np.empty(counts.shape, dtype=object)
    for row, column in np.ndindex(counts.shape):
        texts[row, column] = f"{counts[row, column]:,.0f}"
        if not (small and len(classes) > 2):  # no room there for a share with its interval
            texts[row, column] = _cell(numbers, classes[row], counts[row], column, row == column)
    seaborn.heatmap(
        share,
        ax=axes,
        cmap="Blues",
        vmin=0,
        vmax=1,
        square=True,
        cbar=False,
        annot=texts,
        fmt="",
        annot_kws={"linespacing": 1.25, "fontsize": 7 if small else 8},
    )
    _name_cells(axes, classes, small=small)


def _cell(numbers: Json, name: str, row: FloatArray, column: int, right: bool) -> str:
    """``22 of 114``; on the diagonal below the class's recall and its interval."""
    count = f"{row[column]:,.0f} of {row.sum():,.0f}"
    if not right:
        return count
    recall = numbers["per_class"][name]["recall"]
    if recall["estimate"] is None:
        return count
    return f"{number(recall['estimate'])}\n{interval_text(recall)}\n{count}"


def _name_cells(axes: Axes, classes: tuple[str, ...], *, small: bool) -> None:
    slant = small and len(classes) > 2
    centres = np.arange(len(classes)) + 0.5
    axes.set_xticks(centres, classes)
    if slant:
        for name in axes.get_xticklabels():
            name.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(centres, classes, rotation=0)
    axes.tick_params(length=0, labelsize=6.5 if small else 8)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")


def draw_roc(axes: Axes, rows: Predictions, at: int, colour: str, label: str = "") -> None:
    """Thin line a fold, thick line their mean."""
    _draw(axes, rows, at, roc_height, colour, label)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    _unit(axes, "1 − specificity", "Sensitivity")


def draw_pr(axes: Axes, rows: Predictions, at: int, colour: str, label: str = "") -> None:
    """Thin line a fold, thick line their mean, and the height a coin would reach."""
    _draw(axes, rows, at, precision_height, colour, label)
    axes.axhline(float(np.mean(rows.labels == at)), color=QUIET, lw=0.8, ls=":")
    _unit(axes, "Recall", "Precision")


def roc_height(member: IntArray, probability: FloatArray) -> FloatArray:
    """Sensitivity on ``GRID`` of 1 - specificity, straight between thresholds."""
    hits, alarms = _steps(member, probability)
    height = np.interp(GRID, alarms / alarms[-1], hits / hits[-1])
    height[0] = 0.0
    return np.asarray(height, dtype=np.float64)


def precision_height(member: IntArray, probability: FloatArray) -> FloatArray:
    """Precision on ``GRID`` of recall, in steps: its mean height is the average precision."""
    hits, alarms = (counts[1:] for counts in _steps(member, probability))
    first = np.searchsorted(hits / hits[-1], np.maximum(GRID, GRID[1] / 2), side="left")
    return np.asarray((hits / (hits + alarms))[first], dtype=np.float64)


def _steps(member: IntArray, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """True and false positives at each distinct threshold, from none to all."""
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(member[order])[last].astype(np.float64)
    return np.insert(hits, 0, 0.0), np.insert(last + 1 - hits, 0, 0.0)


def _confusion(evidence: Evidence, numbers: Json) -> Figure:
    if not numbers["overall"]:
        return empty(evidence)
    two = len(evidence.run.classes) == 2
    fig = sheet(2.7 if two else 3.9, width=4.2 if two else 5.6)
    axes = fig.subplots()
    draw_confusion(axes, evidence, numbers)
    bar = fig.colorbar(axes.collections[0], ax=axes, shrink=0.8, pad=0.02, aspect=24)
    bar.set_label("Share of the true class")
    bar.outline.set_visible(False)
    return fig


def _curves(evidence: Evidence, rows: Predictions | None, numbers: Json) -> Figure:
    if rows is None:
        return empty(evidence)
    shown = shown_classes(rows.classes)
    if len(shown) == 1:
        fig = sheet(3.35)
        pairs = [panel(fig, 1, 2)]
    else:
        fig, pairs = _grid(len(shown))
    for index, (at, (roc, pr)) in enumerate(zip(shown, pairs, strict=True)):
        name, entries = rows.classes[at], numbers["per_class"][rows.classes[at]]
        colour = CLASS_COLOURS[0 if len(shown) == 1 else at % len(CLASS_COLOURS)]
        draw_roc(roc, rows, at, colour)
        draw_pr(pr, rows, at, colour)
        heads = ("ROC: " + name, "Precision-recall: " + name) if len(shown) == 1 else (name, name)
        titled(roc, heads[0], f"AUC {value(entries['roc_auc'])}")
        titled(pr, heads[1], f"AP {value(entries['average_precision'])}")
        if index and 1 < len(shown) <= _ACROSS:
            roc.set_ylabel("")
            pr.set_ylabel("")
    keyed(fig, list(_LINES))
    return fig


_ACROSS = 4
"""So many classes fit side by side; more are set below one another."""

_LINES = (
    Line2D([], [], color=QUIET, lw=0.7, label="Single fold"),
    Line2D([], [], color=INK, lw=1.8, label="Mean over folds"),
    Line2D([], [], color=QUIET, lw=0.9, ls=":", label="Guessing"),
)


def _grid(classes: int) -> tuple[Figure, list[list[Axes]]]:
    """A (ROC, precision-recall) pair of axes for each class."""
    if classes > _ACROSS:
        fig = sheet(3.0 * classes)
        grid = panel(fig, classes, 2)
        return fig, [grid[2 * at : 2 * at + 2] for at in range(classes)]
    fig = sheet(2 * (0.85 + 4.7 / classes))
    grid = panel(fig, 2, classes)
    return fig, [[grid[at], grid[at + classes]] for at in range(classes)]


def _draw(axes: Axes, rows: Predictions, at: int, height: Curve, colour: str, label: str) -> None:
    heights = []
    for fold in dict.fromkeys(zip(rows.repeat.tolist(), rows.fold.tolist(), strict=True)):
        mine = (rows.repeat == fold[0]) & (rows.fold == fold[1])
        member = (rows.labels[mine] == at).astype(np.int64)
        if 0 < member.sum() < len(member):
            heights.append(height(member, rows.probabilities[mine, at]))
    for line in heights:
        axes.plot(GRID, line, color=colour, lw=0.6, alpha=0.35 if len(heights) <= 10 else 0.18)
    if heights:
        axes.plot(GRID, np.mean(heights, axis=0), color=colour, lw=1.8, label=label)


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.yaxis.set_major_locator(MultipleLocator(0.25))
    axes.grid(True)
