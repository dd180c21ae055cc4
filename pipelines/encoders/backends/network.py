"""Network of an encoder from 8-bit pixels to values, in the form that every backend computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders.frozen import FrozenEncoder, to_grid


class PixelNetwork(nn.Module):
    """Whole encoder with its normalisation and its grid of tokens.

    It maps 8-bit images (n, s, s, 3) to pooled vectors (n, dim) and tokens (n, tokens, token_dim),
    both float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        self.trunk = encoder.trunk
        for name, values in (("mean", encoder.mean), ("std", encoder.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled vectors and tokens of 8-bit images (n, s, s, 3)."""
        scaled = images.permute(0, 3, 1, 2).float() * (1 / 255)
        pooled, spatial = self.trunk((scaled - self.mean) / self.std)
        if spatial.device.type == "mps":
            spatial = spatial.cpu()  # Metal has no adaptive pooling of 7 cells to 4
        if spatial.dtype != torch.float32:  # half precision; cells are averaged in float32
            spatial = spatial.float()
        return pooled.float(), spatial if spatial.ndim == 3 else to_grid(spatial)
