"""Model of a finished fold whose heads can be given arrays instead of row ids.

*Readings* are the inputs that heads read, (views, networks, n, ...); where the encoder is frozen,
all networks share one entry. A prediction is the mean probability over views and networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.fitted.head import ROWS_AT_ONCE
from outerfold.pipelines.fitted.tail import SCORED, apply_tails, pad_batch, readings
from outerfold.pipelines.heads.networks import class_logits
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.storage.records import FloatArray

Readings = NDArray[Any]
"""(views, networks or 1, n, width) pooled vectors, or (views, networks or 1, n, tokens, width)."""


@dataclass(frozen=True, eq=False)
class Tails:
    """Trained tails of an encoder.

    Attributes:
        each: one tail for each network, in the order of the heads, in evaluation mode.
        trunk: the frozen part before them; None where the tails read 8-bit images.
    """

    each: nn.ModuleList
    trunk: FrozenEncoder | None

    def taken(self, squares: NDArray[np.uint8]) -> Tensor:
        """Compute the inputs of the tails (n, ...) from 8-bit images (n, s, s, 3)."""
        given = squares if self.trunk is None else self.trunk.encode(squares).tokens
        return torch.from_numpy(given).to(next(self.each.parameters()).device)


@dataclass(frozen=True, eq=False)
class FoldModel:
    """Model that scored the test rows of one outer fold.

    Attributes:
        network: stack of one or more heads with their input scalers; their probabilities are
            averaged.
        columns: encoders of the clinical columns.
        columns_mean: (networks or 1, width) mean of the encoded columns over the fold's training
            side.
        decision: calibration and threshold.
        tokens: whether images are read as spatial tokens.
        tta: number of augmented views; probabilities are averaged over them and the image itself.
        tails: trained tails where blocks of the encoder were trained; else None.
    """

    network: nn.Module
    columns: NetworkColumns
    columns_mean: FloatArray
    decision: Decision
    tokens: bool
    tta: int = 0
    tails: Tails | None = None

    @property
    def networks(self) -> int:
        """Number of networks whose probabilities are averaged."""
        return len(next(self.network.parameters()))

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: str) -> FoldModel:
        """Move the networks to ``device`` without a copy and return this model."""
        self.network.to(device)
        if self.tails is not None:
            self.tails.each.to(device)
        return self

    def readings(self, source: ImageSource, ids: Sequence[str]) -> Readings:
        """Return the readings (views, networks or 1, n, ...) of rows in all scoring views.

        Args:
            source: source of the image representations.
            ids: n rows.
        """
        return np.stack([self._read_view(source, ids, view) for view in scoring_views(self.tta)])

    def mean_image(self, source: ImageSource, trained: Sequence[str]) -> Readings:
        """Readings (1, networks or 1, 1, ...) that replace an image which is taken away.

        They are the mean over the rows ``trained`` in view 0: of their embeddings or, where blocks
        of the encoder were trained, of the outputs of each network's tail.

        Args:
            source: source of the image representations.
            trained: ids of the rows that trained the model.
        """
        if self.tails is None:
            mean: Tensor = self.network.scaler.mean  # type: ignore[assignment]
            shared = bool((mean == mean[:1]).all())  # networks of one fold have the same scaler
            return (mean[:1] if shared else mean).cpu().numpy()[None]
        sums = [part.double().sum(1) for part in self._apply_tails(source, trained, 0)]
        whole = torch.stack(sums).sum(0) / len(trained)
        return whole[None, :, None].float().cpu().numpy()

    @torch.inference_mode()
    def readings_of(self, encoder: FrozenEncoder, squares: NDArray[np.uint8]) -> Readings:
        """Compute the readings (views, networks or 1, 1, ...) of one image from its pixels.

        Args:
            encoder: the pretrained encoder.
            squares: (views, s, s, 3) the 8-bit image, then its augmented views.
        """
        parts = [
            self._encode_squares(encoder, squares[start : start + SCORED])
            for start in range(0, len(squares), SCORED)
        ]
        return np.concatenate(parts)[:, :, None]

    @torch.inference_mode()
    def probabilities(self, found: Readings, tabular: FloatArray) -> FloatArray:
        """Return calibrated probabilities (n, classes).

        Args:
            found: readings (views, networks or 1, n, ...) of n rows.
            tabular: (networks or 1, n, k) encoded columns; k is 0 without columns.
        """
        step = max(1, ROWS_AT_ONCE // self.networks)
        parts = [
            log_probabilities(
                self.network,
                torch.tensor(found[:, :, start : start + step]),
                torch.tensor(tabular[:, start : start + step]).float(),
            )
            for start in range(0, found.shape[2], step)
        ]
        return self.decision.calibrate(torch.cat(parts).exp().cpu().numpy())

    def _read_view(self, source: ImageSource, ids: Sequence[str], view: int) -> Readings:
        if self.tails is not None:
            return torch.cat(list(self._apply_tails(source, ids, view)), dim=1).cpu().numpy()
        shared = source.tokens(ids, view) if self.tokens else source.pooled(ids, view)
        return np.asarray(shared)[None]

    def _apply_tails(self, source: ImageSource, ids: Sequence[str], view: int) -> Iterator[Tensor]:
        assert self.tails is not None
        return readings(
            list(self.tails.each),
            source,  # type: ignore[arg-type]
            ids,
            tokens=self.tokens,
            device=self.device,
            view=view,
        )

    def _encode_squares(self, encoder: FrozenEncoder, squares: NDArray[np.uint8]) -> Readings:
        """Readings (k, networks or 1, ...) of at most ``SCORED`` squares (k, s, s, 3).

        They are encoded as in a study, by the same backend or in batches of the same size, so they
        have the same values.
        """
        full, count = pad_batch(squares).numpy(), len(squares)
        if self.tails is not None:
            each = apply_tails(list(self.tails.each), self.tails.taken(full), tokens=self.tokens)
            return each[:, :count].transpose(0, 1).cpu().numpy()
        encoded = encoder.encode(full)
        return (encoded.tokens if self.tokens else encoded.pooled)[:count, None]


def log_probabilities(network: nn.Module, found: Tensor, tabular: Tensor) -> Tensor:
    """Logarithm of the mean probability (n, classes) over views and networks, uncalibrated.

    Args:
        network: stack of heads.
        found: readings (views, networks or 1, n, ...) of n rows, on any device.
        tabular: (networks or 1, n, k) encoded columns.
    """
    weights = next(network.parameters())
    networks = len(weights)
    columns = tabular.to(weights.device).expand(networks, *tabular.shape[1:]).contiguous()
    each = []
    for view in found:
        seen = view.to(weights.device).float().expand(networks, *view.shape[1:]).contiguous()
        logits = class_logits(network(seen, columns, None))
        each.append(torch.log_softmax(logits.double(), dim=-1))
    return torch.logsumexp(torch.cat(each), dim=0) - float(np.log(len(found) * networks))
