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

ROWS_AT_ONCE = 8192
"""Rows scored at a time, over all networks; bounds memory, does not change a result."""


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Networks whose probabilities are averaged, with the encoder of their clinical columns.

    Attributes:
        network: a stack of one or several, in evaluation mode, their input scalers inside.
        encoder: fitted on the rows that trained the network.
        source: where the images of the rows to score are represented.
        tokens: whether images are read as spatial tokens.
    """

    network: nn.Module
    encoder: TabularEncoder
    source: ImageSource
    tokens: bool

    @property
    def networks(self) -> int:
        """How many are averaged."""
        return len(next(self.network.parameters()))

    def predict(self, features: Features) -> FloatArray:
        """(n, classes) probabilities before calibration; it cannot see a label."""
        step = -(-ROWS_AT_ONCE // self.networks)
        parts = [
            self._score(features.select(features.ids[start : start + step].tolist()))
            for start in range(0, len(features), step)
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
            self._to_each(torch.tensor(images).float()),
            self._to_each(torch.tensor(tabular, dtype=torch.float32)),
            None,
        )
        return torch.softmax(class_logits(logits).double(), dim=-1).mean(0).numpy()

    def _to_each(self, rows: Tensor) -> Tensor:
        return rows.expand(self.networks, *rows.shape).contiguous()
