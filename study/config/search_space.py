"""Ranges of a run's search, and the views and tokens of the images that the search needs."""

from __future__ import annotations

from dataclasses import asdict

from outerfold.objectives.default import Default, build_default
from outerfold.objectives.spaces import Choice, Ranges, override_ranges
from outerfold.pipelines.augmentation.views import Views, scoring_views, view_number
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.tasks import TASKS
from outerfold.study.config.record import AUTO, RULES, StudyConfig


def build_ranges(config: StudyConfig, data: Dataset) -> Ranges:
    """Ranges of a run: those of the task, with overrides and without those of no effect.

    Raises:
        DataError: a range or option has no effect on these data, or needs columns that they lack.
    """
    ranges = dict(override_ranges(config.task, config.space, config.trainable_blocks))
    if config.threshold != RULES[0] and len(data.classes) > 2:
        raise DataError(
            f"--threshold {config.threshold} has no effect on {len(data.classes)} classes, which "
            "are decided by the largest probability; leave it out"
        )
    if config.batch_size and config.batch_size != AUTO:
        ranges["batch_size"] = Choice((config.batch_size,))
    if TASKS.named(config.task).columns and not data.features.columns:
        if "attention" in config.space and ranges["attention"] != Choice((False,)):
            raise DataError(
                "[space.attention]: attention combines the image with clinical columns, and these "
                "data have none; leave it out or name columns with --columns"
            )
        ranges["attention"] = Choice((False,))
    if len(config.encoders) > 1:
        ranges["encoder"] = Choice(config.encoders)
    if "augmentation" in config.space and not training_views(ranges):
        raise DataError(
            "[space.augmentation] has no effect if [space.augmented_views] allows only 0; leave "
            "one of them out"
        )
    return ranges


def describe_ranges(ranges: Ranges) -> dict[str, dict[str, object]]:
    """What can be drawn, by parameter: ``values``, or ``low``, ``high``, ``log`` and ``step``."""
    return {
        name: {"values": list(one.values)} if isinstance(one, Choice) else asdict(one)
        for name, one in ranges.items()
    }


def default_of(config: StudyConfig, ranges: Ranges) -> Default:
    """Default configuration of a run whose search draws from ``ranges``, or why there is none."""
    if not config.ablated:
        return build_default(config.task, ranges)
    factor = config.ablated
    held = config.encoder if factor == "encoder" else ranges[factor].fixed
    return Default(
        reason=f"the ablation holds {factor} at {held}, which is not its value in the default "
        "configuration"
    )


def build_views(config: StudyConfig, ranges: Ranges) -> Views:
    """Views of each image that a search over ``ranges`` may read, to train or to score."""
    numbers = {*training_views(ranges), *scoring_views(config.tta)}
    return Views(tuple(sorted(numbers)), TASKS.named(config.task).style)


def training_views(ranges: Ranges) -> set[int]:
    """Numbers of the augmented views from which training may draw rows."""
    counts, strengths = ranges["augmented_views"], ranges["augmentation"]
    assert isinstance(counts, Choice)
    assert isinstance(strengths, Choice)
    each = range(1, 1 + max(int(count) for count in counts.values))
    return {view_number(str(one), nth) for one in strengths.values for nth in each}


def needs_tokens(config: StudyConfig, ranges: Ranges) -> bool:
    """Whether a search over ``ranges`` may read spatial tokens."""
    attention = ranges["attention"]
    tokens = TASKS.named(config.task).tokens
    return tokens and isinstance(attention, Choice) and True in attention.values
