"""A finished fold's model taken apart: its head asked with arrays instead of rows by id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.decision import Decision
from pipelines.fitted import ROWS_AT_ONCE
from pipelines.networks import class_logits
from pipelines.tabular import TabularEncoder
from storage.records import FloatArray


@dataclass(frozen=True, eq=False)
class FoldModel:
    """What scored the test rows of one outer fold.

    Attributes:
        network: a stack of one or several whose probabilities are averaged, their input scalers
            inside.
        columns: encoder of the clinical columns.
        columns_mean: (width,) mean of the encoded columns over the rows that trained.
        decision: temperature and threshold.
        tokens: whether images are read as spatial tokens.
    """

    network: nn.Module
    columns: TabularEncoder
    columns_mean: FloatArray
    decision: Decision
    tokens: bool

    @property
    def image_mean(self) -> FloatArray:
        """(width,) mean embedding of the rows that trained, which all networks share."""
        mean: Tensor = self.network.scaler.mean  # type: ignore[assignment]
        return np.asarray(mean[0, 0].cpu().numpy(), dtype=np.float64)

    def to(self, device: str) -> FoldModel:
        """This model on ``device``; its network is moved, not copied."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray, tabular: FloatArray) -> FloatArray:
        """Calibrated probabilities (n, classes).

        Args:
            images: (n, width) embeddings, or (n, tokens, width).
            tabular: (n, k) encoded columns, k = 0 for none.
        """
        step = max(1, ROWS_AT_ONCE // len(next(self.network.parameters())))
        parts = [
            log_probabilities(
                self.network, torch.tensor(images[start : start + step]).float(),
                torch.tensor(tabular[start : start + step]).float(),
            )
            for start in range(0, len(images), step)
        ]  # fmt: skip
        return self.decision.calibrate(torch.cat(parts).exp().cpu().numpy())


def log_probabilities(network: nn.Module, images: Tensor, tabular: Tensor) -> Tensor:
    """Logarithm of the mean probability (n, classes) over a stack of networks, uncalibrated.

    Args:
        images: (n, width) or (n, tokens, width), on any device.
        tabular: (n, k).
    """
    weights = next(network.parameters())
    both = (
        rows.to(weights.device).expand(len(weights), *rows.shape).contiguous()
        for rows in (images, tabular)
    )
    each = torch.log_softmax(class_logits(network(*both, None)).double(), dim=-1)
    return torch.logsumexp(each, dim=0) - float(np.log(len(weights)))
