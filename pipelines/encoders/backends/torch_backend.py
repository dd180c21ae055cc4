"""Backend of torch, with the channels of an image beside each other in memory."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from outerfold.pipelines.encoders.backends.network import PixelNetwork
from outerfold.pipelines.encoders.frozen import Compute, FrozenEncoder, Values

BATCHES = {"cpu": 8, "cuda": 64, "mps": 16}
"""Number of images in a batch, by kind of device; a shorter batch is padded with black images.

Libraries choose kernels by shape, so with one shape an image's values do not depend on the others.
On two CPU cores EfficientNet-Lite0 was quickest with 8, and transformers did not mind. An H100
reaches 80 % of its speed at 64, and 64 images of the largest encoder fit into a small card.
"""


@dataclass(frozen=True)
class TorchBackend:
    """Computation by torch on any device."""

    name: str = "torch"
    version: str = ""

    def batch(self, device: str) -> int:
        """Number of images in a batch on a kind of device."""
        return BATCHES.get(device, BATCHES["cpu"])

    def prepare(self, encoder: FrozenEncoder) -> Compute:
        """Return the function that computes the values of 8-bit images (n, s, s, 3)."""
        # A copy, since blocks that are trained start from the encoder's weights as they lie.
        network = deepcopy(PixelNetwork(encoder)).to(encoder.device)
        network.to(memory_format=torch.channels_last)
        size = self.batch(encoder.device.type)

        @torch.inference_mode()
        def compute(images: NDArray[np.uint8]) -> Values:
            parts = []
            for start in range(0, len(images), size):
                part = images[start : start + size]
                full = np.zeros((size, *images.shape[1:]), np.uint8)
                full[: len(part)] = part
                found = network(torch.from_numpy(full).to(encoder.device))
                parts.append([values[: len(part)].cpu().numpy() for values in found])
            pooled, tokens = (np.concatenate(each) for each in zip(*parts, strict=True))
            return pooled, tokens

        return compute
