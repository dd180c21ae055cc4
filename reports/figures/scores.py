"""Figures of predictions: confusion matrices, ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from outerfold.reports.figures.style import (
    add_legend,
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import CLASS_COLOURS, CLASS_LINES, INK, QUIET
from outerfold.reports.render.svg import hint, hint_along
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.schema import Scored
from outerfold.reports.wording import interval_text, number, value
from outerfold.storage.records import FloatArray, IntArray, Predictions

Curve = Callable[[IntArray, FloatArray], FloatArray]
"""Function from class membership (n,) and probability (n,) to one curve's heights on ``GRID``."""

GRID: FloatArray = np.linspace(0, 1, 401)


def test_confusion(evidence: Evidence) -> Figure:
    """Draw the confusion matrix of the outer test rows."""
    return _confusion_figure(evidence, evidence.numbers)


def validation_confusion(evidence: Evidence) -> Figure:
    """Draw the confusion matrix of the inner out-of-fold rows."""
    return _confusion_figure(evidence, evidence.numbers["validation"])


def test_curves(evidence: Evidence) -> Figure:
    """Draw one-vs-rest ROC and precision-recall curves of the outer test rows."""
    return _curve_figure(evidence, evidence.test, evidence.numbers)


def validation_curves(evidence: Evidence) -> Figure:
    """Draw one-vs-rest ROC and precision-recall curves of the inner out-of-fold rows."""
    return _curve_figure(evidence, evidence.validation, evidence.numbers["validation"])


def shown_classes(classes: tuple[str, ...]) -> list[int]:
    """Indices of the classes with a curve: the positive one of two, or each of several."""
    return [1] if len(classes) == 2 else list(range(len(classes)))


