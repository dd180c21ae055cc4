"""Tasks by name; a record names its parts as ``module:name``, so that a list loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outerfold.storage.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of target with the models that learn it.

    Attributes:
        name: its name as an option.
        pipeline: class of its pipelines (``Pipeline``), or its ``module:name``.
        space: function, or its ``module:name``, from a trial and ``ranges`` to a pipeline.
        ranges: default range of each hyper-parameter by name, or their ``module:name``.
        defaults: default configuration by name, or its ``module:name``.
        epochs: default number of epochs.
        encoder: default encoder.
        style: set of transforms of augmented views, ``albumentations`` or ``torchvision``.
        positive: whether all classes but the positive one are merged.
        columns: whether it reads clinical columns.
        tokens: whether attention reads spatial tokens of an image.
    """

    name: str
    pipeline: str | Callable[..., Any]
    space: str | Callable[..., Any]
    ranges: str | Mapping[str, Any]
    defaults: str | Mapping[str, Any]
    epochs: int
    encoder: str
    style: str
    positive: bool
    columns: bool
    tokens: bool


_SPACES = "outerfold.objectives.spaces"
TASKS: Registry[Task] = Registry(
    "task",
    (
        Task(
            name="dbt",
            pipeline="outerfold.pipelines.tasks.dbt:DbtPipeline",
            space=f"{_SPACES}:dbt_space",
            ranges=f"{_SPACES}:DBT_RANGES",
            defaults=f"{_SPACES}:DBT_DEFAULT",
            epochs=30,
            encoder="clip:ViT-B/32",
            style="albumentations",
            positive=False,
            columns=False,
            tokens=True,
        ),
        Task(
            name="multimodal",
            pipeline="outerfold.pipelines.tasks.multimodal:MultimodalPipeline",
            space=f"{_SPACES}:multimodal_space",
            ranges=f"{_SPACES}:MULTIMODAL_RANGES",
            defaults=f"{_SPACES}:MULTIMODAL_DEFAULT",
            epochs=100,
            encoder="timm:efficientnet_b0",
            style="torchvision",
            positive=True,
            columns=True,
            tokens=False,
        ),
    ),
)
