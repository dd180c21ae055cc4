"""Random numbers in the shape of image representations, to time training before any encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.pipelines.augmentation.views import Views
from outerfold.pipelines.encoders.divide import divide
from outerfold.pipelines.images.activations import Division, TrunkSource

DISTINCT = 256
"""Number of different random rows; more rows repeat them."""


@dataclass(frozen=True, eq=False)
class StandIn:
    """Image source of random numbers, which has rows for any id.

    Attributes:
        dim: width of a pooled embedding.
        grid: shape of a row of tokens, such as (tokens, token_dim).
        views: largest view number plus 1.
        pixels: whether a row of tokens is an 8-bit image.
    """

    dim: int
    grid: tuple[int, ...]
    views: int
    pixels: bool = False

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        """Return random embeddings (n, dim)."""
        return _draw_rows((self.dim,), view)[np.arange(len(ids)) % DISTINCT]

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[Any]:
        """Return random tokens (n, *grid), float16, or 8-bit images."""
        if self.pixels:
            return np.zeros((len(ids), *self.grid), dtype=np.uint8)
        rows = _draw_rows(self.grid, view, np.float16)
        return rows[np.arange(len(ids)) % DISTINCT]


@lru_cache(maxsize=16)
def _draw_rows(shape: tuple[int, ...], view: int, dtype: type = np.float32) -> NDArray[Any]:
    """Random rows (DISTINCT, *shape), kept, since a step that reads them takes less time."""
    rng = np.random.default_rng(view)
    return rng.standard_normal((DISTINCT, *shape), dtype=np.float32).astype(dtype, copy=False)


def stand_in(division: Division, views: Views) -> StandIn | TrunkSource:
    """Return random numbers in the shapes of ``image_source``; a trained tail is the real one."""
    encoder, most = division.encoder, max(views.numbers) + 1
    frozen = StandIn(encoder.dim, (encoder.tokens, encoder.token_dim), most)
    if not division.blocks:
        return frozen
    trunk = divide(encoder, division.blocks).trunk
    if trunk is None:
        side = encoder.image_size
        cut = StandIn(encoder.dim, (side, side, 3), 1, pixels=True)
    else:
        cut = StandIn(trunk.dim, (trunk.tokens, trunk.token_dim), most)
    return TrunkSource(
        frozen,
        cut,
        encoder.name,
        division.weights,
        encoder.weights_sha256,
        division.blocks,
    )
