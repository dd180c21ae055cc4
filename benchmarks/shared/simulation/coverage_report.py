"""Writer of coverage.md, its figure and measured_coverage.md from finished replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.shared.markdown import markdown
from benchmarks.shared.simulation.simulated_study import ANSWERS, CONTROLS
from outerfold.storage.records import FloatArray

SHOWN = {
    "roc_auc": "ROC-AUC",
    "average_precision": "AP",
    "accuracy": "acc.",
    "balanced_accuracy": "bal. acc.",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "precision (one class)": "prec.",
    "f1 (one class)": "F1",
    "precision": "macro prec.",
    "f1": "macro F1",
    "brier": "Brier",
    "ece": "ECE",
}
"""Macro recall equals balanced accuracy and is left out; ECE has its own target."""
MEASURED = tuple(name for name in SHOWN if name != "ece")
FLOORS = {
    "A": dict.fromkeys(MEASURED, 93.0),
    "B": dict.fromkeys(("roc_auc", "average_precision", "balanced_accuracy", "f1", "brier"), 93.0)
    | {"accuracy": 90.0},
    "C": dict.fromkeys(MEASURED, 94.0),
    "D": {"ece": 90.0},
}
TITLES = {
    "A": "A: the refit model, fixed configuration (target 93 % or more; mean 95-98 %)",
    "B": "B: the procedure, fixed configuration (93 % or more; accuracy 90 %)",
    "C": "C: the refit model, tuned in the inner loop (94 % or more)",
    "D": "D: calibration error of the refit model (90 % or more)",
}

WHY = {
    "three classes": "the rarest class has about 22 patients. It seldom has the largest "
    "probability, so macro metrics of decisions depend on the class shares of the sample, which "
    "are the same in every fold: the refit model is covered, the mean over samples less so. With "
    "three classes of the same size all are covered (96-97 % in 400 replicates). The jackknife of "
    "a pooled macro AP is about a fifth too small for so few patients; folds that never predict "
    "the rarest class lower macro precision.",
    "tuned: best of 50, 20 features": "each fold's model is miscalibrated in its own direction, "
    "and pooling five of them hides a part of the calibration error of one refit model.",
}
"""Reason of a miss, by cell, where it was examined."""

FEWEST = 30
"""Studies with an interval of one fold's own model from which on a share is shown."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """All replicates of one cell; arrays are as in ``Study``, with the replicates first."""

    cell: str
    metrics: tuple[str, ...]
    intervals: FloatArray
    measured: FloatArray
    truth: FloatArray
    controls: FloatArray
    answers: FloatArray
    fold: FloatArray
    unstable: FloatArray
    refused: FloatArray

    def coverage(self, name: str, *, of_procedure: bool = False, measured: bool = False) -> float:
        """Per cent of the printed intervals that contain the truth; NaN if the metric is absent.

        Args:
            of_procedure: count the mean truth over studies instead of the refit's.
            measured: intervals by the measured variation of models instead of the constant.
        """
        if name not in self.metrics:
            return float("nan")
        at = self.metrics.index(name)
        low, high = self.intervals[:, at, 1], self.intervals[:, at, 2]
        if measured:
            low, high = self.measured[:, at, 2 * of_procedure : 2 * of_procedure + 2].T
        truth = self.truth[:, at]
        if of_procedure:
            truth = np.full_like(truth, truth.mean())
        printed = np.isfinite(low)
        if not printed.any():
            return float("nan")
        return float(100 * ((low <= truth) & (truth <= high))[printed].mean())

    def width(self, name: str, *, measured: bool = False) -> float:
        """Median width of the printed intervals of the refit."""
        at = self.metrics.index(name)
        low, high = (self.measured if measured else self.intervals[..., 1:])[:, at, :2].T
        return float(np.nanmedian(high - low))

    def answer_coverage(self, at: int, *, of_procedure: bool = False) -> float:
        """Per cent of the intervals of one of ``ANSWERS`` that contain its true value.

        Args:
            at: place of the answer.
            of_procedure: count the median truth over studies instead of the refit's.
        """
        low, high = self.answers[:, at, 1 + 2 * of_procedure : 3 + 2 * of_procedure].T
        truth, printed = self.answers[:, at, 5], np.isfinite(low)
        if not printed.any():
            return float("nan")
        aim = np.full_like(truth, np.median(truth)) if of_procedure else truth
        return float(100 * ((low <= aim) & (aim <= high))[printed].mean())

    def fold_coverage(self, name: str) -> float:
        """Per cent of the first fold's own intervals that contain its model's true performance.

        NaN where fewer than ``FEWEST`` studies have one.
        """
        if name not in self.metrics:
            return float("nan")
        low, high, truth = self.fold[:, self.metrics.index(name)].T
        printed = np.isfinite(low)
        if printed.sum() < FEWEST:
            return float("nan")
        return float(100 * ((low <= truth) & (truth <= high))[printed].mean())

    def control(self, at: int) -> float:
        """Per cent of a control's ROC-AUC intervals that contain the refit's truth."""
        low, high = self.controls[:, at, 0], self.controls[:, at, 1]
        truth, given = self.truth[:, self.metrics.index("roc_auc")], np.isfinite(low)
        if not given.any():
            return float("nan")
        return float(100 * ((low <= truth) & (truth <= high))[given].mean())

    def bias(self) -> float:
        """Mean estimate of ROC-AUC minus mean truth."""
        at = self.metrics.index("roc_auc")
        return float(np.nanmean(self.intervals[:, at, 0] - self.truth[:, at]))


