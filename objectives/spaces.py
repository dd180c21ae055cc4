"""Search spaces: a function from a trial to a pipeline for each task, and its default ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf

from optuna.trial import BaseTrial

from outerfold.pipelines._base import Pipeline
from outerfold.pipelines.augmentation.views import STRENGTHS
from outerfold.pipelines.encoders.divide import ALL, Blocks
from outerfold.pipelines.rows.samplers import SAMPLERS, real_row_samplers
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.fine_tuned import TailPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.pipelines.training.tails import CHANGES
from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.registry import load_part
from outerfold.storage.tasks import TASKS

Space = Callable[[BaseTrial], Pipeline]
Drawn = bool | int | float | str | None


@dataclass(frozen=True)
class Range:
    """Range of numbers from ``low`` to ``high``, both included.

    ``log`` draws on a logarithmic scale; a ``step`` allows only ``low``, ``low + step`` and so on.

    Example:
        >>> import optuna
        >>> trial = optuna.trial.FixedTrial({"dropout": 0.25})
        >>> Range(0.1, 0.6).draw(trial, "dropout")
        0.25
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def draw(self, trial: BaseTrial, name: str) -> float:
        """Draw one number; the trial stores it as ``name``."""
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    @property
    def fixed(self) -> float | None:
        """The number that is always drawn; None if several can be drawn."""
        single = self.low == self.high or (self.step or 0.0) > self.high - self.low
        return self.low if single else None

    def holds(self, value: Drawn) -> bool:
        """Whether ``value`` can be drawn."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1.0)
        return self.step is None or abs(steps - round(steps)) < 1e-8

    @property
    def words(self) -> str:
        """What can be drawn, such as ``from 0.1 to 0.6``."""
        steps = f" in steps of {self.step:g}" if self.step else ""
        return f"from {self.low:g} to {self.high:g}{steps}"


@dataclass(frozen=True)
class Choice:
    """Choice of one of ``values``."""

    values: tuple[bool | int | float | str, ...]

    def draw(self, trial: BaseTrial, name: str) -> bool | int | float | str | None:
        """Draw one value; the trial stores it as ``name``."""
        return trial.suggest_categorical(name, self.values)

    @property
    def fixed(self) -> Drawn:
        """The value that is always drawn; None if several can be drawn."""
        return self.values[0] if len(set(self.values)) == 1 else None

    def holds(self, value: Drawn) -> bool:
        """Whether ``value`` can be drawn."""
        return value in self.values

    @property
    def words(self) -> str:
        """What can be drawn, such as ``from none, weighted``."""
        return f"from {', '.join(str(value) for value in self.values)}"


Ranges = Mapping[str, Range | Choice]

_COMMON: dict[str, Range | Choice] = {
    "learning_rate": Range(1e-4, 1e-2, log=True),
    "dropout": Range(0.1, 0.6),
    "focal_gamma": Range(0.0, 3.0, step=0.5),  # 0 is cross-entropy
    "sampler": Choice(tuple(SAMPLERS)),  # default_ranges adds those of plugins
    "attention": Choice((False, True)),
    "weight_decay": Range(1e-5, 1e-2, log=True),
    "batch_size": Choice((32, 64, 128)),
    "label_smoothing": Range(0.0, 0.2),
    "ens_beta": Choice((0.0, 0.9, 0.99, 0.999)),
    "augmented_views": Choice((0, 1, 2)),
    "augmentation": Choice(STRENGTHS),
}

# Tokens cannot be interpolated between images, so attention has its own choice of samplers.
DBT_RANGES: Ranges = {**_COMMON, "token_sampler": Choice(real_row_samplers())}
MULTIMODAL_RANGES: Ranges = {
    **_COMMON,
    "weight_decay": Range(1e-4, 1e-1, log=True),
    "label_smoothing": Range(0.05, 0.15),
}

TAIL_RANGES: dict[str, Range | Choice] = {
    "sampler": Choice(real_row_samplers()),  # activations cannot be interpolated between images
    "tail_rate": Range(0.01, 1.0, log=True),
}
"""Ranges that are added or replaced where blocks of the encoder are trained."""

PIXEL_RANGES: dict[str, Range | Choice] = {
    "augmented_views": Choice((0,)),
    "augment_strength": Range(0.0, 1.0),
}
"""Ranges that are added or replaced where the whole encoder is trained: images are augmented when
they are drawn, not beforehand."""

_COMMON_DEFAULT: dict[str, Drawn] = {
    "learning_rate": 1e-3,  # of Adam (Kingma & Ba 2015)
    "dropout": 0.3,
    "focal_gamma": 0.0,  # cross-entropy
    "sampler": "none",
    "token_sampler": "none",
    "attention": False,
    "batch_size": 64,
    "ens_beta": 0.0,  # every class weighs the same
    "augmented_views": 0,
    "augmentation": "light",  # where an option fixes the number of views at another than 0
    "tail_rate": 0.1,  # the head begins at random weights, the encoder at pretrained ones
    "augment_strength": 0.5,
}

DBT_DEFAULT: dict[str, Drawn] = {**_COMMON_DEFAULT, "weight_decay": 1e-4, "label_smoothing": 0.0}
MULTIMODAL_DEFAULT: dict[str, Drawn] = {
    **_COMMON_DEFAULT,
    "weight_decay": 1e-2,  # of AdamW (Loshchilov & Hutter 2019), as torch has it
    "label_smoothing": 0.1,  # Szegedy et al. (2016)
}
"""Default configurations of the two tasks, which every search has to beat.

