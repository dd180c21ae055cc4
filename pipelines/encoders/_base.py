"""Interface of image encoders; they are frozen, use no label and encode each image separately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.images.framing import Framing

TOKEN_GRID = 4
"""Side of the grid to which spatial tokens are averaged.

A ViT-B/32 has 7x7 patches, and an EfficientNet has a last map of 7x7. A grid of 4x4 keeps positions
to a quarter of the image side, and the cache at a third of the size (40 KiB an image at 1280
channels in float16).
"""

FLOAT32 = "float32"
"""Precision of an encoder unless its run settled another."""

TRUNK_OF = " before block "
"""Words between the encoder's name and the block in the name of a trunk."""

UNNAMED_BATCH = 16
"""Number of images that an encoder without a named backend reads at once.

Such an encoder computes what it is given, so a shorter batch is padded with black images: libraries
choose kernels by shape, and with one shape a row's values do not depend on the other rows.
"""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Representations of n images by an encoder.

    Attributes:
        pooled: (n, dim) float32, one vector for each image.
        tokens: (n, tokens, token_dim) float16, cells of the grid row by row from the top left.
    """

    pooled: NDArray[np.float32]
    tokens: NDArray[np.float16]


class Encoder(Protocol):
    """Frozen image encoder with pretrained weights.

    An implementation must pass the tests of ``tests/contracts/encoder_contract.py``.
    """

    @property
    def name(self) -> str:
        """Name in the registry, ``family:model``."""

    @property
    def weights_sha256(self) -> str:
        """SHA-256 (64 hex digits) of the weights file."""

    @property
    def versions(self) -> tuple[str, ...]:
        """Libraries that compute the values, each as ``library version``."""

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""

    @property
    def framing(self) -> Framing:
        """Rule by which an image of any shape becomes such a square."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Means that are subtracted from red, green and blue, which are in [0, 1]."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviations by which the differences are divided."""

    @property
    def dim(self) -> int:
        """Width of the pooled vector."""

    @property
    def token_dim(self) -> int:
        """Width of a spatial token."""

    @property
    def tokens(self) -> int:
        """Number of spatial tokens of an image."""

    @property
    def backend(self) -> str:
        """Name of the backend that computes the values; empty where no run has named one."""

    @property
    def precision(self) -> str:
        """Number format of the products, ``float32`` unless a backend on a GPU computes in half."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """``versions``, and the library of the backend."""

    def batch(self, device: str) -> int:
        """Number of images that are computed together on a kind of device, such as ``cpu``."""

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        """Encode 8-bit images (n, image_size, image_size, 3)."""

    def to(self, device: str) -> Encoder:
        """Return the same encoder on ``cpu``, ``cuda``, ``cuda:1``, ``mps`` ..."""


CPU_BACKENDS = ("openvino",)
"""Backends that compute on the CPU, whatever the device of the run."""


def device_kind(encoder: Encoder, device: str) -> str:
    """Return the kind of device, such as ``cpu`` or ``cuda``, that computes the values.

    Args:
        encoder: the encoder with its backend.
        device: device of the run.
    """
    return "cpu" if encoder.backend in CPU_BACKENDS else device.split(":")[0]


def recipe(encoder: Encoder) -> dict[str, object]:
    """Return everything of an encoder on which its values depend, as part of a cache key.

    An encoder without a named backend has the key that it had before backends had names, and one
    in float32 the key that it had before there was another precision.
    """
    half = encoder.precision != FLOAT32
    return {
        **({"backend": encoder.backend} if encoder.backend else {}),
        **({"precision": encoder.precision} if half else {}),
        "encoder": encoder.name,
        "weights": encoder.weights_sha256,
        "image_size": encoder.image_size,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "framing": encoder.framing.key(),
        "token_grid": TOKEN_GRID,
        "versions": list(encoder.libraries),
    }
