"""Images to patients: rows combined, and decided by a threshold of their own.

A threshold that was fitted on images is not the right one for patients, whose probabilities are
a mean or a maximum. Each fold's is therefore fitted again, on that fold's own inner out-of-fold
rows combined in the same way; no test row takes part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.pipelines.fitted.calibration import Rule, fit_threshold, middle_threshold
from outerfold.reports.results.predictions import joined
from outerfold.storage.records import (
    FINAL,
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
"""Those that combine images."""
Units = Callable[[Predictions], StrArray]
"""The name (n,) of what each image belongs to: its patient, or one breast of its patient."""


NO_SIDES = (
    "--level breast needs the side of every image; the data have no column side or laterality, "
    "and the file names do not tell (LEFT or RIGHT, or -l or -r at the end)"
)


@dataclass(frozen=True, eq=False)
class LevelRows:
    """A run's outer test rows, one a patient (or breast) and repeat.

    Attributes:
        test: combined rows; ``ids`` are the names of what was combined.
        thresholds: of each study, the final one included, fitted on its combined out-of-fold
            rows, or of an ensemble the median of its members'; None where several classes decide
            by the largest probability.
        mixed: how many have images of several classes.
    """

    test: Predictions
    thresholds: Mapping[str, float | None]
    mixed: int


def units_of(level: Level, sides: Mapping[str, str]) -> Units:
    """What images are combined by.

    Args:
        sides: left or right by image id; empty where they are not known.

    Raises:
        DataError: breasts of images whose sides are not known.
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
    rows: Predictions, aggregate: Aggregate, *, units: Units, threshold: float | None = None
) -> Predictions:
    """One row a unit, fold and repeat, sorted by them; the order of ``rows`` changes nothing.

    A unit with images of several classes counts as the last of them in the order of classes: of
    two classes the positive one. A unit of one image keeps that image's probabilities.

    Args:
        aggregate: ``mean`` of the images' probabilities; ``max``, the largest of each class made
            to sum to one, or of two classes the largest of the positive one; ``noisy-or`` for two
            classes, 1 - prod(1 - p).
        threshold: on the positive class; None decides by the largest probability.

    Raises:
        DataError: ``noisy-or`` with other than two classes.
    """
    refuse_aggregate(aggregate, rows.classes)
    unit = units(rows)
    order = np.lexsort((rows.ids, unit, rows.fold, rows.repeat))
    start = _starts(rows.repeat[order], rows.fold[order], unit[order])
    first = order[start]
    probabilities = _together(rows.probabilities[order], start, aggregate)
    decided = (
        probabilities.argmax(axis=1) if threshold is None else probabilities[:, 1] >= threshold
    )
    return Predictions(
        unit[first],
        rows.patients[first],
        rows.fold[first],
        rows.repeat[first],
        np.maximum.reduceat(rows.labels[order], start),
        probabilities,
        decided.astype(np.int64),
        rows.classes,
    )


def by_level(run: Run, level: Level, aggregate: Aggregate) -> LevelRows | None:
    """The finished folds' test rows, one a patient or breast; None before the first fold has.

    Raises:
        DataError: what ``combine`` and ``units_of`` refuse.
    """
    scored = [(study, study.test) for study in run.outer if study.test is not None]
    if not scored:
        return None
    studies = run.outer if run.final is None else (*run.outer, run.final)
    units = units_of(level, run.sides)
    thresholds = {s.name: level_threshold(s, units, aggregate, run.protocol) for s in studies}
    if run.ensemble is not None:
        thresholds[FINAL] = _middle(thresholds[name] for name in run.ensemble.members)
    test = joined(
        combine(rows, aggregate, units=units, threshold=thresholds[study.name])
        for study, rows in scored
    )
    mixed = set().union(*(several_classes(rows, units(rows)) for _, rows in scored))
    return None if test is None else LevelRows(test, thresholds, len(mixed))


def level_threshold(
    study: FoldResult, units: Units, aggregate: Aggregate, protocol: Mapping[str, object]
) -> float | None:
    """By the run's own rule, from the study's inner out-of-fold rows; it reads no test row."""
    if len(study.validation.classes) != 2:
        return None
    rows = combine(study.validation, aggregate, units=units)
    rule: Rule = protocol.get("threshold", "youden")  # type: ignore[assignment]
    target = float(str(protocol.get("threshold_target", 0.9)))
    return fit_threshold(rows.labels == 1, rows.probabilities[:, 1], rule, target)


def _middle(thresholds: Iterable[float | None]) -> float | None:
    known = [one for one in thresholds if one is not None]
    return middle_threshold(known) if known else None


def several_classes(rows: Predictions, units: StrArray) -> set[str]:
    """Units with images of more than one class."""
    pairs = set(zip(units.tolist(), rows.labels.tolist(), strict=True))
    return {unit for unit, count in Counter(unit for unit, _ in pairs).items() if count > 1}


def refuse_aggregate(aggregate: str, classes: tuple[str, ...]) -> None:
    """``DataError`` where noisy-or has no one positive class."""
    if aggregate == "noisy-or" and len(classes) != 2:
        raise DataError(
            f"--aggregate noisy-or needs two classes, one of them positive; found "
            f"{len(classes)}: {list(classes)}; use mean or max"
        )


def _starts(*keys: np.ndarray) -> IntArray:
    """Where a new group begins among rows that are sorted by ``keys``."""
    new = np.ones(len(keys[0]), dtype=bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(new)


def _together(images: FloatArray, start: IntArray, aggregate: Aggregate) -> FloatArray:
    """Probabilities (groups, classes) of consecutive ``images`` (n, classes)."""
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
    return np.where(sizes == 1, images[start], found)  # to the last bit, not 1 - (1 - p)
