"""One fold of a tail that trains: its weights, its order of rows, its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.augmentation.on_the_fly import vary
from outerfold.pipelines.augmentation.views import view_number
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.fitted.head import mean_probability
from outerfold.pipelines.fitted.tail import logits_of, score
from outerfold.pipelines.heads.losses import effective_number_alpha, focal_loss
from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import EPS
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.rows.training_rows import FoldRows, TrainingRows
from outerfold.pipelines.training.heads import TINY, Recipe
from outerfold.pipelines.training.micro_batches import MicroBatches, Moment, out_of_memory, release
from outerfold.pipelines.training.precision import Precision
from outerfold.storage.records import FloatArray, IntArray
from outerfold.storage.seeds import derive

BuildTail = Callable[[RandomStreams, Widths, Standardise], nn.Module]


@dataclass(frozen=True)
class TailRecipe:
    """How a tail trains with its head.

    Attributes:
        head: of both; its learning rate is the head's.
        tail_rate: the tail's learning rate over the head's.
        strength: of the changes of whole images
            (``outerfold.pipelines.augmentation.on_the_fly``).
        checkpointing: see ``outerfold.pipelines.encoders.divide.Tail``.
    """

    head: Recipe
    tail_rate: float
    strength: float
    checkpointing: bool


class TailBatch(NamedTuple):
    """Rows of one step: positions in the training side (n,), the view of each (n,)."""

    at: IntArray
    views: IntArray


class TailFold:
    """A tail and a head that learn one fold, in batches gathered from the rows on disk.

    Everything drawn comes from the fold's own seeds and the number of the step, so a fold learns
    the same whatever folds are trained beside it, and a step that is taken again draws the same.
    """

    def __init__(
        self,
        recipe: TailRecipe,
        build: BuildTail,
        rows: TrainingRows,
        which: int,
        source: TailRows,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.recipe, self.rows, self.which, self.source = recipe, rows, which, source
        self.device, self.fold = device, rows.folds[which]
        self.seed = derive(seed, self.fold.fold.name, "changes")
        self.streams = RandomStreams([derive(seed, self.fold.fold.name, "network")])
        self.widths = _widths(rows, self.fold)
        self.head = build(self.streams, self.widths, Standardise.of([self.fold])).to(device)
        self.tail = _tail(source, recipe, device)
        self.precision = Precision.of(device)
        self.scaler = self.precision.scaler()
        self.optimiser = _optimiser(recipe, self.head, self.tail)
        self.resampled = rows.resampled(which, recipe.head.sampler)
        self.shuffle = np.random.default_rng(derive(seed, self.fold.fold.name, "order"))
        self.draw = torch.Generator().manual_seed(derive(seed, self.fold.fold.name, "draw"))
        counts = self.resampled.seen(self.widths.classes)
        alpha = effective_number_alpha(counts, recipe.head.ens_beta)
        self.alpha = torch.tensor(alpha[None], dtype=torch.float32, device=device)
        self.tabular = torch.tensor(self.fold.tabular)
        self.ids = rows.train.ids

    def train(self, done: int, rate: float, micro: MicroBatches) -> float:
        """One epoch at the head's learning rate ``rate``; returns the mean loss of its rows."""
        head, tail = self.optimiser.param_groups
        head["lr"], tail["lr"] = rate, rate * self.recipe.tail_rate
        batches = self._batches()
        losses = [
            self._step(batch, Moment(done, self.which, step), micro)
            for step, batch in enumerate(batches)
        ]
        return float(sum(losses) / sum(len(batch.at) for batch in batches))

    def validate(self) -> tuple[float, FloatArray]:
        """Mean loss (NaN without rows) and probabilities (val rows, classes)."""
        at = self.fold.val
        if not len(at):
            return float("nan"), np.zeros((0, self.widths.classes))
        parts = score(
            [self.tail],
            self.head,
            self.source,
            self.ids[at].tolist(),
            self.tabular[at],
            tokens=self.rows.tokens,
            device=self.device,
            tta=self.rows.tta,
        )
        seen = [torch.cat(views, 1)[0] for views in zip(*parts, strict=True)]
        probabilities = mean_probability(seen)
        # The loss of what scores: over several views, of their mean probability.
        scored = seen[0] if len(seen) == 1 else probabilities.clamp_min(TINY).log().float()
        labels = torch.from_numpy(self.fold.labels[at]).to(self.device)
        with torch.inference_mode():
            loss = float(self._loss(scored, labels).double().mean())
        return loss, probabilities.cpu().numpy()

    def _batches(self) -> list[TailBatch]:
        chosen = self.resampled.order(shuffle=self.shuffle, draw=self.draw)
        at = self.fold.fit[self.resampled.rows][chosen]
        views = np.zeros(len(at), dtype=np.int64)
        recipe = self.recipe.head
        if recipe.views:
            nths = range(1, recipe.views + 1)
            numbers = np.array([0, *(view_number(recipe.strength, nth) for nth in nths)])
            drawn = numbers[self.shuffle.integers(0, len(numbers), size=len(at))]
            varied = recipe.every_row | np.isin(self.fold.labels[at], self.fold.minority)
            views = np.where(varied, drawn, 0)
        # Equal parts: a last batch of one row would have no variance to normalise by.
        count = -(-len(at) // recipe.batch_size)
        pairs = zip(np.array_split(at, count), np.array_split(views, count), strict=True)
        return [TailBatch(*pair) for pair in pairs]

    def _step(self, batch: TailBatch, moment: Moment, micro: MicroBatches) -> float:
        """One update from one batch, in parts where it does not fit; the sum of its losses."""
        kept = [buffer.clone() for module in (self.head, self.tail) for buffer in module.buffers()]
        while True:
            try:
                return self._accumulate(batch, moment, micro.parts(moment, len(batch.at)))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not micro.halve(moment, len(batch.at)):
                    raise
            # Outside the handler, whose traceback holds on to what filled the memory.
            self._undo(kept)

    def _undo(self, kept: list[Tensor]) -> None:
        """Let go of a step that did not fit, with what its batch normalisation has seen."""
        self.optimiser.zero_grad()
        buffers = [buffer for module in (self.head, self.tail) for buffer in module.buffers()]
        for buffer, before in zip(buffers, kept, strict=True):
            buffer.copy_(before)
        release()

    def _accumulate(self, batch: TailBatch, moment: Moment, parts: int) -> float:
        self.head.train()
        self.tail.train()
        number = moment.epoch * 1_000_003 + moment.step
        self.streams.begin(number)
        total = 0.0
        for k, chosen in enumerate(np.array_split(np.arange(len(batch.at)), parts)):
            part = TailBatch(batch.at[chosen], batch.views[chosen])
            summed = self._forward(part, derive(self.seed, number, k))
            total += float(summed.detach())
            # Over the whole batch, so that the parts add up to its gradient.
            torch.autograd.backward(self.scaler.scale(summed / len(batch.at)))
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        if self.recipe.head.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(parameters, self.recipe.head.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        return total

    def _forward(self, part: TailBatch, seed: int) -> Tensor:
        """Summed loss of some rows of a batch."""
        images = self._gather(part).to(self.device, non_blocking=True)
        if self.source.pixels:
            images = vary(images, strength=self.recipe.strength, seed=seed)
        mask = torch.ones(1, len(part.at), 1, device=self.device)
        labels = torch.from_numpy(self.fold.labels[part.at]).to(self.device)
        columns = self.tabular[part.at].to(self.device)
        deterministic = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=True
        )
        with deterministic:
            logits = logits_of(
                [self.tail],
                self.head,
                images,
                columns,
                mask,
                tokens=self.rows.tokens,
                products=self.precision.products,
            )
        return self._loss(logits[0], labels).sum()

    def _gather(self, part: TailBatch) -> Tensor:
        """Activations of a batch's rows, each in its own view, read from disk."""
        read: list[tuple[IntArray, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = []
        for view in np.unique(part.views).tolist():
            where = np.flatnonzero(part.views == view)
            read.append((where, self.source.activations(self.ids[part.at[where]].tolist(), view)))
        images = np.empty((len(part.at), *read[0][1].shape[1:]), read[0][1].dtype)
        for where, values in read:
            images[where] = values
        return torch.from_numpy(images)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,) of logits (n, classes)."""
        return focal_loss(
            logits.unsqueeze(0),
            labels.unsqueeze(0),
            self.alpha,
            gamma=self.recipe.head.gamma,
            label_smoothing=self.recipe.head.label_smoothing,
        )[0]


def _widths(rows: TrainingRows, fold: FoldRows) -> Widths:
    return Widths(len(fold.scaler.mean), rows.tokens, fold.encoder.width, len(rows.train.classes))


def _tail(source: TailRows, recipe: TailRecipe, device: torch.device) -> nn.Module:
    tail = source.tail().to(device).to(memory_format=torch.channels_last)
    if isinstance(tail, Tail):
        tail.checkpointing = recipe.checkpointing
    return tail


def _optimiser(recipe: TailRecipe, head: nn.Module, tail: nn.Module) -> torch.optim.Adam:
    kind = torch.optim.AdamW if recipe.head.decoupled else torch.optim.Adam
    groups = [{"params": list(module.parameters())} for module in (head, tail)]
    return kind(groups, weight_decay=recipe.head.weight_decay, eps=EPS, fused=True)