def write_report(groups: dict[str, list[Outcome]], facts: str, folder: Path) -> None:
    """Write coverage.md and coverage.png, of intervals by the constant, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coverage.md").write_text(text(groups, facts), encoding="utf-8")
    draw(groups, folder / "coverage.png")


def write_measured(groups: dict[str, list[Outcome]], facts: str, folder: Path) -> None:
    """Write measured_coverage.md, of the intervals that a run's report prints, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measured_coverage.md").write_text(measured_text(groups, facts), encoding="utf-8")


def text(groups: dict[str, list[Outcome]], facts: str) -> str:
    """Text of coverage.md."""
    fixed, tuned = groups["fixed"], groups.get("tuned", [])
    parts = [
        "# Coverage of the intervals",
        f"{_size(fixed, facts)} Made with `python -m benchmarks.coverage.coverage`.",
        "![coverage of ROC-AUC by method](coverage.png)",
        _verdicts(fixed, tuned),
        _coverage_table("A", fixed),
        _coverage_table("B", fixed, of_procedure=True),
    ]
    parts += [_coverage_table("C", tuned)] if tuned else []
    parts += [_coverage_table("D", [*fixed, *tuned]), _control_table(fixed, groups)]
    if "known failure" in groups:
        parts.append(_failure_table(groups["known failure"]))
    return "\n\n".join(parts) + "\n"


def measured_text(groups: dict[str, list[Outcome]], facts: str) -> str:
    """Text of measured_coverage.md."""
    fixed, tuned = groups["fixed"], groups.get("tuned", [])
    every = [*fixed, *tuned]
    parts = [
        "# Coverage of the intervals by the measured variation of models",
        f"{_size(fixed, facts)} Made with "
        "`python -m benchmarks.coverage.coverage --pages measured`.",
        _measured_verdict(fixed, tuned),
        _measured_table(every, of_procedure=False),
        _measured_table(every, of_procedure=True),
        _answer_table(every, of_procedure=False),
        _answer_table(every, of_procedure=True),
        _fold_table(every),
    ]
    return "\n\n".join(parts) + "\n"


def _size(fixed: list[Outcome], facts: str) -> str:
    error = 100 * np.sqrt(0.05 * 0.95 / len(fixed[0].truth))
    return (
        f"{facts}; nominal 95 %. One Monte-Carlo standard error is {error:.1f} points, so a cell "
        f"with a true coverage of 95 % shows {95 - 1.96 * error:.0f}-{95 + 1.96 * error:.0f} % in "
        "19 of 20 cases."
    )


def misses(target: str, outcomes: Sequence[Outcome]) -> list[tuple[str, str, float]]:
    """Cells and metrics whose coverage is below the target: (cell, metric, coverage)."""
    return [
        (one.cell, name, one.coverage(name, of_procedure=target == "B"))
        for one in outcomes
        for name, floor in FLOORS[target].items()
        if one.coverage(name, of_procedure=target == "B") < floor
    ]


def _verdicts(fixed: list[Outcome], tuned: list[Outcome]) -> str:
    lines = ["## Verdict", ""]
    for target in FLOORS:
        outcomes = {"A": fixed, "B": fixed, "C": tuned, "D": [*fixed, *tuned]}[target]
        if not outcomes:
            continue
        found = misses(target, outcomes)
        all_of = _values(target, outcomes)
        worst = "; ".join(f"{cell}: {SHOWN[name]} {value:.1f}" for cell, name, value in found)
        lines.append(
            f"- **{TITLES[target]}**: {len(all_of) - len(found)} of {len(all_of)} met, mean "
            f"{np.mean(all_of):.1f} %." + (f" Missed: {worst}." if found else "")
        )
    missed = {cell for t in FLOORS for cell, _, _ in misses(t, tuned if t == "C" else fixed)}
    missed |= {cell for cell, _, _ in misses("D", tuned)}
    lines += [f"- Why *{cell}* misses: {why}" for cell, why in WHY.items() if cell in missed]
    for k, name in enumerate(CONTROLS[:3]):
        shares = [one.control(k) for one in [*fixed, *tuned] if np.isfinite(one.control(k))]
        below = sum(share < 93 for share in shares)
        lines.append(
            f"- **Control, {name}**: below 93 % in {below} of {len(shares)} settings, "
            f"lowest {min(shares):.1f} %."
        )
    return "\n".join(lines)


