"""Rows of patients (or breasts) made from rows of images, with thresholds fitted for them.

A mean or a maximum of calibrated probabilities is no calibrated probability of a patient, and a
threshold that was fitted on images is not the right one for patients. So each fold's calibration
and threshold are fitted again, on that fold's own inner out-of-fold rows, combined in the same way;
no test row is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from outerfold.pipelines.fitted.calibration import Decision, Rule, middle_threshold
from outerfold.reports.results.no_information import Priors, class_shares
from outerfold.reports.results.predictions import join_predictions
from outerfold.storage.records import (
    FINAL,
    WITHOUT,
    DataError,
    FloatArray,
    FoldResult,
    IntArray,
    Predictions,
    Run,
    StrArray,
)

Level = Literal["image", "patient", "breast"]
Aggregate = Literal["mean", "max", "noisy-or"]
UNIT_LEVELS: tuple[Level, ...] = ("breast", "patient")
"""Levels that combine several images."""
Units = Callable[[Predictions], StrArray]
"""Function from rows to names (n,) of each image's unit: its patient, or one of the breasts."""


NO_SIDES = (
    "--level breast needs the side of every image; the data have no column side or laterality, "
    "and the file names do not give the side (LEFT or RIGHT, or -l or -r at the end)"
)


@dataclass(frozen=True, eq=False)
class LevelRows:
    """Outer test rows of a run, with one row per patient (or breast) and repeat.

    Attributes:
        test: combined and calibrated rows; ``ids`` are the names of the patients or breasts.
        decisions: calibration and threshold of each study, the final one included, fitted on its
            combined out-of-fold rows; an ensemble has none of its own.
        thresholds: threshold of each study; for an ensemble, the median of its members'
            thresholds. None for more than two classes, where the largest probability decides.
        mixed: how many patients or breasts have images of several classes.
        variation: the same rows by the models of inner folds, by outer fold; their calibrations
            and thresholds are fitted again, too, without the model that they apply to.
        priors: shares of the classes among combined training rows, by outer fold.
    """

    test: Predictions
    decisions: Mapping[str, Decision]
    thresholds: Mapping[str, float | None]
    mixed: int
    variation: Mapping[str, Predictions] = field(default_factory=dict)
    priors: Priors = field(default_factory=dict)


def units_of(level: Level, sides: Mapping[str, str]) -> Units:
    """Function that names the patient or breast of each image.

    Args:
        sides: left or right by image id; empty if unknown.

    Raises:
        DataError: the level is ``breast`` and the sides are unknown.
    """
    if level == "patient":
        return lambda rows: rows.patients
    if not sides:
        raise DataError(NO_SIDES)

    def breasts(rows: Predictions) -> StrArray:
        pairs = zip(rows.patients.tolist(), rows.ids.tolist(), strict=True)
        return np.array([f"{patient}/{sides[image]}" for patient, image in pairs], dtype=np.str_)

    return breasts


def combine(
    rows: Predictions, aggregate: Aggregate, *, units: Units, decision: Decision | None = None
) -> Predictions:
    """Combine images to one row per unit, fold and repeat; the order of ``rows`` has no effect.

    The result is sorted by repeat, fold and unit. A unit with images of several classes counts as
    the last of these in the order of classes: with two classes, the positive one. Before the
    calibration, a unit with one image has that image's probabilities.

    Args:
        aggregate: ``mean`` of the images' probabilities; ``max``, the largest probability of the
            positive class, or for several classes the largest of each, scaled to sum to one;
            ``noisy-or`` for two classes, 1 - prod(1 - p).
        units: function that names the unit of each image, see ``units_of``.
        decision: calibration of the combined probabilities, and threshold on them; None leaves them
            as they are and decides by the largest probability.

    Raises:
        DataError: ``noisy-or`` without exactly two classes.
    """
    refuse_aggregate(aggregate, rows.classes)
    unit = units(rows)
    order = np.lexsort((rows.ids, unit, rows.fold, rows.repeat))
    start = _group_starts(rows.repeat[order], rows.fold[order], unit[order])
    first = order[start]
    decision = decision or Decision(1.0, None)
    combined = _combine_groups(rows.probabilities[order], start, aggregate)
    probabilities = combined if decision == Decision(1.0, None) else decision.calibrate(combined)
    return Predictions(
        unit[first],
        rows.patients[first],
        rows.fold[first],
        rows.repeat[first],
        np.maximum.reduceat(rows.labels[order], start),
        probabilities,
        decision.decide(probabilities),
        rows.classes,
        rows.groups[first],
    )


