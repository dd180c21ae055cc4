"""Registry of encoders by name; a family's library is loaded when its first encoder is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.catalogue import names
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import DataError
from outerfold.storage.registry import Registry, load_part

if TYPE_CHECKING:
    from outerfold.pipelines.encoders.frozen import FrozenEncoder


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of image encoders.

    Attributes:
        name: first part of the names of its encoders, ``family:model``.
        build: function, or its ``module:name``, from a model's name and ``weights`` (a file, or
            None) to its ``FrozenEncoder`` with pretrained weights.
        models: names of its models; empty if ``build`` itself refuses an unknown one.
        blocks: function, or its ``module:name``, from a trunk to its ``Parts``, or to None where
            its blocks are not known; None where no model of the family can be cut.
        attention: function, or its ``module:name``, from a trunk to its ``Attention``, or to None
            where it is no plain transformer; None where no model can be rolled out.
    """

    name: str
    build: str | Callable[..., Any]
    models: tuple[str, ...] = ()
    blocks: str | Callable[..., Any] | None = None
    attention: str | Callable[..., Any] | None = None


_HOME = "outerfold.pipelines.encoders"
_ROLL_OUT = "outerfold.pipelines.explain.rollout"
FAMILIES: Registry[Family] = Registry(
    "encoder family",
    (
        Family(
            name="clip",
            build=f"{_HOME}.clip_encoder:build",
            blocks=f"{_HOME}.parts:clip_parts",
            attention=f"{_ROLL_OUT}:clip_attention",
        ),
        Family(
            name="timm",
            build=f"{_HOME}.timm_encoder:build",
            blocks=f"{_HOME}.parts:timm_parts",
            attention=f"{_ROLL_OUT}:timm_attention",
        ),
        Family(
            name="bundled",
            build=f"{_HOME}.bundled:build_model",
            models=("efficientnet_lite0",),
            blocks=f"{_HOME}.parts:timm_parts",
        ),
    ),
)


def build(name: str, *, weights: Path | None = None, framing: Framing | None = None) -> Encoder:
    """Build the encoder of this name with pretrained weights; it never gets random weights.

    Weights come from ``weights``, else from the local cache, else from the hub.

    Args:
        name: ``clip:MODEL``, ``timm:MODEL`` or ``bundled:efficientnet_lite0``.
        weights: file of tensors (``torch.save`` of a state dict, or safetensors).
        framing: rule by which images become squares; None takes the defaults of ``Framing``.

    Raises:
        DataError: an unknown name, no weights anywhere, or weights of another model.
    """
    return replace(_build_frozen(name, weights), framing=framing or Framing())


def _build_frozen(name: str, weights: Path | None) -> FrozenEncoder:
    head, _, model = name.partition(":")
    family = FAMILIES.get(head)
    if family is None or not model or (family.models and model not in family.models):
        known = (*names(), *own_models())
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        raise DataError(
            f"unknown encoder {name!r}; did you mean {near!r}? --encoder list names more"
        )
    built: FrozenEncoder = load_part(family.build)(model, weights=weights)
    return built


def family_of(encoder: str) -> Family | None:
    """Family of the encoder of this name; None where it belongs to none."""
    return FAMILIES.get(encoder.partition(":")[0])


def own_models() -> tuple[str, ...]:
    """Names of the encoders of plugins; a family that lists no models gets ``family:NAME``."""
    return tuple(
        f"{name}:{model}"
        for name, family in FAMILIES.items()
        if FAMILIES.is_added(name)
        for model in (family.models or ("NAME",))
    )
