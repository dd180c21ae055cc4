"""A trained head, and how it is kept and found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.networks import class_logits
from pipelines.rows import ImageSource
from pipelines.tabular import TabularEncoder
from storage.records import Features, FloatArray

ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class FittedHead:
    """One network with the encoder of its clinical columns.

    Attributes:
        network: a stack of one, in evaluation mode, its input scaler inside.
        encoder: fitted on the rows that trained the network.
        source: where the images of the rows to score are represented.
        tokens: whether images are read as spatial tokens.
    """

    network: nn.Module
    encoder: TabularEncoder
    source: ImageSource
    tokens: bool

    def predict(self, features: Features) -> FloatArray:
        """(n, classes) probabilities before calibration; it cannot see a label."""
        parts = [
            self._score(features.select(features.ids[start : start + ROWS_AT_ONCE].tolist()))
            for start in range(0, len(features), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def state(self) -> Mapping[str, Tensor]:
        """Tensors by name, for ``torch.save``."""
        return {name: value.contiguous() for name, value in self.network.state_dict().items()}

    @torch.inference_mode()
    def _score(self, features: Features) -> FloatArray:
        ids = features.ids.tolist()
        images = self.source.tokens(ids) if self.tokens else self.source.pooled(ids)
        tabular = self.encoder.transform(features.tabular)
        logits = self.network(
            torch.tensor(images).float().unsqueeze(0),
            torch.tensor(tabular, dtype=torch.float32).unsqueeze(0),
            None,
        )
        return torch.softmax(class_logits(logits)[0].double(), dim=-1).numpy()
