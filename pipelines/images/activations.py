"""Inputs of a trainable tail: activations of the frozen trunk, computed once and kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from outerfold.pipelines.augmentation.views import STYLES, Views
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import ALL, Blocks, Divided, divide
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.embed import Progress, count_missing, embed, embedded_squares
from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.storage.records import DataError, Features

GIB = 2**30
UNTOUCHED = Views((0,), STYLES[0])
"""View 0 alone, the image itself."""
SPARE = GIB
"""Bytes on the disk that stay free."""


class TailRows(ImageSource, Protocol):
    """Image source that also gives the inputs of a tail."""

    @property
    def pixels(self) -> bool:
        """Whether the tail reads 8-bit images instead of activations."""

    def activations(self, ids: Sequence[str], view: int = 0) -> NDArray[Any]:
        """Return inputs of the tail: (n, positions, channels) float16, or (n, s, s, 3) 8-bit."""

    def tail(self) -> nn.Module:
        """Return a copy of the pretrained tail, a ``Tail`` of ``pipelines.encoders.divide``."""


@dataclass(frozen=True, eq=False)
class TrunkSource:
    """Handle of the images of an encoder that is cut in two.

    It pickles to a few names, whatever the number of images.

    Attributes:
        embeddings: embeddings by the whole pretrained encoder, view 0 alone.
        cut: handle whose ``tokens`` are activations at the cut, or 8-bit images.
        encoder, weights, weights_sha256: name, weights file and SHA-256, from which another process
            builds the tail.
        blocks: number of trained blocks, the last ones, or ``all``.
    """

    embeddings: ImageSource
    cut: ImageSource
    encoder: str
    weights: str
    weights_sha256: str
    blocks: Blocks

    @property
    def dim(self) -> int:
        """Width of a pooled embedding."""
        return self.embeddings.dim

    @property
    def views(self) -> int:
        """Largest view number of the activations, plus 1."""
        return self.cut.views

    @property
    def pixels(self) -> bool:
        """Whether the tail reads 8-bit images instead of activations."""
        return self.blocks == ALL

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        """Return pooled embeddings (n, dim) by the pretrained encoder, before any training."""
        return self.embeddings.pooled(ids, view)

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        """Return spatial tokens (n, tokens, token_dim) by the pretrained encoder."""
        return self.embeddings.tokens(ids, view)

    def activations(self, ids: Sequence[str], view: int = 0) -> NDArray[Any]:
        """Return inputs of the tail; see ``TailRows.activations``."""
        return self.cut.tokens(ids, view)

    def tail(self) -> nn.Module:
        """Return a copy of the pretrained tail.

        Raises:
            DataError: the encoder's weights have changed since.
        """
        divided = _divide_encoder(self.encoder, self.weights, self.weights_sha256, self.blocks)
        return deepcopy(divided.tail)


@dataclass(frozen=True, eq=False)
class Division:
    """Encoder and the number of blocks at its end that are trained.

    Attributes:
        encoder: the pretrained encoder.
        weights: weights file that the user gave; empty for the encoder's default weights.
        blocks: number of trained blocks, the last ones, or ``all``; 0 keeps the encoder frozen.
    """

    encoder: Encoder
    weights: str
    blocks: Blocks


def image_source(
    features: Features,
    division: Division,
    *,
    cache: Path,
    views: Views,
    tokens: bool,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Embeddings | TrunkSource:
    """Compute embeddings of images, and the inputs of the tail where encoder blocks are trained.

    The arguments are those of ``embed`` and ``trunk_source``.
    """
    how: dict[str, Any] = {
        "cache": cache,
        "views": views,
        "tokens": tokens,
        "device": device,
        "progress": progress,
    }
    if division.blocks:
        return trunk_source(features, division, **how)
    return embed(features, division.encoder, **how)


def trunk_source(
    features: Features,
    division: Division,
    *,
    cache: Path,
    views: Views = UNTOUCHED,
    tokens: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TrunkSource:
    """Compute and keep on disk the inputs of a tail.

    Args:
        features: rows; only ids and image files matter.
        division: the encoder and its trained blocks.
        cache: folder for all stores.
        views: views of the activations; 8-bit images have view 0 alone.
        tokens: whether to keep the pretrained encoder's spatial tokens as well.
        device: device of the encoder.
        progress: called as by ``embed``.

    Raises:
        DataError: the encoder cannot be cut, or an image cannot be read.
    """
    encoder, blocks = division.encoder, division.blocks
    trunk = divide(encoder, blocks).trunk
    frozen = embed(features, encoder, cache=cache, tokens=tokens, device=device, progress=progress)
    if trunk is None:
        cut = embedded_squares(features, frozen, encoder, progress=progress)
    else:
        cut = embed(features, trunk, cache=cache, views=views, device=device, progress=progress)
    return TrunkSource(frozen, cut, encoder.name, division.weights, encoder.weights_sha256, blocks)


def count_missing_views(
    features: Features,
    division: Division,
    *,
    cache: Path,
    views: Views,
    tokens: bool,
    device: str = "cpu",
) -> int:
    """Number of images and views that ``image_source`` would have to encode."""
    encoder = division.encoder
    how: dict[str, Any] = {"cache": cache, "device": device}
    if not division.blocks:
        return count_missing(features, encoder, views=views, tokens=tokens, **how)
    trunk = divide(encoder, division.blocks).trunk
    whole = count_missing(features, encoder, views=UNTOUCHED, tokens=tokens, **how)
    return whole if trunk is None else whole + count_missing(features, trunk, views=views, **how)


def describe_disk_space(
    features: Features, division: Division, *, cache: Path, views: Views, device: str
) -> str:
    """Describe the disk space of ``trunk_source`` in a sentence; empty if it keeps no activations.

    The arguments are those of ``trunk_source``.

    Raises:
        DataError: the disk has too little free space.
    """
    trunk = divide(division.encoder, division.blocks).trunk
    if trunk is None:
        return ""
    row = 2 * trunk.tokens * trunk.token_dim + 4 * trunk.dim
    new = count_missing(features, trunk, cache=cache, views=views, device=device) * row
    free, count = shutil.disk_usage(cache).free, len(views.numbers)
    size = (
        f"{len(features):,} images x {count} views x {row / 1024:.1f} KiB = "
        f"{len(features) * count * row / GIB:.2f} GiB"
    )
    if new + SPARE > free:
        raise DataError(
            f"{cache}: activations of the frozen trunk ({size}) need {new / GIB:.2f} GiB more, "
            f"with {SPARE / GIB:.0f} GiB to spare, and {free / GIB:.2f} GiB are free; make room, "
            "name another folder with OUTERFOLD_CACHE, or lower [space.augmented_views]"
        )
    return (
        f"activations of the frozen trunk: {size}, {new / GIB:.2f} GiB of it new; "
        f"{free / GIB:.1f} GiB are free"
    )


@lru_cache(maxsize=2)
def _divide_encoder(name: str, weights: str, sha256: str, blocks: Blocks) -> Divided:
    encoder = build(name, weights=Path(weights) if weights else None)
    if encoder.weights_sha256 != sha256:
        raise DataError(
            f"{name}: the weights here have SHA-256 {encoder.weights_sha256[:12]}..., but the run "
            f"began with {sha256[:12]}...; restore those weights"
        )
    return divide(encoder, blocks)
