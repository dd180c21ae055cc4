"""Cost of a trial compared with its bare optimiser steps, and the machine's matrix rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.heads.stacked import EPS
from outerfold.pipelines.rows.batches import Batch, BatchRun
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.training.heads import StackedTraining
from outerfold.storage.images.read import read_image

REPEATS = 3
"""Repeats of each measurement; the fastest counts, since other work only adds time."""
LAYERS = (256, 128)
"""Widths of the hidden layers."""


class Mlp(nn.Module):
    """The layers of the dbt task as torch's own modules."""

    def __init__(self, width: int, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the steps of one trial, and the arithmetic of their matrix products.

    Attributes:
        training: seconds of the trial as outerfold trains it, with validation.
        bare, plain: seconds of its steps on prepared batches, by the code of the trial and with
            torch's own layers.
        step_flops, trial_flops: floating-point operations of the steps, and of the steps with the
            validation.
    """

    batch_size: int
    training: float
    bare: float
    plain: float
    step_flops: float
    trial_flops: float


def matrix_rate(side: int = 1024, products: int = 10) -> float:
    """Floating-point operations per second of a large fp32 matrix product."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = min(_cpu(lambda: [a @ b for _ in range(products)]) for _ in range(REPEATS))
    return 2 * side**3 * products / best


def trial_cost(rows: TrainingRows, batch_size: int, epochs: int) -> Cost:
    """Measure the cost of a trial of one configuration of the dbt task."""
    pipeline = DbtPipeline(
        learning_rate=1e-3,
        dropout=0.3,
        focal_gamma=0.0,
        sampler="none",
        attention=False,
        batch_size=batch_size,
    )

    def begin() -> StackedTraining:
        return pipeline.start(rows, budget=epochs, seed=0, device="cpu")

    begin()  # opens memory maps
    training = min(_cpu(lambda: list(begin())) for _ in range(REPEATS))
    ready = list(begin().batches.epoch())
    kept = _kept(ready)
    bare = min(_bare_steps(begin(), kept, epochs) for _ in range(REPEATS))
    plain = min(_plain_steps(kept, epochs) for _ in range(REPEATS))
    width, logits = rows.images.shape[-1], 1 if len(rows.train.classes) == 2 else 4
    fit = sum(len(fold.fit) for fold in rows.folds) * epochs
    val = sum(len(fold.val) for fold in rows.folds) * epochs
    steps = fit * _flops_a_row(width, logits, backward=True)
    scored = val * _flops_a_row(width, logits, backward=False)
    return Cost(batch_size, training, bare, plain, steps, steps + scored)


def _flops_a_row(width: int, logits: int, *, backward: bool) -> float:
    """Operations per row of the matrix products alone.

    Training has two more products per layer, but only one more in the first layer.
    """
    sizes = [width, *LAYERS, logits]
    products = [2.0 * a * b for a, b in pairwise(sizes)]
    return 3 * sum(products) - products[0] if backward else sum(products)


def _kept(batches: Sequence[Batch]) -> list[BatchRun]:
    """Batches of each fold, without padding rows."""
    runs = []
    for k in range(len(batches[0].images)):
        masks = [batch.mask[k, :, 0].bool() for batch in batches]
        images, labels = (
            torch.cat([rows[k][mask] for rows, mask in zip(each, masks, strict=True)])
            for each in ([b.images for b in batches], [b.labels for b in batches])
        )
        sizes = [int(mask.sum()) for mask in masks]
        runs.append(BatchRun(images, labels, [size for size in sizes if size]))
    return runs


def _bare_steps(training: StackedTraining, kept: Sequence[BatchRun], epochs: int) -> float:
    def run() -> None:
        for _ in range(epochs):
            for steps, own in zip(training.steps, kept, strict=True):
                steps.train(own, 1e-3)

    return _cpu(run)


def _plain_steps(kept: Sequence[BatchRun], epochs: int) -> float:
    classes = int(max(own.labels.max() for own in kept)) + 1
    each = []
    for own in kept:
        model = Mlp(own.images.shape[-1], classes)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=EPS, fused=True)
        parts = (torch.split(rows, own.sizes) for rows in (own.images, own.labels))
        each.append((model, optimiser, list(zip(*parts, strict=True))))

    def run() -> None:
        for model, optimiser, own in each:
            for _ in range(epochs):
                for x, y in own:
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    optimiser.step()

    return _cpu(run)


def seconds_an_image(paths: Sequence[str], encoder: Encoder, batch: int = 16) -> float:
    """CPU seconds to decode, flip, frame and encode one image, as in a loop without a cache."""

    def run() -> None:
        for at in range(0, len(paths), batch):
            squares = [
                encoder.framing.square(
                    np.ascontiguousarray(read_image(path)[:, ::-1]), encoder.image_size
                )
                for path in paths[at : at + batch]
            ]
            encoder.encode(np.stack(squares))

    return _cpu(run) / len(paths)


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
