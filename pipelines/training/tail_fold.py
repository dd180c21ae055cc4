"""Training of a tail and a head on one fold: weights, order of rows, steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.augmentation.on_the_fly import vary
from outerfold.pipelines.augmentation.views import scoring_views, view_number
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.fitted.head import mean_probability
from outerfold.pipelines.fitted.tail import compute_logits, score
from outerfold.pipelines.heads.losses import effective_number_alpha, focal_loss
from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import EPS
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.images.on_device import DeviceRows, Read, Rows
from outerfold.pipelines.rows.training_rows import FoldRows, TrainingRows
from outerfold.pipelines.training.heads import TINY, Recipe
from outerfold.pipelines.training.micro_batches import (
    MicroBatches,
    Moment,
    out_of_memory,
    release_gpu_memory,
)
from outerfold.pipelines.training.precision import Precision
from outerfold.storage.records import FloatArray
from outerfold.storage.seeds import derive_seed

BuildTail = Callable[[RandomStreams, Widths, Standardise], nn.Module]


@dataclass(frozen=True)
class TailRecipe:
    """Settings of the training of a tail with its head.

    Attributes:
        head: settings of both; its learning rate is that of the head.
        tail_rate: learning rate of the tail divided by that of the head.
        strength: strength of the random changes of whole images, in [0, 1]
            (``outerfold.pipelines.augmentation.on_the_fly``).
        checkpointing: see ``outerfold.pipelines.encoders.divide.Tail``.
    """

    head: Recipe
    tail_rate: float
    strength: float
    checkpointing: bool

    @property
    def drawn_views(self) -> tuple[int, ...]:
        """Numbers of the views as which a training row may be drawn, from 0, the image itself."""
        nths = range(1, self.head.views + 1)
        return (0, *(view_number(self.head.strength, nth) for nth in nths))

    def view_numbers(self, tta: int) -> tuple[int, ...]:
        """Numbers of all views that are drawn or scored, in ascending order."""
        return tuple(sorted({*self.drawn_views, *scoring_views(tta)}))


class TailBatch(NamedTuple):
    """Rows of one step.

    Attributes:
        moment: position of the step.
        rows: (n,) positions of the rows in the training side, on the device.
        read: reads a part of their inputs.
    """

    moment: Moment
    rows: Tensor
    read: Read


class TailFold:
    """Tail and head of one fold, trained in batches that are read from disk.

    All draws come from the fold's own seeds and the number of the step. So a fold gives the same
    model whatever other folds train beside it, and a step that is repeated draws the same values.

    Args:
        recipe: settings of the training.
        build: function that builds the head.
        rows: the training side and its folds.
        which: position of the fold.
        inputs: images or activations that the tail reads, on the device of the training.
        seed: seed of the trial.
    """

    def __init__(
        self,
        recipe: TailRecipe,
        build: BuildTail,
        rows: TrainingRows,
        which: int,
        inputs: DeviceRows,
        *,
        seed: int,
    ) -> None:
        self.recipe, self.rows, self.which, self.inputs = recipe, rows, which, inputs
        self.device, self.fold = inputs.device, rows.folds[which]
        device = self.device
        self.seed = derive_seed(seed, self.fold.fold.name, "changes")
        self.streams = RandomStreams([derive_seed(seed, self.fold.fold.name, "network")])
        self.widths = _make_widths(rows, self.fold)
        self.head = build(self.streams, self.widths, Standardise.of([self.fold])).to(device)
        self.tail = _make_tail(inputs.source, recipe, device)
        self.precision = Precision.of(device)
        self.scaler = self.precision.scaler()
        self.optimiser = _make_optimiser(recipe, self.head, self.tail)
        self.resampled = rows.resampled(which, recipe.head.sampler)
        self.shuffle = np.random.default_rng(derive_seed(seed, self.fold.fold.name, "order"))
        self.draw = torch.Generator().manual_seed(derive_seed(seed, self.fold.fold.name, "draw"))
        counts = self.resampled.seen(self.widths.classes)
        alpha = effective_number_alpha(counts, recipe.head.ens_beta)
        self.alpha = torch.tensor(alpha[None], dtype=torch.float32, device=device)
        self.tabular = torch.tensor(self.fold.tabular, device=device)
        self.labels = torch.tensor(self.fold.labels, device=device)

    def train(self, done: int, rate: float, micro: MicroBatches) -> float:
        """Train one epoch and return the mean loss of its rows.

        Args:
            done: number of epochs trained before.
            rate: learning rate of the head.
            micro: sizes of micro-batches; shrinks when memory runs out.
        """
        head, tail = self.optimiser.param_groups
        head["lr"], tail["lr"] = rate, rate * self.recipe.tail_rate
        batches = self._draw_batches()
        order = torch.from_numpy(np.concatenate([at for at, _ in batches])).to(self.device)
        each = torch.split(order, [len(at) for at, _ in batches])
        # The sum stays on the device: to read it in each step would wait for the step's end.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        reads = self.inputs.batches(batches)
        for step, (rows, read) in enumerate(zip(each, reads, strict=True)):
            batch = TailBatch(Moment(done, self.which, step), rows, read)
            total += self._train_batch(batch, micro)
        return float(total / len(order))

    def validate(self) -> tuple[float, FloatArray]:
        """Return the mean loss (NaN without val rows) and the probabilities (val rows, classes)."""
        at = self.fold.val
        if not len(at):
            return float("nan"), np.zeros((0, self.widths.classes))
        parts = score(
            [self.tail],
            self.head,
            self.inputs.scored,
            self.rows.train.ids[at].tolist(),
            self.tabular[at][None].cpu(),
            tokens=self.rows.tokens,
            device=self.device,
            tta=self.rows.tta,
        )
        seen = [torch.cat(views, 1)[0] for views in zip(*parts, strict=True)]
        probabilities = mean_probability(seen)
        # The loss is that of the scored probability: of the mean where there are several views.
        scored = seen[0] if len(seen) == 1 else probabilities.clamp_min(TINY).log().float()
        labels = self.labels[at]
        with torch.inference_mode():
            loss = float(self._row_losses(scored, labels).double().mean())
        return loss, probabilities.cpu().numpy()

    def _draw_batches(self) -> list[Rows]:
        chosen = self.resampled.order(shuffle=self.shuffle, draw=self.draw)
        at = self.fold.fit[self.resampled.rows][chosen]
        views = np.zeros(len(at), dtype=np.int64)
        recipe = self.recipe.head
        if recipe.views:
            numbers = np.array(self.recipe.drawn_views)
            drawn = numbers[self.shuffle.integers(0, len(numbers), size=len(at))]
            varied = recipe.every_row | np.isin(self.fold.labels[at], self.fold.minority)
            views = np.where(varied, drawn, 0)
        # Parts are equal, since a last batch of one row would have no variance to normalise by.
        count = -(-len(at) // recipe.batch_size)  # rounded up
        return list(zip(np.array_split(at, count), np.array_split(views, count), strict=True))

    def _train_batch(self, batch: TailBatch, micro: MicroBatches) -> Tensor:
        """Update once from one batch, in parts if it does not fit; return the sum of its losses."""
        moment, size = batch.moment, len(batch.rows)
        kept = [buffer.clone() for module in (self.head, self.tail) for buffer in module.buffers()]
        while True:
            try:
                return self._train_parts(batch, micro.parts(moment, size))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not micro.halve(moment, size):
                    raise
            # This runs outside the handler, whose traceback keeps the tensors that filled memory.
            self._undo_step(kept)

    def _undo_step(self, kept: list[Tensor]) -> None:
        """Undo a step that did not fit: clear gradients, restore batch-normalisation statistics."""
        self.optimiser.zero_grad()
        buffers = [buffer for module in (self.head, self.tail) for buffer in module.buffers()]
        for buffer, before in zip(buffers, kept, strict=True):
            buffer.copy_(before)
        release_gpu_memory()

    def _train_parts(self, batch: TailBatch, parts: int) -> Tensor:
        """Update once from the summed gradients of a batch's parts; return its summed loss."""
        self.head.train()
        self.tail.train()
        number = batch.moment.epoch * 1_000_003 + batch.moment.step
        self.streams.begin(number)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for k, chosen in enumerate(np.array_split(np.arange(len(batch.rows)), parts)):
            part = slice(int(chosen[0]), int(chosen[-1]) + 1)
            summed = self._sum_losses(
                batch.rows[part], batch.read(part), derive_seed(self.seed, number, k)
            )
            total += summed.detach()
            # Divided by the size of the whole batch, so that the parts add up to its gradient.
            torch.autograd.backward(self.scaler.scale(summed / len(batch.rows)))
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        if self.recipe.head.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(parameters, self.recipe.head.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        return total

    def _sum_losses(self, rows: Tensor, images: Tensor, seed: int) -> Tensor:
        """Summed loss of a part of a batch: positions of its rows (n,), and their inputs."""
        if self.inputs.source.pixels:
            images = vary(images, strength=self.recipe.strength, seed=seed)
        mask = torch.ones(1, len(rows), 1, device=self.device)
        deterministic = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=True
        )
        with deterministic:
            logits = compute_logits(
                [self.tail],
                self.head,
                images,
                self.tabular[rows][None],
                mask,
                tokens=self.rows.tokens,
                products=self.precision.products,
            )
        return self._row_losses(logits[0], self.labels[rows]).sum()

    def _row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss (n,) of each row from logits (n, classes)."""
        return focal_loss(
            logits.unsqueeze(0),
            labels.unsqueeze(0),
            self.alpha,
            gamma=self.recipe.head.gamma,
            label_smoothing=self.recipe.head.label_smoothing,
        )[0]


def _make_widths(rows: TrainingRows, fold: FoldRows) -> Widths:
    return Widths(len(fold.scaler.mean), rows.tokens, fold.encoder.width, len(rows.train.classes))


def _make_tail(source: TailRows, recipe: TailRecipe, device: torch.device) -> nn.Module:
    tail = source.tail().to(device).to(memory_format=torch.channels_last)
    if isinstance(tail, Tail):
        tail.checkpointing = recipe.checkpointing
    return tail


def _make_optimiser(recipe: TailRecipe, head: nn.Module, tail: nn.Module) -> torch.optim.Adam:
    kind = torch.optim.AdamW if recipe.head.decoupled else torch.optim.Adam
    groups = [{"params": list(module.parameters())} for module in (head, tail)]
    return kind(groups, weight_decay=recipe.head.weight_decay, eps=EPS, fused=True)