def _values(target: str, outcomes: Sequence[Outcome]) -> list[float]:
    found = [
        one.coverage(n, of_procedure=target == "B") for one in outcomes for n in FLOORS[target]
    ]
    return [value for value in found if np.isfinite(value)]


def _coverage_table(target: str, outcomes: list[Outcome], *, of_procedure: bool = False) -> str:
    names = [name for name in SHOWN if name in FLOORS[target]]
    header = ["setting", *(SHOWN[name] for name in names), "ROC-AUC width", "redrawn"]
    rows = [
        [
            one.cell,
            *(_mark(one.coverage(n, of_procedure=of_procedure), FLOORS[target][n]) for n in names),
            f"{one.width('roc_auc'):.2f}",
            f"{one.refused.mean():.2f}",
        ]
        for one in outcomes
    ]
    note = (
        "Bold: below the target. *redrawn*: mean number of studies that were refused before each "
        "study, because a class had < 5 patients."
    )
    return f"## {TITLES[target]}\n\n{markdown(header, rows)}\n\n{note}"


def _measured_verdict(fixed: list[Outcome], tuned: list[Outcome]) -> str:
    """Cells that met their target by the constant and fall short by the measured variation."""
    fallen, cells = [], 0
    for target, outcomes in (("A", fixed), ("B", fixed), ("C", tuned), ("D", [*fixed, *tuned])):
        for one in outcomes:
            error = 100 * np.sqrt(0.05 * 0.95 / len(one.truth))
            for name, floor in FLOORS[target].items():
                was = one.coverage(name, of_procedure=target == "B")
                now = one.coverage(name, of_procedure=target == "B", measured=True)
                if not np.isfinite(was) or not np.isfinite(now):
                    continue
                cells += 1
                if was >= floor and now < floor - 2 * error:
                    fallen.append(f"{target}, {one.cell}: {SHOWN[name]} {now:.1f}")
    words = f"Fallen short: {'; '.join(fallen)}." if fallen else "None has fallen short."
    return (
        "The tables of [coverage.md](coverage.md) are by the empirical constant, which reports use "
        "where only predictions are known. Here the same studies also have the models of four "
        "inner folds, as a run has them, and the intervals of a run's report: of the delivered "
        f"model and of models made this way. Of {cells} cells, {len(fallen)} met the target by the "
        "constant and are more than two Monte-Carlo errors below it by the measured variation. "
        f"{words}"
    )


def _measured_table(outcomes: list[Outcome], *, of_procedure: bool) -> str:
    header = ["setting", *SHOWN.values(), "ROC-AUC width", "by the constant"]
    rows = [
        [
            one.cell,
            *(
                _mark(
                    one.coverage(n, of_procedure=of_procedure, measured=True),
                    FLOORS["D"].get(n, 93.0),
                )
                for n in SHOWN
            ),
            f"{one.width('roc_auc', measured=True):.2f}",
            f"{one.width('roc_auc'):.2f}",
        ]
        for one in outcomes
    ]
    what = "models made this way" if of_procedure else "the refit model"
    note = "Bold: below 93 %, and below 90 % for the calibration error."
    return f"## Intervals of {what}\n\n{markdown(header, rows)}\n\n{note}"


ANSWER_FLOOR = FOLD_FLOOR = 93.0
ANSWER_NAMES = (
    "slope",
    "intercept",
    "O/E",
    "scaled Brier",
    "LR+",
    "LR-",
    "sens. at 90 % spec.",
    "spec. at 90 % sens.",
)


