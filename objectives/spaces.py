"""What is searched: a function a task from a trial to a pipeline, and the ranges it draws from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf

from optuna.trial import BaseTrial

from outerfold.pipelines._base import Pipeline
from outerfold.pipelines.augmentation.views import STRENGTHS
from outerfold.pipelines.encoders.divide import ALL, Blocks
from outerfold.pipelines.rows.resample import REAL_ROW_SAMPLERS, SAMPLERS
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.fine_tuned import TailPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.pipelines.training.tails import CHANGES
from outerfold.storage.errors import DataError, unknown

Space = Callable[[BaseTrial], Pipeline]


@dataclass(frozen=True)
class Range:
    """Numbers between ``low`` and ``high``, both possible.

    ``log`` spreads them by factors; a ``step`` leaves only ``low``, ``low + step`` and so on.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def draw(self, trial: BaseTrial, name: str) -> float:
        """One number, called ``name`` in the trial."""
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choice:
    """One of ``values``."""

    values: tuple[bool | int | float | str, ...]

    def draw(self, trial: BaseTrial, name: str) -> bool | int | float | str | None:
        """One value, called ``name`` in the trial."""
        return trial.suggest_categorical(name, self.values)


Ranges = Mapping[str, Range | Choice]
Drawn = bool | int | float | str | None

_COMMON: dict[str, Range | Choice] = {
    "learning_rate": Range(1e-4, 1e-2, log=True),
    "dropout": Range(0.1, 0.6),
    "focal_gamma": Range(0.0, 3.0, step=0.5),  # 0 is cross-entropy
    "sampler": Choice(SAMPLERS),
    "attention": Choice((False, True)),
    "weight_decay": Range(1e-5, 1e-2, log=True),
    "batch_size": Choice((32, 64, 128)),
    "label_smoothing": Range(0.0, 0.2),
    "ens_beta": Choice((0.0, 0.9, 0.99, 0.999)),
    "augmented_views": Choice((0, 1, 2)),
    "augmentation": Choice(STRENGTHS),
}

RANGES: dict[str, dict[str, Range | Choice]] = {
    # Tokens cannot be interpolated between images, so attention draws from its own samplers.
    "dbt": {**_COMMON, "token_sampler": Choice(REAL_ROW_SAMPLERS)},
    "multimodal": {
        **_COMMON,
        "weight_decay": Range(1e-4, 1e-1, log=True),
        "label_smoothing": Range(0.05, 0.15),
    },
}
"""Default ranges of each task."""

TAIL_RANGES: dict[str, Range | Choice] = {
    "sampler": Choice(REAL_ROW_SAMPLERS),  # activations cannot be interpolated between images
    "tail_rate": Range(0.01, 1.0, log=True),
}
"""What a search draws besides, or otherwise, where blocks of the encoder are trained."""

PIXEL_RANGES: dict[str, Range | Choice] = {
    "augmented_views": Choice((0,)),
    "augment_strength": Range(0.0, 1.0),
}
"""And where all of it is trained: images are changed as they are drawn, instead of beforehand."""

LIMITS = {
    "learning_rate": (1e-9, 10.0),
    "dropout": (0.0, 0.95),
    "focal_gamma": (0.0, 10.0),
    "weight_decay": (0.0, 10.0),
    "batch_size": (2.0, 1e6),  # batch normalisation needs two rows
    "label_smoothing": (0.0, 0.95),
    "ens_beta": (0.0, 0.999999999),
    "augmented_views": (0.0, 100.0),
    "tail_rate": (0.0, 100.0),
    "augment_strength": (0.0, 1.0),
}
"""Least and largest value that training can do anything with, by hyper-parameter."""


def dbt_space(trial: BaseTrial, *, ranges: Ranges) -> Pipeline:
    """A ``DbtPipeline`` from ``trial``."""
    drawn = _drawn(trial, ranges, [name for name in _COMMON if name != "sampler"])
    sampler = "token_sampler" if drawn["attention"] else "sampler"
    return DbtPipeline(sampler=ranges[sampler].draw(trial, sampler), **drawn)  # type: ignore[arg-type]


def multimodal_space(trial: BaseTrial, *, ranges: Ranges) -> Pipeline:
    """A ``MultimodalPipeline`` from ``trial``."""
    return MultimodalPipeline(**_drawn(trial, ranges, _COMMON))  # type: ignore[arg-type]


def _drawn(trial: BaseTrial, ranges: Ranges, names: Iterable[str]) -> dict[str, Drawn]:
    """One value each; the strength of views and the encoder only where there is a choice."""
    drawn = {name: ranges[name].draw(trial, name) for name in names if name != "augmentation"}
    if drawn["augmented_views"]:
        drawn["augmentation"] = ranges["augmentation"].draw(trial, "augmentation")
    if "encoder" in ranges:
        drawn["encoder"] = ranges["encoder"].draw(trial, "encoder")
    return drawn


