"""Figures of counts: classes of the data set and of the training rows, also resampled."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from outerfold.reports.figures.style import (
    axes_grid,
    blank_figure,
    placeholder_figure,
    set_panel_title,
)
from outerfold.reports.render.palette import CLASS_COLOURS, CLASS_HATCHES, INK
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.schema import Counts, Params
from outerfold.reports.wording import searched_studies


def class_distribution_all(evidence: Evidence) -> Figure:
    """Draw the images and patients of each class in the whole data set."""
    data = evidence.numbers["dataset"]
    fig = blank_figure(2.5)
    counts = (data["classes"], data["patients_by_class"])
    for index, (axes, noun) in enumerate(
        zip(axes_grid(fig, 1, 2), ("Images", "Patients"), strict=True)
    ):
        bars = counts[index]
        total = sum(bars.values())
        _draw_class_bars(axes, list(bars), [[count] for count in bars.values()])
        for at, count in enumerate(bars.values()):
            share = f"\n{100 * count / total:.0f} %" if total and noun == "Images" else ""
            axes.annotate(
                f"{count:,}{share}",
                (at, count),
                (0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                linespacing=1.15,
            )
        set_panel_title(axes, f"{noun} per class", index=index)
        axes.set_ylabel(noun)
        axes.margins(y=0.22)
    return fig


def class_distribution_train(evidence: Evidence) -> Figure:
    """Draw the images and patients of each class in the training rows; a dot is an outer fold."""
    outer = evidence.numbers["outer"]
    if not outer:
        return placeholder_figure(evidence)
    fig = blank_figure(2.5)
    counted = (
        [fold["original_by_class"] for fold in outer],
        [fold["train_patients_by_class"] for fold in outer],
    )
    for index, (axes, folds) in enumerate(zip(axes_grid(fig, 1, 2), counted, strict=True)):
        names = list(folds[0])
        values = [[fold[name] for fold in folds] for name in names]
        _draw_class_bars(axes, names, values)
        for at, counts in enumerate(values):
            low, high = min(counts), max(counts)
            text = f"{low:,}" if low == high else f"{low:,}–{high:,}"
            axes.annotate(
                text, (at, high), (0, 6), textcoords="offset points", ha="center", fontsize=7
            )
        noun = ("Images", "Patients")[index]
        set_panel_title(axes, f"{noun} per class, training rows", index=index)
        axes.set_ylabel(f"{noun}, mean of {len(outer)} folds")
        axes.margins(y=0.15)
    return fig


def train_distribution_original(evidence: Evidence) -> Figure:
    """Draw the training images of each class in every study, before resampling."""
    return _study_bars(evidence, "Training images before resampling")


def train_distribution_resampled(evidence: Evidence) -> Figure:
    """Draw the images of each class in one epoch of the model, with the name of the sampler."""
    return _study_bars(evidence, "Training images in one epoch", resampled=True)


def _draw_class_bars(axes: Axes, names: list[str], values: list[list[int]]) -> None:
    for at, counts in enumerate(values):
        colour = CLASS_COLOURS[at % len(CLASS_COLOURS)]
        hatch = CLASS_HATCHES[at % len(CLASS_HATCHES)]
        bar: dict[str, Any] = {
            "color": colour,
            "alpha": 0.9,
            "hatch": hatch,
            "edgecolor": "white",
            "lw": 0,
        }
        axes.bar(at, np.mean(counts), width=0.62, **bar)
        if len(counts) > 1:
            across = at + np.linspace(-0.2, 0.2, len(counts))
            axes.plot(across, counts, "o", ms=2.6, color=INK, mec="white", mew=0.4)
    axes.set_xticks(range(len(names)), names)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")


def _study_bars(evidence: Evidence, title: str, *, resampled: bool = False) -> Figure:
    sides = searched_studies(evidence.numbers)
    if not sides:
        return placeholder_figure(evidence)
    fig = blank_figure(0.75 + 0.3 * len(sides))
    axes = axes_grid(fig, 1, 1)[0]
    before = [side["original_by_class"] for _, side in sides]
    after = [side["resampled_by_class"] for _, side in sides]
    widest = max(sum(counts.values()) for counts in (*before, *after))
    shown = after if resampled else before
    for row, counts in enumerate(shown):
        _draw_stack(axes, row, counts, widest)
    samplers = [sampler_of(side["params"]) for _, side in sides]
    names = [
        f"{n} ({s})" if resampled and s else n for (n, _), s in zip(sides, samplers, strict=True)
    ]
    axes.set_yticks(range(len(sides)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, widest * 1.01)  # the same scale in both figures, so they can be compared
    axes.set_xlabel("Images")
    set_panel_title(axes, title)
    _add_class_legend(axes, list(shown[0]))
    return fig


def sampler_of(params: Params) -> str:
    """Sampler of a configuration, with attention its ``token_sampler``; empty if unknown."""
    return str(params.get("token_sampler", params.get("sampler", "")))


def _draw_stack(axes: Axes, row: int, counts: Counts, widest: int) -> None:
    left = 0
    for at, count in enumerate(counts.values()):
        colour = CLASS_COLOURS[at % len(CLASS_COLOURS)]
        bar: dict[str, Any] = {"color": colour, "hatch": CLASS_HATCHES[at % len(CLASS_HATCHES)]}
        axes.barh(row, count, left=left, height=0.68, edgecolor="white", lw=0.6, **bar)
        if count > 0.035 * widest:
            axes.text(
                left + count / 2,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=7,
                color=INK,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "lw": 0, "alpha": 0.85},
            )
        left += count


def _add_class_legend(axes: Axes, names: list[str]) -> None:
    keys = [
        Patch(
            facecolor=CLASS_COLOURS[at % len(CLASS_COLOURS)],
            hatch=CLASS_HATCHES[at % len(CLASS_HATCHES)],
            edgecolor="white",
            label=name,
        )
        for at, name in enumerate(names)
    ]
    axes.legend(
        handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(keys), handlelength=0.9
    )