def _answer_table(outcomes: list[Outcome], *, of_procedure: bool) -> str:
    every = range(len(ANSWERS))
    rows = [
        [
            one.cell,
            *(
                _mark(one.answer_coverage(k, of_procedure=of_procedure), ANSWER_FLOOR)
                for k in every
            ),
            f"{np.nanmedian(one.answers[:, 0, 0]):.2f} / {np.nanmedian(one.answers[:, 0, 5]):.2f}",
        ]
        for one in outcomes
        if np.isfinite(one.answers).any()
    ]
    what = "models made this way" if of_procedure else "the refit model"
    note = (
        "Calibration (one logistic model with an intercept a fold, the mean of the folds' "
        "intercepts, O/E, scaled Brier score), likelihood ratios, and points of the ROC curves, "
        "with their intervals as the report prints them. Predictive values at a stated prevalence "
        "are functions of the likelihood ratios, so they are covered as often. The truth is "
        + ("the median over studies" if of_procedure else "the refit's in the population")
        + ". The simulated models are not calibrated after their search, as outerfold's are: with "
        "*best of 50*, folds choose penalties that differ by orders of magnitude, and so do their "
        "slopes. Bold: below 93 %."
    )
    header = ["setting", *ANSWER_NAMES, "slope: median estimate / truth"]
    return f"## Other numbers, {what}\n\n{markdown(header, rows)}\n\n{note}"


def _fold_table(outcomes: list[Outcome]) -> str:
    names = [
        name for name in SHOWN if any(np.isfinite(one.fold_coverage(name)) for one in outcomes)
    ]
    rows = [
        [one.cell, *(_mark(one.fold_coverage(name), FOLD_FLOOR) for name in names)]
        for one in outcomes
    ]
    note = (
        "Intervals of the table by fold, over the patients of one fold, against the true "
        "performance of that fold's own model. A fold with fewer than five patients of a class has "
        f"none; a dash stands where fewer than {FEWEST} studies have one. Bold: below 93 %."
    )
    header = ["setting", *(SHOWN[name] for name in names)]
    return f"## One fold's own model\n\n{markdown(header, rows)}\n\n{note}"


def _control_table(fixed: list[Outcome], groups: dict[str, list[Outcome]]) -> str:
    shown = [*fixed, *groups.get("tuned", []), *groups.get("leak", [])]
    header = ["setting", "patient jackknife", *CONTROLS, "bias of ROC-AUC"]
    rows = [
        [
            one.cell,
            f"{one.coverage('roc_auc'):.1f}",
            *(_mark(one.control(k), 0.0) for k in range(len(CONTROLS))),
            f"{one.bias():+.3f}",
        ]
        for one in shown
    ]
    note = "Coverage of the refit's ROC-AUC. No interval corrects the leak of the last row."
    return f"## Controls: methods that are wrong must fail\n\n{markdown(header, rows)}\n\n{note}"


def _failure_table(outcomes: list[Outcome]) -> str:
    rows = [
        [
            one.cell,
            SHOWN[name],
            f"{one.coverage(name):.1f}",
            f"{one.coverage(name, of_procedure=True):.1f}",
            f"{100 * one.unstable[:, one.metrics.index(name)].mean():.0f}",
        ]
        for one in outcomes
        for name in SHOWN
        if name in one.metrics
    ]
    header = ["setting", "metric", "refit covered %", "procedure covered %", "warned %"]
    note = (
        "One unstable model decides by a learnt threshold; *warned* is how often the report warns "
        "that the folds' thresholds alone change the metric by more than patients do."
    )
    return f"## Known failure: an unstable model\n\n{note}\n\n{markdown(header, rows)}"


def _mark(value: float, floor: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"**{value:.1f}**" if value < floor else f"{value:.1f}"


def draw(groups: dict[str, list[Outcome]], place: Path) -> None:
    """Draw the coverage of ROC-AUC by cell, with one marker per method."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [one for outcomes in groups.values() for one in outcomes][::-1]
    colours = ("#b2182b", "#ef8a62", "#f4a582", "#92c5de", "#4393c3")
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(shown) + 1.6), layout="constrained")
    height = np.arange(len(shown))
    axes.axvspan(93, 100, color="#e8f3e8", zorder=0)
    axes.axvline(95, color="0.4", linewidth=0.8)
    for k, (name, colour) in enumerate(zip(CONTROLS, colours, strict=True)):
        values = [one.control(k) for one in shown]
        axes.scatter(values, height, s=16, color=colour, label=name, zorder=2)
    own = [one.coverage("roc_auc") for one in shown]
    axes.scatter(own, height, s=34, color="black", marker="D", label="patient jackknife", zorder=3)
    axes.set_yticks(height, [one.cell for one in shown], fontsize=8)
    axes.set_xlabel("ROC-AUC of the refit model covered by a nominal 95 % interval (%)")
    axes.set_xlim(-2, 101)
    axes.grid(axis="y", color="0.92", zorder=0)
    axes.legend(loc="upper left", fontsize=7, frameon=True)
    figure.savefig(place, dpi=200)
    plt.close(figure)
