"""Stacked batches of all folds, gathered from one bank of inputs with one read a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from outerfold.pipelines.augmentation.views import STRENGTHS, scoring_views, view_number
from outerfold.pipelines.rows.image_bank import ImageBank
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.training_rows import FoldRows, TrainingRows
from outerfold.storage.records import BoolArray, IntArray
from outerfold.storage.seeds import derive_seed

GATHERED = 512
"""Number of rows of one fold that are read at once."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Batch of one training step of every fold.

    Attributes:
        images: (folds, rows, width) or (folds, rows, tokens, width).
        tabular: (folds, rows, k) encoded clinical columns.
        labels: (folds, rows) class indices.
        mask: (folds, rows, 1), 1 for a row and 0 for padding.
        active: (folds,) False for a fold whose epoch is over.
    """

    images: Tensor
    tabular: Tensor
    labels: Tensor
    mask: Tensor
    active: Tensor


class BatchRun(NamedTuple):
    """Consecutive batches of one fold.

    Attributes:
        images: (rows, ...) image inputs of all batches.
        labels: (rows,) class indices.
        sizes: number of rows of each batch.
    """

    images: Tensor
    labels: Tensor
    sizes: list[int]


@dataclass(eq=False)
class FoldOrder:
    """Resampled rows of one fold and the random streams that order them in each epoch.

    Attributes:
        resampled: the fold's resampled rows, m in number.
        image_at, tabular_at: (m,) positions of each row's inputs in the banks.
        labels: (m,) class index of each row.
        varied: (m,) True for a real row that may be drawn as an augmented view.
        shuffle, draw: random streams of this fold alone.
    """

    resampled: Resampled
    image_at: IntArray
    tabular_at: IntArray
    labels: IntArray
    varied: BoolArray
    shuffle: np.random.Generator
    draw: torch.Generator


class Batches:
    """Source of stacked batches, which are gathered from one bank of inputs.

    The bank holds the training side once for each view that is drawn or scored, then the synthetic
    rows of each fold. A batch is one indexed read of it, so folds share memory.

    Args:
        rows: the training side and its folds.
        sampler: one of ``SAMPLERS``.
        views: number of augmented views as which a row may be drawn, besides the image itself.
        batch_size: largest number of rows of a batch.
        seed: seed of the trial; each fold derives its own streams from it.
        device: device of the batches.
        strength: strength of the views, one of ``STRENGTHS``.
        every_row: whether any real row may be drawn as a view, or only one of a minority class.
    """

    def __init__(
        self,
        rows: TrainingRows,
        *,
        sampler: str,
        views: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        strength: str = STRENGTHS[0],
        every_row: bool = False,
    ) -> None:
        self.rows, self.views, self.batch_size, self.device = rows, views, batch_size, device
        self.strength, self.every_row = strength, every_row
        resampled = [rows.resampled(i, sampler) for i in range(len(rows.folds))]
        drawn = [0, *(view_number(strength, nth) for nth in range(1, views + 1))]
        validates = any(len(fold.val) for fold in rows.folds)
        scored = scoring_views(rows.tta if validates else 0)
        banked = [*drawn, *(view for view in scored if view not in drawn)]
        self.scored = [banked.index(view) for view in scored]
        self.images = ImageBank(rows, resampled, banked, device)
        self.tabular = self._make_tabular_bank(resampled)
        self.orders = self._make_orders(resampled, seed)

    def epoch(self) -> Iterator[Batch]:
        """Yield the batches of one epoch; each fold draws the order of its own resampled rows."""
        chunks = [self._draw_batches(order) for order in self.orders]
        for step in range(max(len(fold) for fold in chunks)):
            yield self._gather_batch([fold[step] if step < len(fold) else None for fold in chunks])

    def epoch_of(self, fold: int) -> Iterator[BatchRun]:
        """Yield the batches of one epoch of fold number ``fold``; several are gathered at once."""
        chunks = self._draw_batches(self.orders[fold])
        many = max(1, GATHERED // self.batch_size)
        for start in range(0, len(chunks), many):
            some = chunks[start : start + many]
            sizes = [len(labels) for _, _, labels in some]
            images = self._gather_images(np.concatenate([at for at, _, _ in some]))
            labels = torch.from_numpy(np.concatenate([labels for _, _, labels in some]))
            yield BatchRun(images, labels.to(self.device), sizes)

    def validation(self, limit: int) -> Iterator[tuple[list[Tensor], Tensor, Tensor]]:
        """Yield the validation rows of all folds in parts.

        A part has at most ``limit`` inputs for each fold, where each view of a row is one input.

        Yields: a list of images (folds, rows, ...), one entry for each scoring view, the image
        itself first (and alone without test-time augmentation); clinical columns (folds, rows, k);
        labels (folds, rows). A fold with fewer rows than others is padded with the first row of
        the training side.
        """
        step = max(1, limit // len(self.scored))
        longest = max(len(fold.val) for fold in self.rows.folds)
        at = np.zeros((len(self.rows.folds), longest), dtype=np.int64)
        for i, fold in enumerate(self.rows.folds):
            at[i, : len(fold.val)] = fold.val
        for start in range(0, longest, step):
            part = at[:, start : start + step]
            labels = torch.from_numpy(self.rows.train.labels[part]).to(self.device)
            seen = [self._gather_images(part + view * len(self.rows.train)) for view in self.scored]
            yield seen, self._gather_tabular(part), labels

    def _draw_batches(self, order: FoldOrder) -> list[tuple[IntArray, IntArray, IntArray]]:
        """Draw one epoch of a fold: positions of images and columns, and labels, of each batch."""
        chosen = order.resampled.order(shuffle=order.shuffle, draw=order.draw)
        image_at = order.image_at[chosen]
        if self.views:
            drawn = order.shuffle.integers(0, self.views + 1, size=len(chosen))
            image_at = image_at + np.where(order.varied[chosen], drawn, 0) * len(self.rows.train)
        # Parts are equal, since a last batch of one row would have no variance to normalise by.
        count = -(-len(chosen) // self.batch_size)  # rounded up
        return list(
            zip(
                np.array_split(image_at, count),
                np.array_split(order.tabular_at[chosen], count),
                np.array_split(order.labels[chosen], count),
                strict=True,
            )
        )

    def _gather_batch(self, parts: list[tuple[IntArray, IntArray, IntArray] | None]) -> Batch:
        # The batch is as wide as its longest part, since padding costs as much as real rows.
        shape = (len(parts), max(len(part[0]) for part in parts if part is not None))
        image_at, tabular_at, labels = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        mask = np.zeros((*shape, 1), dtype=np.float32)
        for i, part in enumerate(parts):
            if part is not None:
                size = len(part[0])
                image_at[i, :size], tabular_at[i, :size], labels[i, :size] = part
                mask[i, :size] = 1.0
        return Batch(
            self._gather_images(image_at),
            self._gather_tabular(tabular_at),
            torch.from_numpy(labels).to(self.device),
            torch.from_numpy(mask).to(self.device),
            torch.tensor([part is not None for part in parts], device=self.device),
        )

    def _gather_images(self, at: IntArray) -> Tensor:
        return self.images.gather(at)

    def _gather_tabular(self, at: IntArray) -> Tensor:
        index = torch.from_numpy(at).to(self.device).unsqueeze(-1)
        return self.tabular.gather(1, index.expand(-1, -1, self.tabular.shape[-1]))

    def _make_tabular_bank(self, resampled: list[Resampled]) -> Tensor:
        n, made = len(self.rows.train), max(rows.made for rows in resampled)
        width, image = self.rows.folds[0].tabular.shape[1], self.rows.images.shape[-1]
        bank = np.zeros((len(resampled), n + made, width), dtype=np.float32)
        for i, (fold, rows) in enumerate(zip(self.rows.folds, resampled, strict=True)):
            bank[i, :n] = fold.tabular
            if len(rows.pairs):
                bank[i, n : n + rows.made] = rows.pairs.between(fold.tabular[fold.fit])
            elif rows.made:
                bank[i, n : n + rows.made] = rows.synthetic[:, image:]
        return torch.tensor(bank).to(self.device)

    def _make_orders(self, resampled: list[Resampled], seed: int) -> list[FoldOrder]:
        n = len(self.rows.train)
        start = self.images.real
        orders = []
        for fold, rows in zip(self.rows.folds, resampled, strict=True):
            made = np.arange(rows.made)
            real = fold.fit[rows.rows]
            image_at = np.concatenate([real, start + made])
            tabular_at = np.concatenate([real, n + made])
            varied = np.isin(rows.labels, fold.minority) | self.every_row
            varied[len(rows.rows) :] = False
            orders.append(_make_order(fold, rows, (image_at, tabular_at), varied, seed))
            start += len(made)
        return orders


def _make_order(
    fold: FoldRows, rows: Resampled, at: tuple[IntArray, IntArray], varied: BoolArray, seed: int
) -> FoldOrder:
    return FoldOrder(
        rows,
        *at,
        rows.labels,
        varied,
        np.random.default_rng(derive_seed(seed, fold.fold.name, "order")),
        torch.Generator().manual_seed(derive_seed(seed, fold.fold.name, "draw")),
    )
