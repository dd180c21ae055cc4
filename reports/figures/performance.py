"""Figure of the first page: ROC, calibration, metrics by fold, and the decision curve."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from outerfold.reports.analyses.decision_curve import net_benefit, treat_all
from outerfold.reports.figures.bands import Band, calibration_band, roc_band
from outerfold.reports.figures.style import (
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import CLASS_COLOURS, CLASS_LINES, INK, QUIET, TEST
from outerfold.reports.render.svg import hint, hint_along
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.schema import Interval, OverallEntry, Results, SubgroupColumn
from outerfold.reports.wording import cell_value, metric_name, number, value
from outerfold.storage.records import Predictions

_TWO = ("roc_auc", "sensitivity", "specificity")
_SEVERAL = ("roc_auc", "balanced_accuracy", "accuracy")
_MARKS = ("o", "s", "^")


def performance(evidence: Evidence) -> Figure:
    """Draw the answers of the first page, at the level of the headline."""
    rows, level = _leading_rows(evidence)
    if rows is None:
        return placeholder_figure(evidence)
    fig = blank_figure(6.2)
    roc, calibration, forest, last = axes_grid(fig, 2, 2)
    if len(rows.classes) == 2:
        _draw_roc(roc, rows, evidence.numbers, level)
        _draw_calibration(calibration, rows, evidence.numbers, level)
        _draw_benefit(last, rows, evidence.numbers, level)
    else:
        _draw_class_rocs(roc, rows, evidence.numbers, level)
        _draw_class_calibration(calibration, rows, level)
        _draw_recalls(last, evidence.numbers, level)
    _draw_folds(forest, evidence.numbers, level)
    return fig


def subgroup_forest(evidence: Evidence) -> Figure:
    """Draw the ROC-AUC of each subgroup with its interval, beside its counts."""
    questions = evidence.numbers["questions"]
    columns = questions["subgroups"] if questions else []
    if not columns:
        text = "No subgroups were asked for: report RUN --subgroups age:50|70,density"
        return placeholder_figure(evidence, text)
    lines = sum(1 + len(column["groups"]) for column in columns)
    fig = blank_figure(0.7 + 0.24 * (lines + 1))
    forest, table = fig.subplots(1, 2, sharey=True, width_ratios=(1.0, 1.0))
    _draw_forest(forest, table, evidence.numbers, columns)
    return fig


def _leading_rows(evidence: Evidence) -> tuple[Predictions | None, str]:
    level: str = leading_level(evidence.numbers["protocol"])
    if level in evidence.levels:
        return evidence.levels[level], level
    return evidence.test, "image"


def _overall(numbers: Results, level: str) -> dict[str, OverallEntry]:
    return numbers["levels"].get(level, numbers)["overall"]


def _draw_band(axes: Axes, band: Band, *, every: int, words: tuple[str, str]) -> None:
    """Draw a curve with its band, and tell its places.

    Args:
        every: number of points from one place that is told to the next.
        words: what is told, across and up.
    """
    axes.fill_between(band.x, band.low, band.high, color=TEST, alpha=0.18, lw=0)
    axes.plot(band.x, band.height, color=TEST, lw=1.7)
    told = slice(None, None, every)
    x, y, low, high = band.x[told], band.height[told], band.low[told], band.high[told]
    texts = [
        f"{words[0]} {number(at)}: {words[1]} {number(height)} ({number(under)}–{number(over)})"
        for at, height, under, over in zip(x, y, low, high, strict=True)
    ]
    hint_along(axes, x, y, texts)


def _draw_roc(axes: Axes, rows: Predictions, numbers: Results, level: str) -> None:
    band, scores = roc_band(rows), _overall(numbers, level)
    if band is not None:
        _draw_band(axes, band, every=10, words=("1 − specificity", "sensitivity"))
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    found, spared = scores["sensitivity"], scores["specificity"]
    if found["estimate"] is not None and spared["estimate"] is not None:
        at = 1 - spared["estimate"], found["estimate"]
        if found["low"] is not None and found["high"] is not None:
            axes.plot([at[0]] * 2, [found["low"], found["high"]], color=INK, lw=1)
        if spared["low"] is not None and spared["high"] is not None:
            axes.plot([1 - spared["low"], 1 - spared["high"]], [at[1]] * 2, color=INK, lw=1)
        (dot,) = axes.plot(*at, "o", color=INK, ms=5, label="Decisions made")
        hint(dot, f"Decisions made: sensitivity {value(found)}, specificity {value(spared)}")
        axes.legend(loc="lower right")
    _unit_square(axes, "1 − specificity", "Sensitivity")
    set_panel_title(axes, f"ROC by {level}", f"AUC {value(scores['roc_auc'])}", index=0)


def _draw_class_rocs(axes: Axes, rows: Predictions, numbers: Results, level: str) -> None:
    per_class = numbers["levels"].get(level, numbers)["per_class"]
    for at, name in enumerate(rows.classes):
        band = roc_band(rows, at, resamples=2)
        if band is None:
            continue
        auc = per_class[name]["roc_auc"]["estimate"]
        label = f"{name} {number(auc)}" if auc is not None else name
        style = CLASS_LINES[at % len(CLASS_LINES)]
        colour = CLASS_COLOURS[at % len(CLASS_COLOURS)]
        (curve,) = axes.plot(band.x, band.height, color=colour, lw=1.5, ls=style, label=label)
        hint(curve, f"{name}: AUC {value(per_class[name]['roc_auc'])}")
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", handlelength=2.2)
    _unit_square(axes, "1 − specificity", "Sensitivity")
    name = metric_name("roc_auc", len(rows.classes))
    line = f"one class against the rest, {name} {value(_overall(numbers, level)['roc_auc'])}"
    set_panel_title(axes, f"ROC by {level}", line, index=0)


def _draw_calibration(axes: Axes, rows: Predictions, numbers: Results, level: str) -> None:
    positive = rows.classes[1]
    words = f"probability of {positive}", f"share of {positive}"
    _draw_band(axes, calibration_band(rows), every=2, words=words)
    _add_histogram(axes, rows.probabilities[:, 1])
    _unit_square(axes, f"Probability of {positive}", f"Share of {positive}")
    questions = numbers["questions"]
    found = questions["levels"][level]["calibration"] if questions else None
    line = "" if found is None else f"slope {value(found['slope'])}"
    set_panel_title(axes, f"Calibration by {level}", line, index=1)


def _draw_class_calibration(axes: Axes, rows: Predictions, level: str) -> None:
    """Share of right answers by the largest probability, as one question of two answers."""
    sure = rows.probabilities.max(axis=1)
    right = (rows.probabilities.argmax(axis=1) == rows.labels).astype(np.int64)
    asked = Predictions(
        rows.ids,
        rows.patients,
        rows.fold,
        rows.repeat,
        right,
        np.stack([1 - sure, sure], axis=1),
        np.ones_like(right),
        ("wrong", "right"),
        rows.groups,
    )
    words = "largest probability", "share of right answers"
    _draw_band(axes, calibration_band(asked), every=2, words=words)
    _add_histogram(axes, sure)
    _unit_square(axes, "Largest probability", "Share of right answers")
    set_panel_title(axes, f"Calibration by {level}", "of the largest probability", index=1)


def _add_histogram(axes: Axes, probabilities: np.ndarray) -> None:
    """Diagonal, and the distribution of the probabilities along the bottom."""
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls=":")
    counts, edges = np.histogram(probabilities, bins=40, range=(0, 1))
    axes.bar(
        edges[:-1],
        0.12 * counts / counts.max(),
        width=edges[1] - edges[0],
        align="edge",
        color=QUIET,
        alpha=0.6,
        lw=0,
    )


def _draw_benefit(axes: Axes, rows: Predictions, numbers: Results, level: str) -> None:
    questions = numbers["questions"]
    curve = questions["levels"][level]["decision_curve"] if questions else None
    share = float(rows.labels.mean())
    fine = np.linspace(0.01, 0.99, 99)
    heights = [net_benefit(rows.labels, rows.probabilities[:, 1], t) for t in fine]
    everyone = [treat_all(share, t) for t in fine]
    if curve:
        known = [(one["threshold"], one["low"], one["high"]) for one in curve]
        band = [(t, low, high) for t, low, high in known if low is not None and high is not None]
        if band:
            x, low, high = zip(*band, strict=True)
            axes.fill_between(x, low, high, color=TEST, alpha=0.18, lw=0)
    axes.plot(fine, heights, color=TEST, lw=1.7, label="Model")
    texts = [
        f"threshold {number(t)}: model {number(model, 3)}, treat all {number(every, 3)}"
        for t, model, every in zip(fine, heights, everyone, strict=True)
    ]
    hint_along(axes, fine[4::5], np.array(heights)[4::5], texts[4::5])
    axes.plot(fine, everyone, color=INK, lw=1.1, ls="--", label="Treat all")
    axes.axhline(0, color=QUIET, lw=1.1, ls=":", label="Treat none")
    top = max(share, 0.05)
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.12 * top), xlabel="Threshold probability")
    axes.set_ylabel("Net benefit")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True)
    axes.legend(loc="upper right")
    set_panel_title(axes, f"Decision curve by {level}", index=3)


def _draw_recalls(axes: Axes, numbers: Results, level: str) -> None:
    per_class = numbers["levels"].get(level, numbers)["per_class"]
    for at, (name, entries) in enumerate(per_class.items()):
        colour = CLASS_COLOURS[at % len(CLASS_COLOURS)]
        _draw_interval(axes, at, entries["recall"], colour, "o", name=f"{name}: recall")
    names = [f"{name}\n{value(entries['recall'])}" for name, entries in per_class.items()]
    axes.set_yticks(range(len(per_class)), names)
    axes.set_ylim(len(per_class) - 0.5, -0.5)
    axes.set(xlim=(0, 1), xlabel="Recall")
    axes.grid(axis="x")
    set_panel_title(axes, f"Recall by {level}", index=3)


def _draw_folds(axes: Axes, numbers: Results, level: str) -> None:
    """Forest of metrics: each fold with its own interval, and all folds."""
    folds, scores = numbers["folds"][level], _overall(numbers, level)
    listed = _TWO if len(numbers["dataset"]["classes"]) == 2 else _SEVERAL
    metrics = [name for name in listed if name in scores]
    count = len(numbers["dataset"]["classes"])
    for at, metric in enumerate(metrics):
        colour, mark, name = CLASS_COLOURS[at], _MARKS[at], metric_name(metric, count)
        shift = 0.24 * (at - (len(metrics) - 1) / 2)
        for row, fold in enumerate(folds):
            told = f"{fold['fold']}: {name}"
            entry = fold["metrics"].get(metric)
            _draw_interval(axes, row + shift, entry, colour, mark, name=told)
        last, told = len(folds) + 0.4 + shift, f"All folds: {name}"
        _draw_interval(axes, last, scores[metric], colour, mark, name=told, bold=True)
    names = [fold["fold"] for fold in folds]
    axes.set_yticks([*range(len(folds)), len(folds) + 0.4], [*names, "All"])
    axes.axhline(len(folds) - 0.3, color=QUIET, lw=0.6)
    axes.set_ylim(len(folds) + 0.95, -0.6)
    axes.set(xlim=(-0.02, 1.02), xlabel="Score")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.grid(axis="x")
    _add_metric_legend(axes, [metric_name(metric, count) for metric in metrics])
    axes.set_title(f"c  Each fold by {level}", pad=16)


def _add_metric_legend(axes: Axes, names: list[str]) -> None:
    keys = [
        Line2D([], [], color=CLASS_COLOURS[at], marker=_MARKS[at], ms=4, lw=1, label=name)
        for at, name in enumerate(names)
    ]
    axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(keys), borderaxespad=0.1
    )


def _draw_interval(
    axes: Axes,
    at: float,
    entry: Interval | None,
    colour: str,
    mark: str,
    *,
    name: str,
    bold: bool = False,
) -> None:
    if entry is None or entry["estimate"] is None:
        return
    if entry["low"] is not None and entry["high"] is not None:
        axes.plot([entry["low"], entry["high"]], [at, at], color=colour, lw=1.8 if bold else 1)
    (point,) = axes.plot(entry["estimate"], at, mark, color=colour, ms=5 if bold else 3.5)
    hint(point, f"{name} {value(entry)}")


def _draw_forest(
    forest: Axes, table: Axes, numbers: Results, columns: list[SubgroupColumn]
) -> None:
    """Draw the points into one panel, and their counts beside them into the other."""
    names: list[str] = []
    heads: list[int] = []
    for column in columns:
        heads.append(len(names))
        names.append(f"{column['column']} (by {column['level']})")
        for one in column["groups"]:
            at = len(names)
            told = f"{column['column']} {one['name']}: ROC-AUC"
            _draw_interval(forest, at, one["roc_auc"], TEST, "o", name=told)
            counts = f"{one['patients']:,}", f"{one['positives']:,} of {one['rows']:,}"
            _write_cells(table, at, (*counts, cell_value(one["roc_auc"])))
            names.append(one["name"])
    last = list(numbers["dataset"]["classes"])[-1]
    _write_cells(table, -0.9, ("Patients", last, "ROC-AUC (95 % CI)"), bold=True)
    table.set_axis_off()
    table.set_xlim(0, 1)
    forest.axvline(0.5, color=QUIET, lw=0.8, ls=":")
    forest.set_yticks(range(len(names)), names)
    for at, label in enumerate(forest.get_yticklabels()):
        label.set_fontweight("bold" if at in heads else "normal")
    forest.tick_params(axis="y", length=0)
    forest.set_ylim(len(names) - 0.4, -1.4)
    forest.set(xlim=(0, 1), xlabel="ROC-AUC, exploratory")
    forest.xaxis.set_major_locator(MultipleLocator(0.25))
    forest.grid(axis="x")


_PLACES = (0.02, 0.28, 0.62)
"""Places of the columns of counts, in widths of their panel."""


def _write_cells(axes: Axes, at: float, cells: tuple[str, ...], *, bold: bool = False) -> None:
    for place, text in zip(_PLACES, cells, strict=True):
        weight = "bold" if bold else "normal"
        axes.text(place, at, text, va="center", fontsize=7.5, fontweight=weight)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.yaxis.set_major_locator(MultipleLocator(0.25))
    axes.grid(True)