SPACES: dict[str, Callable[..., Pipeline]] = {"dbt": dbt_space, "multimodal": multimodal_space}


def tail_space(trial: BaseTrial, *, task: str, ranges: Ranges, checkpointing: bool) -> Pipeline:
    """A ``TailPipeline`` from ``trial``; one that ran out of memory is trained in its parts."""
    head = SPACES[task](trial, ranges=ranges)
    strength = ranges.get("augment_strength")
    return TailPipeline(
        head,  # type: ignore[arg-type]
        ranges["tail_rate"].draw(trial, "tail_rate"),  # type: ignore[arg-type]
        strength.draw(trial, "augment_strength") if strength else 0.0,  # type: ignore[arg-type]
        checkpointing,
        tuple(tuple(change) for change in trial.user_attrs.get(CHANGES, ())),
    )


def space(task: str, ranges: Ranges, *, checkpointing: bool = False) -> Space:
    """The search-space function of a task over ``ranges``."""
    if "tail_rate" in ranges:
        return partial(tail_space, task=task, ranges=ranges, checkpointing=checkpointing)
    return partial(SPACES[task], ranges=ranges)


def default_ranges(task: str, blocks: Blocks = 0) -> Ranges:
    """What a search draws from unless it is told otherwise.

    Args:
        blocks: of the encoder that are trained.
    """
    tail = TAIL_RANGES if blocks else {}
    return {**RANGES[task], **tail, **(PIXEL_RANGES if blocks == ALL else {})}


def overridden(
    task: str, overrides: Mapping[str, Mapping[str, object]], blocks: Blocks = 0
) -> Ranges:
    """The task's ranges with some replaced, as a configuration file spells them.

    Args:
        task: ``dbt`` or ``multimodal``.
        overrides: name to ``{"low", "high"}`` (and ``log``, ``step``), or to ``{"values"}``.
        blocks: of the encoder that are trained.

    Raises:
        DataError: an unknown name or key, or a range that is not one.
    """
    defaults = default_ranges(task, blocks)
    ranges = dict(defaults)
    for name, given in overrides.items():
        _refuse_inert(name, blocks)
        if name not in ranges:
            raise DataError(f"[space]: {unknown('hyper-parameter', name, ranges)}")
        ranges[name] = _parse(name, given)
        _check(name, ranges[name], defaults[name])
    return ranges


def _refuse_inert(name: str, blocks: Blocks) -> None:
    if name in ("tail_rate", "augment_strength") and not blocks:
        raise DataError(
            f"[space.{name}] has no effect while the encoder is frozen; add --trainable-blocks"
        )
    if name == "augment_strength" and blocks != ALL:
        raise DataError(
            f"[space.{name}] has no effect with --trainable-blocks {blocks}, which reads kept "
            f"views; give [space.augmented_views], or --trainable-blocks {ALL}"
        )
    if name == "augmented_views" and blocks == ALL:
        raise DataError(
            f"[space.{name}] has no effect with --trainable-blocks {ALL}, which changes images as "
            "it draws them; give [space.augment_strength]"
        )


def _parse(name: str, given: object) -> Range | Choice:
    table: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    values = table.get("values")
    if set(table) == {"values"} and isinstance(values, list) and values:
        return Choice(tuple(values))
    numbers = {key: table[key] for key in ("low", "high", "step") if key in table}
    log = table.get("log", False)
    if (
        not {"low", "high"} <= set(table) <= {"low", "high", "log", "step"}
        or any(type(number) not in (int, float) for number in numbers.values())
        or not isinstance(log, bool)
    ):
        raise DataError(
            f"[space.{name}]: a range is low and high (and log or step), or values; found {given}"
        )
    found = {key: float(str(number)) for key, number in numbers.items()}
    in_order = found["low"] <= found["high"] and found.get("step", 1.0) > 0
    if not in_order or (log and (found["low"] <= 0 or "step" in found)):
        raise DataError(
            f"[space.{name}]: a range needs low <= high and step > 0, and on a log scale low > 0 "
            f"and no step; found {given}"
        )
    return Range(log=log, **found)


def _check(name: str, found: Range | Choice, default: Range | Choice) -> None:
    if isinstance(found, Range):
        fits = isinstance(default, Range)
    elif isinstance(default, Range):
        fits = all(type(value) in (int, float) for value in found.values)
    else:
        fits = {type(value) for value in found.values} <= {type(value) for value in default.values}
        if isinstance(default.values[0], str):
            fits = fits and set(found.values) <= set(default.values)
    if not fits:
        raise DataError(f"[space.{name}]: {found} does not fit; the default is {default}")
    least, most = LIMITS.get(name, (-inf, inf))
    ends = (found.low, found.high) if isinstance(found, Range) else found.values
    outside = [end for end in ends if type(end) in (int, float) and not least <= end <= most]  # type: ignore[operator]
    if outside:
        raise DataError(
            f"[space.{name}]: {outside[0]} is outside {least:g} to {most:g}, which training "
            "can use; narrow the range"
        )
