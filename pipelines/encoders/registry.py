"""Registry of encoders by name; a family's library is loaded when its first encoder is built."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.catalogue import names
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import DataError

if TYPE_CHECKING:
    from outerfold.pipelines.encoders.frozen import FrozenEncoder


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
    family, _, model = name.partition(":")
    if family == "clip" and model:
        from outerfold.pipelines.encoders import clip_encoder

        return clip_encoder.build(model, weights=weights)
    if family == "timm" and model:
        from outerfold.pipelines.encoders import timm_encoder

        return timm_encoder.build(model, weights=weights)
    if name == "bundled:efficientnet_lite0":
        from outerfold.pipelines.encoders import bundled

        return bundled.build(weights=weights)
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0)[0]
    raise DataError(f"unknown encoder {name!r}; did you mean {near!r}? --encoder list names more")
