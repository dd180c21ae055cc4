"""Entries of ``results.json`` for each outer fold: performance, calibration, what is odd of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from scipy.special import chdtri

from outerfold.pipelines.fitted.calibration import Decision
from outerfold.reports.analyses.calibration_slope import Slope, calibration_slope
from outerfold.reports.analyses.recalibration import common_slope
from outerfold.reports.intervals.overall import fixed_models
from outerfold.reports.results.entries import entry
from outerfold.reports.results.levels import LevelRows
from outerfold.reports.results.predictions import images_per_class, patients_per_class
from outerfold.reports.wording import Json, number
from outerfold.storage.records import FoldResult, Predictions, Run

NEARLY_ALL = 0.98
"""Share of rows called one class from which a fold decides for nearly nothing else."""
NEAR_ZERO = 0.1
"""Sensitivity or specificity that is called near 0; the other is then near 1 as a rule."""
FEWEST_ROWS = 5
"""Patients of a class below which a fold's sensitivity or specificity is no oddity."""
FAR_SLOPE = 2.0
"""A slope above this, or below its inverse, is far off."""
ODD_LEVEL = 0.01
"""Level of the test of the usual slope, for all folds of a run together (Bonferroni). How many
sound runs have an odd fold is counted in ``benchmarks/coverage/cautions.py``."""


def folds_entry(run: Run, test: Predictions | None, levels: Mapping[str, LevelRows]) -> Json:
    """Entry of each outer fold in order, by level: ``image``, ``patient`` and so on."""
    if test is None:
        return {}
    own = {s.name: Decision(s.temperature, s.threshold, s.shift) for s in run.outer}
    found = {"image": _level_folds("image", run, test, own)}
    for level, rows in levels.items():
        found[level] = _level_folds(level, run, rows.test, rows.decisions)
    return found


def _level_folds(
    level: str, run: Run, rows: Predictions, decisions: Mapping[str, Decision]
) -> list[Json]:
    intervals, usual = fixed_models(rows), _usual_slope(rows)
    return [
        {
            **_fold_entry(
                level,
                study,
                rows.take(rows.fold == study.name),
                decisions[study.name],
                usual,
                len(intervals),
            ),
            "metrics": {
                name: {key: found[key] for key in ("estimate", "low", "high", "level", "reason")}
                for name, found in (
                    (name, entry(one)) for name, one in intervals[study.name].items()
                )
            },
        }
        for study in run.outer
        if study.name in intervals
    ]


def _usual_slope(rows: Predictions) -> float | None:
    """Slope of all folds together; None where that is not positive.

    What makes the probabilities too sure or not sure enough does so in every fold of a run. A fold
    is odd where it is unlike the others; what is off in all of them is a caution of its own.
    """
    found = common_slope(rows) if len(rows.classes) == 2 else float("nan")
    return found if found > 0 else None


def _fold_entry(
    level: str,
    study: FoldResult,
    rows: Predictions,
    decision: Decision,
    usual: float | None,
    folds: int,
) -> Json:
    classes = rows.classes
    two = len(classes) == 2
    several = Slope(None, reason="there are several classes")
    slope = calibration_slope(rows, usual or 1.0) if two else several
    called = np.bincount(rows.predicted, minlength=len(classes)).tolist()
    return {
        "fold": study.name,
        "patients": len(set(rows.patients.tolist())),
        "rows": len(rows),
        "patients_by_class": patients_per_class(rows, classes),
        "rows_by_class": images_per_class(rows, classes),
        "called": dict(zip(classes, called, strict=True)),
        "threshold": decision.threshold,
        "temperature": decision.temperature,
        "epochs": study.epochs,
        "slope": asdict(slope),
        "mean_probability": float(rows.probabilities[:, 1].mean()) if two else None,
        "prevalence": float(rows.labels.mean()) if two else None,
        "odd": [*odd_decisions(rows, level), *odd_slope(slope, usual, folds)],
    }


def odd_decisions(rows: Predictions, level: str = "image") -> list[str]:
    """What is odd of the decisions of one fold, as ends of a sentence on the fold.

    Args:
        level: what a row is.
    """
    total = len(rows)
    called = np.bincount(rows.predicted, minlength=len(rows.classes))
    true = np.bincount(rows.labels, minlength=len(rows.classes))
    most = int(called.argmax())
    if called[most] >= NEARLY_ALL * total > true[most] + 0.05 * total:
        some = f"{called[most]:,} of {total:,} {level}s"
        every = f"every {level}" if called[most] == total else some
        return [f"calls {every} {rows.classes[most]} (of which {true[most]:,} are)"]
    found = []
    for index, name in enumerate(rows.classes):
        own = rows.labels == index
        right = int((rows.predicted[own] == index).sum())
        if len(set(rows.groups[own].tolist())) >= FEWEST_ROWS and right <= NEAR_ZERO * own.sum():
            found.append(f"finds {right:,} of {int(own.sum()):,} {name}")
    return found


def odd_slope(slope: Slope, usual: float | None, folds: int) -> list[str]:
    """What is odd of a fold's calibration: a slope far off the usual one, by more than chance.

    Args:
        slope: of the fold, with the statistic of the usual slope.
        usual: that of all folds together; None compares with the ideal 1.
        folds: number of folds that are compared in this way.
    """
    if slope.estimate is None or slope.chi2 is None:
        return []
    if slope.chi2 < chdtri(1, ODD_LEVEL / folds):
        return []
    expected = usual or 1.0
    if 1 / FAR_SLOPE <= slope.estimate / expected <= FAR_SLOPE:
        return []
    way = "extreme" if slope.estimate < expected else "moderate"
    than = "1 is ideal" if usual is None else f"{number(usual)} is usual in this run"
    return [
        f"has a calibration slope of {number(slope.estimate)}, where {than}: its probabilities are "
        f"too {way}"
    ]
