"""Entries of ``results.json`` for metrics and intervals by patient (and by breast)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outerfold.reports.intervals.jackknife import Of
from outerfold.reports.results.entries import class_entries, overall_entries
from outerfold.reports.results.levels import (
    NO_SIDES,
    Aggregate,
    Level,
    LevelRows,
    by_level,
    refuse_aggregate,
)
from outerfold.reports.results.no_information import add_no_information
from outerfold.reports.results.predictions import (
    confusion_counts,
    distinct,
    images_per_class,
    patients_per_class,
)
from outerfold.reports.wording import Json
from outerfold.storage.records import DataError, Predictions, Run

ONE_IMAGE = "each patient has one image, so images and patients are the same rows"


def leading_level(protocol: Mapping[str, object]) -> Level:
    """Level of the report's headline: ``image``, ``patient`` or ``breast``."""
    level: Level = protocol.get("level", "image")  # type: ignore[assignment]
    return level


def aggregate_of(protocol: Mapping[str, object]) -> Aggregate:
    """Rule that combines the probabilities of several images: ``mean``, ``max``, ``noisy-or``."""
    aggregate: Aggregate = protocol.get("aggregate", "mean")  # type: ignore[assignment]
    return aggregate


def refuse_without_effect(
    protocol: Mapping[str, object],
    classes: tuple[str, ...],
    patients: Sequence[str],
    *,
    sides: bool,
) -> None:
    """Refuse a level or a combination rule that is impossible or would have no effect.

    Args:
        patients: (n,) patient of each image.
        sides: whether the side of each image is known.

    Raises:
        DataError: ``noisy-or`` without two classes, breasts without sides, or a level or rule
            other than the default where each patient has one image.
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
    """Test rows by patient, and by breast if that is the headline's level.

    Empty if each patient has one image, since the rows are then the same.
    """
    aggregate, leading = aggregate_of(run.protocol), leading_level(run.protocol)
    levels: tuple[Level, ...] = ("breast", "patient") if leading == "breast" else ("patient",)
    tests = [study.test for study in run.outer if study.test is not None]
    if all(len(set(rows.patients.tolist())) == len(rows) for rows in tests):
        return {}
    found = ((level, by_level(run, level, aggregate)) for level in levels)
    return {level: rows for level, rows in found if rows is not None}


def level_entry(
    level: str, found: LevelRows, test: Predictions, aggregate: Aggregate, of: Of = "model"
) -> Json:
    """Entry of one level; ``images`` counts the images of ``test`` that were combined."""
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
            combination_sentence(level, aggregate, classes),
            *decision_sentences(level, classes),
            *label_sentences(level, found.mixed, classes),
        ],
        "thresholds": dict(found.thresholds),
        "calibrations": {
            name: {"temperature": one.temperature, "shift": one.shift}
            for name, one in found.decisions.items()
        },
        "overall": add_no_information(
            overall_entries(found.test, found.variation, of), found.test, found.priors
        ),
        "per_class": class_entries(found.test, found.variation, of),
        "confusion": confusion_counts(found.test, classes),
    }


def combination_sentence(level: str, aggregate: Aggregate, classes: tuple[str, ...]) -> str:
    """Sentence on how the probabilities of several images were combined."""
    images = f"the {level}'s images"
    if len(classes) == 2:
        words = {
            "mean": f"the mean over {images}",
            "max": f"the largest probability of {classes[1]} among {images}",
            "noisy-or": f"1 − ∏(1 − p) over {images}, where p is the probability of {classes[1]} "
            "(noisy-or)",
        }
    else:
        words = {
            "mean": f"the mean over {images}",
            "max": f"the largest probability of each class among {images}, divided by the sum of "
            "these",
        }
    return f"Probability of a {level}: {words[aggregate]}."


def decision_sentences(level: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Sentence on how a patient (or breast) is classified and where thresholds come from."""
    if len(classes) > 2:
        return (
            f"Each fold's calibration was fitted again by {level}, on the out-of-fold rows of that "
            "fold's inner folds; no test row was used.",
            f"A {level} is classified as the class with the largest probability.",
        )
    return (
        f"Each fold's calibration and threshold were fitted again by {level}, on the out-of-fold "
        "rows of that fold's inner folds; no test row was used.",
    )


def label_sentences(level: str, mixed: int, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Sentence on the class of a patient with images of several classes; none without such."""
    if not mixed:
        return ()
    counts = f"{mixed:,} {level}{' has' if mixed == 1 else 's have'} images of several classes"
    if len(classes) == 2:
        return (f"{counts} and count{'s' if mixed == 1 else ''} as {classes[1]}.",)
    order = ", ".join(classes)
    return (f"{counts}; the last of these classes in the order {order} counts.",)
