"""Trained head: its prediction for new rows, and its weights as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.heads.networks import class_logits
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.storage.records import Features, FloatArray

ROWS_AT_ONCE = 8192
"""Number of rows scored at a time, summed over all networks; it limits memory and changes no
result."""


def mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """Mean probability (..., classes) over the views of the same rows.

    Args:
        logits: one tensor (..., classes) for each view.
    """
    probabilities = [torch.softmax(view.double(), dim=-1) for view in logits]
    return torch.stack(probabilities).mean(0) if len(logits) > 1 else probabilities[0]


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Networks whose probabilities are averaged, with the encoders of their clinical columns.

    Attributes:
        network: stack of one or more networks in evaluation mode, with their input scalers.
        columns: encoders of the clinical columns, fitted on the rows that trained the networks.
        source: source of the image representations of the rows to score.
        tokens: whether images are read as spatial tokens.
        tta: number of augmented views; probabilities are averaged over them and the image itself.
    """

    network: nn.Module
    columns: NetworkColumns
    source: ImageSource
    tokens: bool
    tta: int = 0

    @property
    def networks(self) -> int:
        """Number of networks whose probabilities are averaged."""
        return len(next(self.network.parameters()))

    def predict(self, features: Features) -> FloatArray:
        """Return probabilities (n, classes) before calibration; ``features`` hold no label."""
        mean: FloatArray = self.predict_each(features).mean(0)
        return mean

    def predict_each(self, features: Features) -> FloatArray:
        """Return probabilities (networks, n, classes) of each network, before calibration."""
        step = -(-ROWS_AT_ONCE // self.networks)
        parts = [
            self._score(features.select(features.ids[start : start + step].tolist()))
            for start in range(0, len(features), step)
        ]
        return np.concatenate(parts, axis=1)

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights as tensors by name, for ``torch.save``."""
        return {name: value.contiguous() for name, value in self.network.state_dict().items()}

    @torch.inference_mode()
    def _score(self, features: Features) -> FloatArray:
        ids = features.ids.tolist()
        encoded = torch.tensor(self.columns.transform(features.tabular), dtype=torch.float32)
        tabular = self._to_each(encoded)
        logits = []
        for view in scoring_views(self.tta):
            images = self.source.tokens(ids, view) if self.tokens else self.source.pooled(ids, view)
            seen = self._to_each(torch.tensor(images).float()[None])
            logits.append(class_logits(self.network(seen, tabular, None)))
        return mean_probability(logits).numpy()

    def _to_each(self, rows: Tensor) -> Tensor:
        """Repeat ``rows (networks or 1, n, ...)`` for each network."""
        return rows.expand(self.networks, *rows.shape[1:]).contiguous()
