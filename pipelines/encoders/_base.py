"""What every image encoder is: frozen, label-free, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.images.framing import Framing

TOKEN_GRID = 4
"""Side of the grid that spatial tokens are averaged to.

A ViT-B/32 has 7x7 patches, an EfficientNet a last map of 7x7; 4x4 keeps where something lies to a
quarter of the image and the cache to a third (40 KiB an image at 1280 channels in float16).
"""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder says of n images.

    Attributes:
        pooled: (n, dim) float32, one vector an image.
        tokens: (n, tokens, token_dim) float16, the grid read row by row from the top left.
    """

    pooled: NDArray[np.float32]
    tokens: NDArray[np.float16]


class Encoder(Protocol):
    """A frozen image encoder with pretrained weights.

    ``tests/contracts/encoder_contract.py`` is what an implementation must pass.
    """

    @property
    def name(self) -> str:
        """``family:model``, as the registry knows it."""

    @property
    def weights_sha256(self) -> str:
        """SHA-256 (64 hex digits) of the weights file."""

    @property
    def versions(self) -> tuple[str, ...]:
        """``library version`` of what computes the values."""

    @property
    def image_size(self) -> int:
        """Side, in pixels, of the square images it takes."""

    @property
    def framing(self) -> Framing:
        """How an image of any shape comes to be such a square."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted from red, green, blue in [0, 1]."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Divides what is left."""

    @property
    def dim(self) -> int:
        """Width of the pooled vector."""

    @property
    def token_dim(self) -> int:
        """Width of a spatial token."""

    @property
    def tokens(self) -> int:
        """Spatial tokens kept an image."""

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        """Encode images (n, image_size, image_size, 3)."""

    def to(self, device: str) -> Encoder:
        """The same encoder on ``cpu``, ``cuda``, ``cuda:1``, ``mps`` ..."""


def recipe(encoder: Encoder) -> dict[str, object]:
    """All of an encoder that its values depend on, for the key of a cache."""
    return {
        "encoder": encoder.name,
        "weights": encoder.weights_sha256,
        "image_size": encoder.image_size,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "framing": encoder.framing.key(),
        "token_grid": TOKEN_GRID,
        "versions": list(encoder.versions),
    }