The values are conventions: those of the named papers, the plain alternative where there is a
choice, the middle of the range elsewhere. They were fixed before any of them was benchmarked, and
no score has changed them since. A change would be a choice made after seeing results.
"""

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
"""Smallest and largest value with which training works, by hyper-parameter."""


def dbt_space(trial: BaseTrial, *, ranges: Ranges) -> Pipeline:
    """Draw a ``DbtPipeline`` from ``trial``; with attention the sampler is a ``token_sampler``."""
    drawn = _draw_values(trial, ranges, [name for name in _COMMON if name != "sampler"])
    sampler = "token_sampler" if drawn["attention"] else "sampler"
    return DbtPipeline(sampler=ranges[sampler].draw(trial, sampler), **drawn)  # type: ignore[arg-type]


def multimodal_space(trial: BaseTrial, *, ranges: Ranges) -> Pipeline:
    """Draw a ``MultimodalPipeline`` from ``trial``."""
    return MultimodalPipeline(**_draw_values(trial, ranges, _COMMON))  # type: ignore[arg-type]


def _draw_values(trial: BaseTrial, ranges: Ranges, names: Iterable[str]) -> dict[str, Drawn]:
    """Draw one value for each of ``names``.

    The strength of views is drawn only where there are views, the encoder only where the ranges
    name several.
    """
    drawn = {name: ranges[name].draw(trial, name) for name in names if name != "augmentation"}
    if drawn["augmented_views"]:
        drawn["augmentation"] = ranges["augmentation"].draw(trial, "augmentation")
    if "encoder" in ranges:
        drawn["encoder"] = ranges["encoder"].draw(trial, "encoder")
    return drawn


def ranges_of(task: str) -> Ranges:
    """Default ranges of a task with a frozen encoder."""
    found: Ranges = load_part(TASKS.named(task).ranges)
    return found


def defaults_of(task: str) -> dict[str, Drawn]:
    """Default configuration of a task."""
    found: dict[str, Drawn] = load_part(TASKS.named(task).defaults)
    return found


def space_of(task: str) -> Callable[..., Pipeline]:
    """Function that draws a pipeline of a task from a trial and ``ranges``."""
    found: Callable[..., Pipeline] = load_part(TASKS.named(task).space)
    return found


def tail_space(trial: BaseTrial, *, task: str, ranges: Ranges, checkpointing: bool) -> Pipeline:
    """Draw a ``TailPipeline`` from ``trial``.

    A trial that ran out of memory before is trained in the same micro-batches again.
    """
    head = space_of(task)(trial, ranges=ranges)
    strength = ranges.get("augment_strength")
    return TailPipeline(
        head,  # type: ignore[arg-type]
        ranges["tail_rate"].draw(trial, "tail_rate"),  # type: ignore[arg-type]
        strength.draw(trial, "augment_strength") if strength else 0.0,  # type: ignore[arg-type]
        checkpointing,
        tuple(tuple(change) for change in trial.user_attrs.get(CHANGES, ())),
    )


def make_space(task: str, ranges: Ranges, *, checkpointing: bool = False) -> Space:
    """Return the function that draws a pipeline of ``task`` from ``ranges`` for a trial."""
    if "tail_rate" in ranges:
        return partial(tail_space, task=task, ranges=ranges, checkpointing=checkpointing)
    return partial(space_of(task), ranges=ranges)


def default_ranges(task: str, blocks: Blocks = 0) -> Ranges:
    """Return the ranges of a search without overrides.

    Args:
        task: name of the task.
        blocks: number of trained blocks of the encoder, or ``all``.
    """
    tail = TAIL_RANGES if blocks else {}
    ranges = {**ranges_of(task), **tail, **(PIXEL_RANGES if blocks == ALL else {})}
    real = Choice(real_row_samplers())
    samplers = {"sampler": real if blocks else Choice(tuple(SAMPLERS)), "token_sampler": real}
    return {name: samplers.get(name, found) for name, found in ranges.items()}


def override_ranges(
    task: str, overrides: Mapping[str, Mapping[str, object]], blocks: Blocks = 0
) -> Ranges:
    """Return the task's ranges, some of them replaced by those of a configuration file.

    Args:
        task: name of the task.
        overrides: name to ``{"low", "high"}`` (and ``log``, ``step``), or to ``{"values"}``.
        blocks: number of trained blocks of the encoder, or ``all``.

    Raises:
        DataError: an unknown name or key, an invalid range, or one that does not fit the
            hyper-parameter.
    """
    defaults = default_ranges(task, blocks)
    ranges = dict(defaults)
    for name, given in overrides.items():
        _refuse_without_effect(name, blocks)
        if name not in ranges:
            raise DataError(f"[space]: {unknown_name('hyper-parameter', name, ranges)}")
        ranges[name] = _parse_range(name, given)
        _check_range(name, ranges[name], defaults[name])
    return ranges


def _refuse_without_effect(name: str, blocks: Blocks) -> None:
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


def _parse_range(name: str, given: object) -> Range | Choice:
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


def _check_range(name: str, found: Range | Choice, default: Range | Choice) -> None:
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
