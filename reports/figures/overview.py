"""Overview figure with six panels: a run at a glance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from outerfold.reports.figures.scores import draw_confusion, draw_roc, shown_classes
from outerfold.reports.figures.style import (
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import CLASS_COLOURS, INK, QUIET, TEST, TRAIN, VALIDATION
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.wording import metric_name, value
from outerfold.storage.records import EpochRow

Height = Callable[[EpochRow], float]

_INNER = "mean over inner folds"


def comprehensive(evidence: Evidence) -> Figure:
    """Draw the overview of a run.

    The panels are loss, accuracy, and F1 with ROC-AUC by epoch; the confusion matrix; inner
    against outer score; the ROC curves.
    """
    if evidence.test is None:
        return placeholder_figure(evidence)
    fig = blank_figure(4.75)
    loss, accuracy, ranks, matrix, gap, roc = axes_grid(fig, 2, 3)
    losses: dict[str, tuple[Height, str]]
    losses = {"Training": (_fit_loss, TRAIN), "Validation": (_val_loss, VALIDATION)}
    _draw_epochs(loss, evidence, losses, averaged=False)
    _draw_epochs(accuracy, evidence, {"Validation": (_accuracy, VALIDATION)})
    _draw_epochs(
        ranks, evidence, {"F1": (_f1, CLASS_COLOURS[1]), "ROC-AUC": (_auc, CLASS_COLOURS[0])}
    )
    draw_confusion(matrix, evidence, evidence.numbers, small=True)
    _draw_optimism(gap, evidence)
    _draw_test_roc(roc, evidence)
    heads = (
        ("Loss", _INNER),
        ("Accuracy", _INNER),
        ("F1 and ROC-AUC", _INNER),
        ("Confusion matrix, test", _matrix_line(evidence)),
        ("Generalisation gap", f"optimism {value(evidence.numbers['optimism'])}"),
        ("ROC, test", _roc_line(evidence)),
    )
    axes = (loss, accuracy, ranks, matrix, gap, roc)
    for index, (one, (head, line)) in enumerate(zip(axes, heads, strict=True)):
        set_panel_title(one, head, line, index=index)
    for one, label in ((loss, "Loss"), (accuracy, "Accuracy"), (ranks, "Score")):
        one.set_ylabel(label)
    return fig


def _draw_epochs(
    axes: Axes,
    evidence: Evidence,
    lines: dict[str, tuple[Height, str]],
    *,
    averaged: bool = True,
) -> None:
    """Draw a thin line for each outer fold's inner mean, and a thick line for their mean.

    Args:
        averaged: whether folds compare; losses do not where folds chose different ones.
    """
    for label, (height, colour) in lines.items():
        curves = [[height(row) for row in study.history] for study in evidence.run.outer]
        for curve in curves:
            thin: dict[str, Any] = (
                {"lw": 0.5, "alpha": 0.35} if averaged else {"lw": 0.9, "alpha": 0.7}
            )
            style = "--" if colour == TRAIN else "-"
            axes.plot(range(1, len(curve) + 1), curve, color=colour, ls=style, **thin)
        mean = _mean_curve(curves) if averaged else []
        style = "--" if colour == TRAIN else "-"
        axes.plot(range(1, len(mean) + 1), mean, color=colour, ls=style, label=label)
    for study in evidence.run.outer:
        axes.plot(
            [study.epochs], [0.012], "^", ms=3.5, color=INK, transform=axes.get_xaxis_transform()
        )
    axes.set_xlabel("Epoch (▲ chosen)")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")
    axes.margins(y=0.08)
    if len(lines) > 1:
        axes.legend(loc="best")


def _mean_curve(curves: list[list[float]]) -> list[float]:
    """Mean of the curves up to the end of the shortest; beyond it the mean would jump."""
    shortest = min((len(curve) for curve in curves), default=0)
    return [float(np.mean([curve[e] for curve in curves])) for e in range(shortest)]


def _draw_optimism(axes: Axes, evidence: Evidence) -> None:
    numbers = evidence.numbers
    metric = numbers["protocol"]["metric"]
    for fold in numbers["outer"]:
        outer = fold["metrics"].get(metric)
        if outer is None:
            continue
        ends = [fold["inner_score"], outer]
        axes.plot([0, 1], ends, color=QUIET, lw=0.8)
        axes.plot([0], ends[:1], "o", color=VALIDATION, ms=4)
        axes.plot([1], ends[1:], "o", color=TEST, ms=4)
    axes.set_xlim(-0.45, 1.45)
    axes.set_xticks([0, 1], ["inner (search)", "outer (test)"])
    axes.set_ylabel(metric_name(metric, len(evidence.run.classes)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")


def _draw_test_roc(axes: Axes, evidence: Evidence) -> None:
    rows = evidence.test
    if rows is None:
        return
    for at in shown_classes(rows.classes):
        colour = CLASS_COLOURS[0 if len(rows.classes) == 2 else at % len(CLASS_COLOURS)]
        draw_roc(axes, rows, at, colour, rows.classes[at])
    axes.legend(loc="lower right", fontsize=6.5, handlelength=0.9, borderaxespad=0.1)


def _roc_line(evidence: Evidence) -> str:
    name = metric_name("roc_auc", len(evidence.run.classes))
    return f"{name} {value(evidence.numbers['overall']['roc_auc'])}"


def _matrix_line(evidence: Evidence) -> str:
    """Line above the confusion matrix; for several classes, whose cells show no recall."""
    if len(evidence.run.classes) == 2:
        return "recall on the diagonal"
    return f"balanced accuracy {value(evidence.numbers['overall']['balanced_accuracy'])}"


def _fit_loss(row: EpochRow) -> float:
    return row.fit_loss


def _val_loss(row: EpochRow) -> float:
    return row.val_loss


def _accuracy(row: EpochRow) -> float:
    return row.accuracy


def _f1(row: EpochRow) -> float:
    return row.f1


def _auc(row: EpochRow) -> float:
    return row.roc_auc