def draw_confusion(axes: Axes, evidence: Evidence, numbers: Scored, *, small: bool = False) -> None:
    """Draw a confusion matrix: row-normalised colours, counts, recall with its interval."""
    import seaborn  # takes seconds and loads pyplot with its globals, so only for drawing

    classes = evidence.run.classes
    counts = np.array(numbers["confusion"], dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = np.empty(counts.shape, dtype=object)
    for row, column in np.ndindex(counts.shape):
        texts[row, column] = f"{counts[row, column]:,.0f}"
        if not (small and len(classes) > 2):  # small cells have no room for an interval
            texts[row, column] = _cell_text(
                numbers, classes[row], counts[row], column, row == column
            )
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
    for text, full in zip(axes.texts, share.ravel(), strict=True):
        text.set_color("white" if full > DARK_CELL else INK)
    _name_cells(axes, classes, small=small)


DARK_CELL = 0.65
"""Share of a row above which its blue is so dark that white is read better than black."""


def _cell_text(numbers: Scored, name: str, row: FloatArray, column: int, right: bool) -> str:
    """Text of a cell: ``22 of 114``; on the diagonal, recall and its interval come first."""
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
    """Draw a thin ROC curve for each fold and a thick one for their mean."""
    _draw_curves(axes, rows, at, roc_height, colour, label)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    _set_unit_axes(axes, "1 − specificity", "Sensitivity")


def draw_pr(axes: Axes, rows: Predictions, at: int, colour: str, label: str = "") -> None:
    """Draw a thin precision-recall curve for each fold, a thick mean, and the prevalence."""
    _draw_curves(axes, rows, at, precision_height, colour, label)
    axes.axhline(float(np.mean(rows.labels == at)), color=QUIET, lw=0.8, ls=":")
    _set_unit_axes(axes, "Recall", "Precision")


def roc_height(member: IntArray, probability: FloatArray) -> FloatArray:
    """Sensitivity on ``GRID`` of 1 - specificity, interpolated linearly between thresholds."""
    hits, alarms = _threshold_counts(member, probability)
    height = np.interp(GRID, alarms / alarms[-1], hits / hits[-1])
    height[0] = 0.0
    return np.asarray(height, dtype=np.float64)


def precision_height(member: IntArray, probability: FloatArray) -> FloatArray:
    """Precision on ``GRID`` of recall, as a step curve whose mean is the average precision."""
    hits, alarms = (counts[1:] for counts in _threshold_counts(member, probability))
    first = np.searchsorted(hits / hits[-1], np.maximum(GRID, GRID[1] / 2), side="left")
    return np.asarray((hits / (hits + alarms))[first], dtype=np.float64)


def _threshold_counts(member: IntArray, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts of true and of false positives at each distinct threshold, both beginning at 0."""
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(member[order])[last].astype(np.float64)
    return np.insert(hits, 0, 0.0), np.insert(last + 1 - hits, 0, 0.0)


def _confusion_figure(evidence: Evidence, numbers: Scored) -> Figure:
    if not numbers["overall"]:
        return placeholder_figure(evidence)
    two = len(evidence.run.classes) == 2
    fig = blank_figure(2.7 if two else 3.9, width=4.2 if two else 5.6)
    axes = fig.subplots()
    draw_confusion(axes, evidence, numbers)
    bar = fig.colorbar(axes.collections[0], ax=axes, shrink=0.8, pad=0.02, aspect=24)
    bar.set_label("Share of the true class")
    bar.outline.set_visible(False)
    return fig


def _curve_figure(evidence: Evidence, rows: Predictions | None, numbers: Scored) -> Figure:
    if rows is None:
        return placeholder_figure(evidence)
    shown = shown_classes(rows.classes)
    if len(shown) == 1:
        fig = blank_figure(3.35)
        pairs = [axes_grid(fig, 1, 2)]
    else:
        fig, pairs = _curve_grid(len(shown))
    for index, (at, (roc, pr)) in enumerate(zip(shown, pairs, strict=True)):
        name, entries = rows.classes[at], numbers["per_class"][rows.classes[at]]
        colour = CLASS_COLOURS[0 if len(shown) == 1 else at % len(CLASS_COLOURS)]
        draw_roc(roc, rows, at, colour)
        draw_pr(pr, rows, at, colour)
        heads = ("ROC: " + name, "Precision-recall: " + name) if len(shown) == 1 else (name, name)
        set_panel_title(roc, heads[0], f"AUC {value(entries['roc_auc'])}")
        set_panel_title(pr, heads[1], f"AP {value(entries['average_precision'])}")
        if index and 1 < len(shown) <= _ACROSS:
            roc.set_ylabel("")
            pr.set_ylabel("")
    add_legend(fig, list(_LINES))
    return fig


_ACROSS = 4
"""Most classes that fit side by side; more are placed below each other."""

_LINES = (
    Line2D([], [], color=QUIET, lw=0.7, label="Single fold"),
    Line2D([], [], color=INK, lw=1.8, label="Mean over folds"),
    Line2D([], [], color=QUIET, lw=0.9, ls=":", label="Guessing"),
)


def _curve_grid(classes: int) -> tuple[Figure, list[list[Axes]]]:
    """Figure with a (ROC, precision-recall) pair of axes for each class."""
    if classes > _ACROSS:
        fig = blank_figure(3.0 * classes)
        grid = axes_grid(fig, classes, 2)
        return fig, [grid[2 * at : 2 * at + 2] for at in range(classes)]
    fig = blank_figure(2 * (0.85 + 4.7 / classes))
    grid = axes_grid(fig, 2, classes)
    return fig, [[grid[at], grid[at + classes]] for at in range(classes)]


def _draw_curves(
    axes: Axes, rows: Predictions, at: int, height: Curve, colour: str, label: str
) -> None:
    heights = {}
    for fold in dict.fromkeys(zip(rows.repeat.tolist(), rows.fold.tolist(), strict=True)):
        mine = (rows.repeat == fold[0]) & (rows.fold == fold[1])
        member = (rows.labels[mine] == at).astype(np.int64)
        if 0 < member.sum() < len(member):
            heights[fold] = height(member, rows.probabilities[mine, at])
    for fold, curve in heights.items():
        alpha = 0.35 if len(heights) <= 10 else 0.18
        (line,) = axes.plot(GRID, curve, color=colour, lw=0.6, alpha=alpha)
        hint(line, str(fold[1]))
    if heights:
        style = CLASS_LINES[at % len(CLASS_LINES)] if len(rows.classes) > 2 else "-"
        mean = np.mean(list(heights.values()), axis=0)
        axes.plot(GRID, mean, color=colour, ls=style, lw=1.8, label=label)
        across, up = _WORDS[height]
        places = slice(20, None, 20)
        texts = [
            f"{rows.classes[at]}: {across} {number(x)}, {up} {number(y)}"
            for x, y in zip(GRID[places], mean[places], strict=True)
        ]
        hint_along(axes, GRID[places], mean[places], texts)


_WORDS: dict[Curve, tuple[str, str]] = {
    roc_height: ("1 − specificity", "sensitivity"),
    precision_height: ("recall", "precision"),
}
"""What the places of a curve are called, across and up."""


def _set_unit_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.yaxis.set_major_locator(MultipleLocator(0.25))
    axes.grid(True)
