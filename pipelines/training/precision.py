"""Numbers a tail is trained in: half as wide on a GPU, float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.amp.grad_scaler import GradScaler


@dataclass(frozen=True)
class Precision:
    """How the tail's products are rounded while it trains; rows are always scored in float32.

    Attributes:
        device: kind of device, ``cpu`` or ``cuda``.
        dtype: of the products; None for float32 throughout.
    """

    device: str
    dtype: torch.dtype | None

    @classmethod
    def of(cls, device: torch.device) -> Precision:
        """bfloat16 on a GPU that has it, else float16 there; float32 on a CPU."""
        if device.type != "cuda":
            return cls(device.type, None)
        with torch.cuda.device(device):
            wide = torch.cuda.is_bf16_supported()
        return cls("cuda", torch.bfloat16 if wide else torch.float16)

    def products(self) -> AbstractContextManager[object]:
        """Inside it products are taken in ``dtype``."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device, self.dtype)

    def scaler(self) -> GradScaler:
        """Keeps gradients of float16 from vanishing; does nothing for the other two."""
        return GradScaler(self.device, enabled=self.dtype is torch.float16)
