"""What a trial costs beside the bare optimiser steps in it, and the machine's own matrix rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.batches import Batch
from pipelines.dbt import DbtPipeline
from pipelines.encoders._base import Encoder
from pipelines.networks import class_logits
from pipelines.rows import TrainingRows
from pipelines.stacked import EPS
from pipelines.training import StackedTraining
from storage.images import read_image

REPEATS = 3
"""Of each measurement; the quickest counts, since other work on the machine only adds."""
LAYERS = (256, 128)
"""Widths of the hidden layers."""


class Mlp(nn.Module):
    """The layers of the dbt task, as torch has them."""

    def __init__(self, width: int, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the steps of one trial, and the arithmetic of their matrix products.

    Attributes:
        training: the trial as outerfold trains it, with validation.
        stacked, plain: its bare steps on batches that lie ready, all folds in one product, and
            fold after fold in torch's own layers.
        step_flops, trial_flops: of the steps, and with the validation.
    """

    batch_size: int
    training: float
    stacked: float
    plain: float
    step_flops: float
    trial_flops: float


def matrix_rate(side: int = 1024, products: int = 10) -> float:
    """FLOP a second of a large fp32 product, one thread."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = min(_cpu(lambda: [a @ b for _ in range(products)]) for _ in range(REPEATS))
    return 2 * side**3 * products / best


def trial_cost(rows: TrainingRows, batch_size: int, epochs: int) -> Cost:
    """Of one configuration of the dbt task."""
    pipeline = DbtPipeline(
        learning_rate=1e-3, dropout=0.3, focal_gamma=0.0, sampler="none", attention=False,
        batch_size=batch_size,
    )  # fmt: skip

    def begin() -> StackedTraining:
        return pipeline.start(rows, budget=epochs, seed=0, device="cpu")

    begin()  # opens memory maps
    training = min(_cpu(lambda: list(begin())) for _ in range(REPEATS))
    ready = list(begin().batches.epoch())
    stacked = min(_stacked_steps(begin(), ready, epochs) for _ in range(REPEATS))
    plain = min(_plain_steps(ready, epochs) for _ in range(REPEATS))
    width, logits = rows.images.shape[-1], 1 if len(rows.train.classes) == 2 else 4
    fit = sum(len(fold.fit) for fold in rows.folds) * epochs
    val = sum(len(fold.val) for fold in rows.folds) * epochs
    steps = fit * _flops_a_row(width, logits, backward=True)
    scored = val * _flops_a_row(width, logits, backward=False)
    return Cost(batch_size, training, stacked, plain, steps, steps + scored)


def _flops_a_row(width: int, logits: int, *, backward: bool) -> float:
    """Of the matrix products alone; training has two more of each, but one of the first."""
    sizes = [width, *LAYERS, logits]
    products = [2.0 * a * b for a, b in pairwise(sizes)]
    return 3 * sum(products) - products[0] if backward else sum(products)


def _stacked_steps(training: StackedTraining, batches: Sequence[Batch], epochs: int) -> float:
    network, optimiser, cross = training.network.train(), training.optimiser, _cross

    def run() -> None:
        for _ in range(epochs):
            for batch in batches:
                logits = class_logits(network(batch.images, batch.tabular, batch.mask))
                mask = batch.mask.squeeze(-1)
                loss = (cross(logits, batch.labels) * mask).sum(1) / mask.sum(1).clamp_min(1.0)
                loss.sum().backward()
                optimiser.step(1e-3, batch.active)

    return _cpu(run)


def _plain_steps(batches: Sequence[Batch], epochs: int) -> float:
    folds, classes = len(batches[0].images), int(max(b.labels.max() for b in batches)) + 1
    each = []
    for k in range(folds):
        kept = [(b.images[k][m], b.labels[k][m]) for b in batches
                if (m := b.mask[k, :, 0].bool()).any()]  # fmt: skip
        model = Mlp(batches[0].images.shape[-1], classes)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=EPS, fused=True)
        each.append((model, optimiser, kept))

    def run() -> None:
        for model, optimiser, kept in each:
            for _ in range(epochs):
                for x, y in kept:
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    optimiser.step()

    return _cpu(run)


def _cross(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


def seconds_an_image(paths: Sequence[str], encoder: Encoder, batch: int = 16) -> float:
    """CPU seconds to decode, flip, frame and encode one image, as a naive loop does every time."""

    def run() -> None:
        for at in range(0, len(paths), batch):
            squares = [
                encoder.framing.square(np.ascontiguousarray(read_image(path)[:, ::-1]),
                                       encoder.image_size)
                for path in paths[at : at + batch]
            ]  # fmt: skip
            encoder.encode(np.stack(squares))

    return _cpu(run) / len(paths)


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
