"""Encoder class of all families: a torch trunk with the interface of ``Encoder``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from outerfold.pipelines.encoders._base import (
    FLOAT32,
    TOKEN_GRID,
    UNNAMED_BATCH,
    Encoded,
    Encoder,
)
from outerfold.storage.images.framing import PADDED, Framing

Values = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Pooled vectors (n, dim) and tokens (n, tokens, token_dim) of n images."""
Compute = Callable[[NDArray[np.uint8]], Values]
"""Function that computes the values of 8-bit images (n, s, s, 3), any number of them."""


class Backend(Protocol):
    """Library that computes the values of an encoder; see ``pipelines/encoders/backends``.

    The values of an image do not depend on the other images of a call.
    """

    @property
    def name(self) -> str:
        """Name of the option ``--encoder-backend``."""

    @property
    def version(self) -> str:
        """Library and version besides those of the encoder; empty if there is none."""

    @property
    def precision(self) -> str:
        """Number format of the products; see ``Encoder.precision``."""

    def batch(self, encoder: str, device: str) -> int:
        """Number of images that are computed together.

        Args:
            encoder: name of the encoder.
            device: kind of device, such as ``cpu``.
        """

    def prepare(self, encoder: FrozenEncoder) -> Compute:
        """Return the function that computes the values of this encoder."""


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """Encoder with a trunk that maps images (n, 3, s, s) to a pooled vector and a map.

    ``trunk(x)`` returns (n, dim) and a map (n, token_dim, h, w), both float32. Instead of the map
    it may return tokens (n, tokens, token_dim), which are kept unchanged. The trunk is in
    evaluation mode and takes no gradient. The attributes are those of ``Encoder``.
    ``computed_by`` is the backend, or None for the trunk as it is, which is how runs without a
    named backend encode.
    """

    name: str
    weights_sha256: str
    versions: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    token_dim: int
    trunk: nn.Module
    tokens: int = TOKEN_GRID**2
    framing: Framing = PADDED
    computed_by: Backend | None = None

    @property
    def backend(self) -> str:
        """Name of the backend; empty for the trunk as it is."""
        return self.computed_by.name if self.computed_by else ""

    @property
    def precision(self) -> str:
        """Number format of the products; see ``Encoder.precision``."""
        return self.computed_by.precision if self.computed_by else FLOAT32

    @property
    def libraries(self) -> tuple[str, ...]:
        """Libraries that compute the values, with that of the backend."""
        own = self.computed_by.version if self.computed_by else ""
        return (*self.versions, own) if own else self.versions

    def batch(self, device: str) -> int:
        """Number of images that the backend computes together; see ``Encoder.batch``."""
        return self.computed_by.batch(self.name, device) if self.computed_by else UNNAMED_BATCH

    @cached_property
    def _compute(self) -> Compute:
        assert self.computed_by is not None
        return self.computed_by.prepare(self)

    @property
    def device(self) -> torch.device:
        """Present device of the trunk."""
        return next(self.trunk.parameters()).device

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        """Encode 8-bit images (n, image_size, image_size, 3).

        Raises:
            ValueError: images of another type or shape.
        """
        side = self.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise ValueError(
                f"{self.name} takes uint8 images (n, {side}, {side}, 3), "
                f"found {images.dtype} {images.shape}"
            )
        if self.computed_by is not None:
            found, grid = self._compute(images)
            return Encoded(found, torch.from_numpy(grid).half().contiguous().numpy())
        pooled, spatial = self.trunk(self.normalised(images))
        if spatial.device.type == "mps":
            spatial = spatial.cpu()  # Metal has no adaptive pooling of 7 cells to 4
        tokens = (spatial if spatial.ndim == 3 else to_grid(spatial)).half()
        return Encoded(pooled.float().cpu().numpy(), tokens.cpu().contiguous().numpy())

    def normalised(self, images: NDArray[np.uint8]) -> Tensor:
        """Normalise 8-bit images (n, s, s, 3) to inputs of the trunk (n, 3, s, s)."""
        pixels = torch.tensor(images, device=self.device).permute(0, 3, 1, 2)
        scaled = pixels.float().mul_(1 / 255)  # (n, 3, s, s) in [0, 1]
        mean, std = (
            torch.tensor(each, device=self.device).view(3, 1, 1) for each in (self.mean, self.std)
        )
        return scaled.sub_(mean).div_(std).contiguous()

    def to(self, device: str) -> Encoder:
        """Move the trunk to ``device`` without a copy and return this encoder."""
        if torch.device(device) != self.device:
            self.__dict__.pop("_compute", None)  # it belongs to the former device
            self.trunk.to(device)
        return self


def to_grid(spatial: Tensor) -> Tensor:
    """Average a map (n, token_dim, h, w) to the tokens (n, 16, token_dim) that heads read."""
    grid = functional.adaptive_avg_pool2d(spatial, TOKEN_GRID)  # (n, token_dim, 4, 4)
    return grid.flatten(2).transpose(1, 2)


def frozen(
    trunk: nn.Module,
    *,
    name: str,
    weights_sha256: str,
    versions: tuple[str, ...],
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> FrozenEncoder:
    """Freeze a trunk and return its encoder; one black image gives the widths.

    Args:
        trunk: network that maps images (n, 3, s, s) to (n, dim) and (n, token_dim, h, w).
        name, weights_sha256, versions, image_size, mean, std: see ``Encoder``.
    """
    trunk.eval().requires_grad_(False).float()
    with torch.inference_mode():
        pooled, spatial = trunk(torch.zeros(1, 3, image_size, image_size))
    return FrozenEncoder(
        name,
        weights_sha256,
        versions,
        image_size,
        mean,
        std,
        dim=pooled.shape[1],
        token_dim=spatial.shape[1],
        trunk=trunk,
    )
