"""Number format of a tail's training: 16-bit floats on a GPU, float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.amp.grad_scaler import GradScaler


@dataclass(frozen=True)
class Precision:
    """Number format of the tail's products during training; rows are always scored in float32.

    Attributes:
        device: kind of device, ``cpu`` or ``cuda``.
        dtype: number format of the products; None for float32 throughout.
    """

    device: str
    dtype: torch.dtype | None

    @classmethod
    def of(cls, device: torch.device) -> Precision:
        """Choose bfloat16 on a GPU that supports it, float16 on another GPU, float32 on a CPU."""
        if device.type != "cuda":
            return cls(device.type, None)
        with torch.cuda.device(device):
            wide = torch.cuda.is_bf16_supported()
        return cls("cuda", torch.bfloat16 if wide else torch.float16)

    def products(self) -> AbstractContextManager[object]:
        """Return a context inside which products are computed in ``dtype``."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device, self.dtype)

    def scaler(self) -> GradScaler:
        """Return a scaler that keeps float16 gradients from vanishing; off for other formats."""
        return GradScaler(self.device, enabled=self.dtype is torch.float16)
