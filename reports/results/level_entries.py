"""Metrics and intervals by patient (and by breast) as entries of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outerfold.reports.results.entries import by_class, overall_entries
from outerfold.reports.results.levels import (
    NO_SIDES,
    Aggregate,
    Level,
    LevelRows,
    by_level,
    refuse_aggregate,
)
from outerfold.reports.results.predictions import (
    confusion_counts,
    distinct,
    images_per_class,
    patients_per_class,
)
from outerfold.reports.wording import Json
from outerfold.storage.records import DataError, Predictions, Run

ONE_IMAGE = "each patient has one image, so that images and patients are the same rows"


def leading_level(protocol: Mapping[str, object]) -> Level:
    """What the report leads with."""
    level: Level = protocol.get("level", "image")  # type: ignore[assignment]
    return level


def aggregate_of(protocol: Mapping[str, object]) -> Aggregate:
    """How images make one probability."""
    aggregate: Aggregate = protocol.get("aggregate", "mean")  # type: ignore[assignment]
    return aggregate


def refuse_inert(
    protocol: Mapping[str, object],
    classes: tuple[str, ...],
    patients: Sequence[str],
    *,
    sides: bool,
) -> None:
    """``DataError`` where a level or rule cannot be had, or would have no effect.

    Args:
        patients: of each image.
        sides: whether the side of each image is known.
    """
    level, aggregate = leading_level(protocol), aggregate_of(protocol)
    refuse_aggregate(aggregate, classes)
    if level == "breast" and not sides:
        raise DataError(NO_SIDES)
    if len(set(patients)) == len(patients):
        for option, chosen, default in (
            ("level", level, "image"),
            ("aggregate", aggregate, "mean"),
        ):
            if chosen != default:
                raise DataError(f"--{option} {chosen} has no effect: {ONE_IMAGE}; leave it out")


def level_rows(run: Run) -> dict[str, LevelRows]:
    """Test rows by patient, and by breast where the report leads with it; none if they are one."""
    aggregate, leading = aggregate_of(run.protocol), leading_level(run.protocol)
    levels: tuple[Level, ...] = ("breast", "patient") if leading == "breast" else ("patient",)
    tests = [study.test for study in run.outer if study.test is not None]
    if all(len(set(rows.patients.tolist())) == len(rows) for rows in tests):
        return {}
    found = ((level, by_level(run, level, aggregate)) for level in levels)
    return {level: rows for level, rows in found if rows is not None}


def level_entry(level: str, found: LevelRows, test: Predictions, aggregate: Aggregate) -> Json:
    """One level's numbers; ``images`` are those of ``test`` that were combined."""
    once, classes = distinct(found.test), test.classes
    return {
        "aggregate": aggregate,
        "units": len(once),
        "patients": len(set(once.patients.tolist())),
        "images": len(distinct(test)),
        "units_by_class": images_per_class(once, classes),
        "patients_by_class": patients_per_class(once, classes),
        "mixed": found.mixed,
        "notes": [
            combination(level, aggregate, classes),
            *decision(level, classes),
            *label(level, found.mixed, classes),
        ],
        "thresholds": dict(found.thresholds),
        "overall": overall_entries(found.test),
        "per_class": by_class(found.test),
        "confusion": confusion_counts(found.test, classes),
    }


def combination(level: str, aggregate: Aggregate, classes: tuple[str, ...]) -> str:
    """How probabilities were combined, in words."""
    images = f"the {level}'s images"
    if len(classes) == 2:
        words = {
            "mean": f"the mean over {images}",
            "max": f"the largest probability of {classes[1]} among {images}",
            "noisy-or": f"1 − ∏(1 − p) over {images}, p being that of {classes[1]} (noisy-or)",
        }
    else:
        words = {
            "mean": f"the mean over {images}",
            "max": f"the largest of each class among {images}, divided by their sum",
        }
    return f"Probability of a {level}: {words[aggregate]}."


def decision(level: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Where the thresholds come from, in words."""
    if len(classes) > 2:
        return (f"A {level} counts as predicted to be of the class with the largest probability.",)
    return (
        f"Each fold's threshold was fitted again by {level}, on the out-of-fold rows of its own "
        "inner folds; no test row took part.",
    )


def label(level: str, mixed: int, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What a patient with images of several classes counts as, in words."""
    if not mixed:
        return ()
    counts = f"{mixed:,} {level}{' has' if mixed == 1 else 's have'} images of several classes"
    if len(classes) == 2:
        return (f"{counts} and count{'s' if mixed == 1 else ''} as {classes[1]}.",)
    order = ", ".join(classes)
    return (f"{counts}, of which the last in the order {order} counts.",)
