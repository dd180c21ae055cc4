"""Bank of image inputs from which batches are gathered; real rows may stay on disk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.training_rows import ImageRows, TrainingRows
from outerfold.storage.cache.row_store import StoredRows
from outerfold.storage.records import IntArray

HELD_BYTES = 1 << 29
"""Bytes of the largest bank that is copied to a GPU. A copy in main memory would gain nothing: one
core gathers 256 rows of 1280 numbers in 130 us from a memory map that was read before, and in
170 us from an array."""


class ImageBank:
    """Image inputs by number: the training side view after view, then each fold's synthetic rows.

    Where the source keeps its rows on disk, a bank holds 8 bytes a row and view, and the synthetic
    rows.

    Args:
        rows: the training side and its folds.
        resampled: resampled rows of each fold.
        views: numbers of the views.
        device: device of the gathered rows.

    Attributes:
        real: number of real inputs, training-side rows times views; synthetic rows follow them.
    """

    def __init__(
        self,
        rows: TrainingRows,
        resampled: Sequence[Resampled],
        views: Sequence[int],
        device: torch.device,
    ) -> None:
        self.device, self.real = device, len(rows.train) * len(views)
        self._stored, self._at = _list_stored([rows.view(view) for view in views])
        self._made = _list_synthetic(rows, resampled)
        self._pairs = _list_pairs(rows, resampled)
        if device.type != "cpu" and self.real * self._stored[0].nbytes <= HELD_BYTES:
            self._stored = self._stored.index_select(0, self._at).to(device)
            self._made, self._at = self._made.to(device), torch.arange(self.real)

    def gather(self, at: IntArray) -> Tensor:
        """Copy the rows numbered ``at`` to 32-bit floats (*at.shape, *row_shape) on the device."""
        flat = torch.from_numpy(at.reshape(-1))
        images = self._gather_real(flat.clamp(max=self.real - 1))
        made = torch.nonzero(flat >= self.real).squeeze(1)
        if len(made):
            images[made.to(images.device)] = self._gather_synthetic(flat[made] - self.real)
        return images.view(*at.shape, *images.shape[1:]).to(self.device)

    def _gather_real(self, at: Tensor) -> Tensor:
        return self._stored.index_select(0, self._at[at].to(self._stored.device)).float()

    def _gather_synthetic(self, at: Tensor) -> Tensor:
        if len(self._made):
            return self._made.index_select(0, at.to(self._made.device))
        first, second, share = (part[at] for part in self._pairs)
        start = self._gather_real(first)
        return torch.lerp(start, self._gather_real(second), share.to(start.device).unsqueeze(1))


def _list_stored(views: Sequence[ImageRows]) -> tuple[Tensor, Tensor]:
    """All stored rows, and the position among them of each row of each view in turn."""
    on_disk = [view for view in views if isinstance(view, StoredRows)]
    if len(on_disk) == len(views):
        with warnings.catch_warnings():
            # Torch warns that the map is read-only; nothing here writes to it.
            warnings.simplefilter("ignore", UserWarning)
            stored = torch.from_numpy(on_disk[0].rows)
        return stored, torch.from_numpy(np.concatenate([view.at for view in on_disk]))
    stored = torch.cat([torch.tensor(view[:]) for view in views])
    return stored, torch.arange(len(stored))


def _list_synthetic(rows: TrainingRows, resampled: Sequence[Resampled]) -> Tensor:
    """Synthetic rows of all folds, (rows, width), in the unit of the images."""
    width = rows.images.shape[-1]
    parts = [torch.zeros(0, width)]
    for fold, each in zip(rows.folds, resampled, strict=True):
        if len(each.synthetic):
            made = each.synthetic[:, :width] * fold.scaler.scale + fold.scaler.mean
            parts.append(torch.tensor(made, dtype=torch.float32))
    return torch.cat(parts)


def _list_pairs(
    rows: TrainingRows, resampled: Sequence[Resampled]
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of all folds: positions of both rows in the training side, and the share between them.

    Their synthetic rows are computed when a batch needs them.
    """
    pairs = [(fold.fit, each.pairs) for fold, each in zip(rows.folds, resampled, strict=True)]
    first = np.concatenate([fit[pair.first] for fit, pair in pairs])
    second = np.concatenate([fit[pair.second] for fit, pair in pairs])
    share = np.concatenate([pair.share for _, pair in pairs])
    return torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(share)
