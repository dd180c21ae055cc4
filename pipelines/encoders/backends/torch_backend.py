"""Backend of torch, with the channels of an image beside each other in memory."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from outerfold.pipelines.encoders._base import FLOAT32, TRUNK_OF
from outerfold.pipelines.encoders.backends.network import PixelNetwork
from outerfold.pipelines.encoders.backends.precision import DTYPES
from outerfold.pipelines.encoders.frozen import Compute, FrozenEncoder, Values

BATCHES = {"cpu": 8, "cuda": 64, "mps": 16}
"""Number of images in a batch, by kind of device; a shorter batch is padded with black images.

Libraries choose kernels by shape, so with one shape an image's values do not depend on the others.
On two CPU cores EfficientNet-Lite0 was quickest with 8, and transformers did not mind. 64 images of
the largest encoder fit into a small card.
"""

LARGE_BATCHES = {
    ("clip:ViT-B/32", "cuda"): 256,
    ("timm:efficientnet_b0", "cuda"): 256,
    ("bundled:efficientnet_lite0", "cuda"): 256,
}
"""Batches of small encoders, by encoder and kind of device. On an H100 ViT-B/32 encoded 1,909
images a second in batches of 16, 2,936 of 64 and 3,675 of 256. Those of the others were not
measured; 256 images need 2.5 GB there."""


@dataclass(frozen=True)
class TorchBackend:
    """Computation by torch on any device.

    Attributes:
        precision: number format of the products, one of ``PRECISIONS``; pooling to tokens and what
            is returned are float32.
    """

    name: str = "torch"
    version: str = ""
    precision: str = FLOAT32

    def batch(self, encoder: str, device: str) -> int:
        """Number of images in a batch; a trunk before a block has that of its encoder."""
        whole = encoder.partition(TRUNK_OF)[0]
        return LARGE_BATCHES.get((whole, device), BATCHES.get(device, BATCHES["cpu"]))

    def prepare(self, encoder: FrozenEncoder) -> Compute:
        """Return the function that computes the values of 8-bit images (n, s, s, 3)."""
        # A copy, since blocks that are trained start from the encoder's weights as they lie.
        network = deepcopy(PixelNetwork(encoder)).to(encoder.device)
        network.to(memory_format=torch.channels_last)
        device = encoder.device
        kind = device.type
        size, dtype = self.batch(encoder.name, kind), DTYPES.get(self.precision)

        @torch.inference_mode()
        def compute(images: NDArray[np.uint8]) -> Values:
            parts = []
            for start in range(0, len(images), size):
                part = images[start : start + size]
                full = np.zeros((size, *images.shape[1:]), np.uint8)
                full[: len(part)] = part
                with torch.autocast(kind, dtype, enabled=dtype is not None):
                    found = network(torch.from_numpy(full).to(device))
                parts.append([values[: len(part)].cpu().numpy() for values in found])
            pooled, tokens = (np.concatenate(each) for each in zip(*parts, strict=True))
            return pooled, tokens

        return compute
