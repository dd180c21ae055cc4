"""Presets: named values for several options at once, in place of the defaults of their task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.tasks import TASKS


@dataclass(frozen=True)
class Preset:
    """A published recipe.

    Attributes:
        task: the task that it is a recipe of.
        values: value of each option that it sets, by the option's name.
    """

    task: str
    values: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = {
    "published": Preset(
        "multimodal",
        {
            "encoder": TASKS["multimodal"].encoder,
            "trainable_blocks": 2,
            "epochs": TASKS["multimodal"].epochs,
        },
    )
}


def apply_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the values of the preset that they name, if any, where they give no others.

    Args:
        given: options by name, with the task.

    Raises:
        DataError: the preset is unknown, is a recipe of another task, or has no effect.
    """
    options = dict(given)
    name = options.pop("preset", None)
    if name is None:
        return options
    if not isinstance(name, str):
        raise DataError(f"preset must be text, found {name!r}")
    if name not in PRESETS:
        raise DataError(f"--preset: {unknown_name('value', name, list(PRESETS))}")
    preset = PRESETS[name]
    if options["task"] != preset.task:
        raise DataError(
            f"--preset {name} is a recipe of --task {preset.task}, and --task is "
            f"{options['task']}; leave --preset out, or choose --task {preset.task}"
        )
    if set(preset.values) <= set(options):
        names = ", ".join(f"--{option.replace('_', '-')}" for option in preset.values)
        raise DataError(
            f"--preset {name} has no effect, since all of {names} are given; leave it or one of "
            "them out"
        )
    return {**preset.values, **options}