def by_level(run: Run, level: Level, aggregate: Aggregate) -> LevelRows | None:
    """Test rows of the finished folds, one per patient or breast; None if no fold has finished.

    Raises:
        DataError: ``combine`` or ``units_of`` refuses the level or the rule.
    """
    scored = [(study, study.test) for study in run.outer if study.test is not None]
    if not scored:
        return None
    studies = run.outer if run.final is None else (*run.outer, run.final)
    units = units_of(level, run.sides)
    decisions = {s.name: level_decision(s, units, aggregate, run.protocol) for s in studies}
    thresholds = {name: decision.threshold for name, decision in decisions.items()}
    if run.ensemble is not None:
        thresholds[FINAL] = _median_threshold(thresholds[name] for name in run.ensemble.members)
    test = join_predictions(
        combine(rows, aggregate, units=units, decision=decisions[study.name])
        for study, rows in scored
    )
    mixed = set().union(*(several_classes(rows, units(rows)) for _, rows in scored))
    variation = {
        study.name: _combine_inner_models(study, study.variation, units, aggregate, run.protocol)
        for study, _ in scored
        if study.variation is not None
    }
    if test is None:
        return None
    priors = {
        study.name: class_shares(combine(study.validation, aggregate, units=units))
        for study, _ in scored
    }
    return LevelRows(test, decisions, thresholds, len(mixed), variation, priors)


def _combine_inner_models(
    study: FoldResult,
    variation: Predictions,
    units: Units,
    aggregate: Aggregate,
    protocol: Mapping[str, object],
) -> Predictions:
    """Combined rows of the inner folds' models, decided by the rows of the other inner folds."""
    parts = [
        combine(
            variation.take(variation.fold == name),
            aggregate,
            units=units,
            decision=level_decision(
                study, units, aggregate, protocol, without=name.removeprefix(WITHOUT)
            ),
        )
        for name in sorted(set(variation.fold.tolist()))
    ]
    joined = join_predictions(parts)
    assert joined is not None
    return joined


def level_decision(
    study: FoldResult,
    units: Units,
    aggregate: Aggregate,
    protocol: Mapping[str, object],
    *,
    without: str = "",
) -> Decision:
    """Fit calibration and threshold on a study's combined inner out-of-fold rows.

    The run's own rule chooses the threshold; with its rule ``prevalence`` that is the share of
    positive units. It reads no test row.

    Args:
        without: name of an inner fold to leave out; empty for none.
    """
    kept = study.validation.take(study.validation.fold != without)
    rows = combine(kept, aggregate, units=units)
    rule: Rule = protocol.get("threshold", "youden")  # type: ignore[assignment]
    target = float(str(protocol.get("threshold_target", 0.9)))
    return Decision.fit(rows.labels, rows.probabilities, rule=rule, target=target)


def _median_threshold(thresholds: Iterable[float | None]) -> float | None:
    known = [one for one in thresholds if one is not None]
    return middle_threshold(known) if known else None


def several_classes(rows: Predictions, units: StrArray) -> set[str]:
    """Names of the units with images of more than one class.

    Args:
        units: (n,) unit of each row.
    """
    pairs = set(zip(units.tolist(), rows.labels.tolist(), strict=True))
    return {unit for unit, count in Counter(unit for unit, _ in pairs).items() if count > 1}


def refuse_aggregate(aggregate: str, classes: tuple[str, ...]) -> None:
    """Raise ``DataError`` for ``noisy-or`` without exactly two classes."""
    if aggregate == "noisy-or" and len(classes) != 2:
        raise DataError(
            f"--aggregate noisy-or needs two classes, one of them positive; found "
            f"{len(classes)}: {list(classes)}; use mean or max"
        )


def _group_starts(*keys: np.ndarray) -> IntArray:
    """Index (groups,) of each group's first row, for rows sorted by ``keys``."""
    new = np.ones(len(keys[0]), dtype=bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(new)


def _combine_groups(images: FloatArray, start: IntArray, aggregate: Aggregate) -> FloatArray:
    """Combined probabilities (groups, classes) of consecutive ``images`` (n, classes).

    Args:
        start: (groups,) index of each group's first row.
    """
    sizes = np.diff(np.append(start, len(images)))[:, None]
    if aggregate == "mean":
        found = np.add.reduceat(images, start) / sizes
    elif aggregate == "max" and images.shape[1] > 2:
        found = np.maximum.reduceat(images, start)
        found = found / found.sum(axis=1, keepdims=True)
    else:
        positive = (
            np.maximum.reduceat(images[:, 1], start)
            if aggregate == "max"
            else 1 - np.multiply.reduceat(1 - images[:, 1], start)
        )
        found = np.stack([1 - positive, positive], axis=1)
    return np.where(sizes == 1, images[start], found)  # exact: 1 - (1 - p) would be rounded
