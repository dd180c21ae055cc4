"""A trained head, and how it is kept and found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.heads.networks import class_logits
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.storage.records import Features, FloatArray

ROWS_AT_ONCE = 8192
"""Rows scored at a time, over all networks; bounds memory, does not change a result."""


def mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """Of the views of the same rows, (..., classes) each."""
    probabilities = [torch.softmax(view.double(), dim=-1) for view in logits]
    return torch.stack(probabilities).mean(0) if len(logits) > 1 else probabilities[0]


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Networks whose probabilities are averaged, with the encoder of their clinical columns.

    Attributes:
        network: a stack of one or several, in evaluation mode, their input scalers inside.
        encoder: fitted on the rows that trained the network.
        source: where the images of the rows to score are represented.
        tokens: whether images are read as spatial tokens.
        tta: augmented views over which, with the image itself, probabilities are averaged.
    """

    network: nn.Module
    encoder: TabularColumns
    source: ImageSource
    tokens: bool
    tta: int = 0

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
        encoded = torch.tensor(self.encoder.transform(features.tabular), dtype=torch.float32)
        tabular = self._to_each(encoded)
        logits = []
        for view in scoring_views(self.tta):
            images = self.source.tokens(ids, view) if self.tokens else self.source.pooled(ids, view)
            seen = self._to_each(torch.tensor(images).float())
            logits.append(class_logits(self.network(seen, tabular, None)))
        return mean_probability(logits).mean(0).numpy()

    def _to_each(self, rows: Tensor) -> Tensor:
        return rows.expand(self.networks, *rows.shape).contiguous()
