"""Where a trainable tail reads its images: activations of the frozen trunk, kept once on disk."""

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
SPARE = GIB
"""Bytes left free on the disk whatever is kept."""


class TailRows(ImageSource, Protocol):
    """An image source whose images may also be read where a tail takes them."""

    @property
    def pixels(self) -> bool:
        """Whether the tail takes 8-bit images instead of activations."""

    def activations(self, ids: Sequence[str], view: int = 0) -> NDArray[Any]:
        """(n, positions, channels) float16, or (n, s, s, 3) 8-bit images."""

    def tail(self) -> nn.Module:
        """A copy of the pretrained tail, see ``outerfold.pipelines.encoders.divide.Tail``."""


@dataclass(frozen=True, eq=False)
class TrunkSource:
    """Handle of an encoder cut in two; it pickles to names, however many images there are.

    Attributes:
        embeddings: of the whole pretrained encoder, view 0 alone.
        cut: whose ``tokens`` are activations at the cut, or 8-bit images.
        encoder, weights, weights_sha256: how the tail is built again in another process.
    """

    embeddings: Embeddings
    cut: Embeddings
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
        """One more than the largest number of a view of the activations."""
        return self.cut.views

    @property
    def pixels(self) -> bool:
        """See ``TailRows``."""
        return self.blocks == ALL

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        """Of the pretrained encoder, before any training."""
        return self.embeddings.pooled(ids, view)

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        """Of the pretrained encoder, before any training."""
        return self.embeddings.tokens(ids, view)

    def activations(self, ids: Sequence[str], view: int = 0) -> NDArray[Any]:
        """See ``TailRows``."""
        return self.cut.tokens(ids, view)

    def tail(self) -> nn.Module:
        """See ``TailRows``; weights that have changed since raise ``DataError``."""
        divided = _divided(self.encoder, self.weights, self.weights_sha256, self.blocks)
        return deepcopy(divided.tail)


@dataclass(frozen=True, eq=False)
class Division:
    """What is cut, and where.

    Attributes:
        weights: file the encoder was built from; empty for its own.
        blocks: that are trained, the last ones, or ``all``.
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
    """Embeddings of images, and what a tail reads where blocks of the encoder are trained.

    See ``embed`` and ``trunk_source``.
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
    """Compute and keep what a tail reads.

    Args:
        views: of the activations; 8-bit images have view 0 alone.
        tokens: keep the pretrained encoder's spatial tokens as well.

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


def room_for(
    features: Features, division: Division, *, cache: Path, views: Views, device: str
) -> str:
    """How much ``trunk_source`` keeps, in words; empty where it keeps no activations.

    Raises:
        DataError: the disk lacks room for it.
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
def _divided(name: str, weights: str, sha256: str, blocks: Blocks) -> Divided:
    encoder = build(name, weights=Path(weights) if weights else None)
    if encoder.weights_sha256 != sha256:
        raise DataError(
            f"{name}: the weights here have SHA-256 {encoder.weights_sha256[:12]}..., the run "
            f"began with {sha256[:12]}...; give it those"
        )
    return divide(encoder, blocks)
