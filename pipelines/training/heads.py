"""Training loop of heads: all folds of a trial train together, one stacked step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines._base import Epoch, TrainingDiverged
from outerfold.pipelines.fitted.head import ROWS_AT_ONCE, FittedHead, mean_probability
from outerfold.pipelines.heads.losses import effective_number_alpha, focal_loss
from outerfold.pipelines.heads.mlp_gradients import Loss, MlpSteps
from outerfold.pipelines.heads.networks import Standardise, Widths, class_logits
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import StackedAdam
from outerfold.pipelines.rows.batches import Batch, Batches
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import FloatArray
from outerfold.storage.seeds import derive_seed

FIRST_RESTART = 10
"""Epochs before the first warm restart."""
FLOOR = 0.01
"""Smallest learning rate of a schedule, as a share of the largest."""
TINY = 1e-12
"""Smallest probability whose logarithm is taken; smaller ones are raised to it."""

BuildHead = Callable[[RandomStreams, Widths, Standardise], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """Settings of a head's training, with the same names for both tasks.

    Attributes:
        learning_rate: largest learning rate of the schedule.
        weight_decay: weight decay of the optimiser.
        batch_size: largest number of rows of a batch.
        gamma: exponent of the focal loss; 0 is cross-entropy.
        label_smoothing: share of the target spread evenly over the classes.
        ens_beta: beta of the effective-number class weights, in [0, 1).
        sampler: one of ``SAMPLERS``.
        views: number of augmented views as which a row may be drawn, besides the image itself.
        decoupled: whether the optimiser is AdamW instead of Adam.
        restarts: whether the cosine schedule has warm restarts (10 epochs, doubling) instead of one
            descent.
        clip_norm: largest gradient norm; None does not clip.
        strength: strength of the views.
        every_row: whether any row may be drawn as a view, or only one of a minority class.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    gamma: float
    label_smoothing: float
    ens_beta: float
    sampler: str
    views: int
    decoupled: bool
    restarts: bool
    clip_norm: float | None
    strength: str = "light"
    every_row: bool = False

    def rate(self, done: int, budget: int) -> float:
        """Learning rate of the next epoch.

        Reference: Loshchilov & Hutter (2017), SGDR, equation 5, with a floor of 1 %.

        Args:
            done: number of epochs trained before.
            budget: largest number of epochs.
        """
        start, length = 0.0, float(budget)
        if self.restarts:
            length = float(FIRST_RESTART)
            while done >= start + length:
                start, length = start + length, 2 * length
        cosine = 0.5 * (1 + math.cos(math.pi * (done - start) / length))
        return self.learning_rate * (FLOOR + (1 - FLOOR) * cosine)


class StackedTraining:
    """Training of one network for each fold, all folds in step.

    A fold's weights, row order and draws come from its own seeds, and rows that pad a batch are
    masked, so that a fold gives the same model in a stack and alone.

    Args:
        recipe: settings of the training.
        build: function that builds the stack of networks.
        rows: the training side and its folds.
        budget: largest number of epochs.
        seed: seed of the trial.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        TrainingDiverged: a loss or a probability is no longer a finite number.
    """

    # Longer than 30 lines: one call a part of a training; none of them repeats.
    def __init__(
        self,
        recipe: Recipe,
        build: BuildHead,
        rows: TrainingRows,
        *,
        budget: int,
        seed: int,
        device: str,
    ) -> None:
        self.recipe, self.build, self.rows, self.budget = recipe, build, rows, budget
        self.batches = Batches(
            rows,
            sampler=recipe.sampler,
            views=recipe.views,
            batch_size=recipe.batch_size,
            seed=seed,
            device=torch.device(device),
            strength=recipe.strength,
            every_row=recipe.every_row,
        )
        names = [fold.fold.name for fold in rows.folds]
        self.streams = RandomStreams(
            [derive_seed(seed, name, "network") for name in names], recipe.batch_size
        )
        self.network = build(self.streams, _widths(rows), Standardise.of(rows.folds)).to(device)
        self.optimiser = StackedAdam(
            self.network,
            weight_decay=recipe.weight_decay,
            decoupled=recipe.decoupled,
            clip_norm=recipe.clip_norm,
        )
        self.alpha = torch.tensor(self._class_weights(), dtype=torch.float32, device=device)
        loss = Loss(self.alpha, recipe.gamma, recipe.label_smoothing)
        self.steps = MlpSteps.of(self.network, self.optimiser, self.streams, loss)

    def __iter__(self) -> Iterator[Epoch]:
        for number in range(1, self.budget + 1):
            fit_loss = self._train_epoch(number - 1)
            val_loss, probabilities = self._validate()
            if not all(np.isfinite(fold).all() for fold in (*probabilities, fit_loss)):
                raise TrainingDiverged(
                    f"epoch {number}: a loss or probability is no longer a number (learning rate "
                    f"{self.recipe.learning_rate:.2g}, gamma {self.recipe.gamma:.2g})"
                )
            yield Epoch(number, fit_loss, val_loss, probabilities)

    def fitted(self, *members: int) -> FittedHead:
        """Return a copy of the networks of these folds, with encoders and source for new rows.

        Args:
            members: positions of folds.
        """
        chosen = list(members)
        weights = {name: value[chosen].cpu() for name, value in self.weights().items()}
        return load_heads(self.build, self.rows, chosen, weights)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the present weights of all folds by name; the next epoch changes them."""
        state: Mapping[str, Tensor] = self.network.state_dict()
        return state

    def delivered(self, fold: int) -> Resampled:
        """Return the rows on which fold number ``fold`` trains."""
        return self.batches.orders[fold].resampled

    def remarks(self) -> Mapping[str, object]:
        """Return an empty mapping, since a trial stores no facts about this training."""
        return {}

    def _class_weights(self) -> FloatArray:
        classes = len(self.rows.train.classes)
        return np.stack(
            [
                effective_number_alpha(order.resampled.seen(classes), self.recipe.ens_beta)
                for order in self.batches.orders
            ]
        )

    def _train_epoch(self, done: int) -> FloatArray:
        self.network.train()
        self.streams.begin(done)
        rate = self.recipe.rate(done, self.budget)
        total = torch.zeros(len(self.rows.folds))
        for steps in self.steps:
            for run in self.batches.epoch_of(steps.fold):
                total[steps.fold] += steps.train(run, rate)
        if not self.steps:
            for batch in self.batches.epoch():
                total += self._train_step(batch, rate).cpu()
        rows = np.array([len(order.labels) for order in self.batches.orders], dtype=np.float64)
        return np.asarray(total.numpy() / rows)

    def _train_step(self, batch: Batch, rate: float) -> Tensor:
        mask = batch.mask.squeeze(-1)
        logits = class_logits(self.network(batch.images, batch.tabular, batch.mask))
        summed = (self._row_losses(logits, batch.labels) * mask).sum(1)  # (folds,)
        # The loss is summed over folds, so each fold has the gradient that it would have alone.
        torch.autograd.backward((summed / mask.sum(1).clamp_min(1.0)).sum())
        self.optimiser.step(rate, batch.active)
        return summed.detach()

    def _row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return focal_loss(
            logits,
            labels,
            self.alpha,
            gamma=self.recipe.gamma,
            label_smoothing=self.recipe.label_smoothing,
        )

    @torch.inference_mode()
    def _validate(self) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        self.network.eval()
        lengths = [len(fold.val) for fold in self.rows.folds]
        scores, losses = [], []
        for views, tabular, labels in self.batches.validation(-(-ROWS_AT_ONCE // len(lengths))):
            logits = [class_logits(self.network(images, tabular, None)) for images in views]
            probabilities = mean_probability(logits)
            scores.append(probabilities.cpu())
            # The loss is that of the scored probability: of the mean where there are several views.
            scored = logits[0] if len(views) == 1 else probabilities.clamp_min(TINY).log().float()
            losses.append(self._row_losses(scored, labels).cpu())
        if not scores:
            nothing = np.zeros((0, len(self.rows.train.classes)))
            return np.full(len(lengths), np.nan), tuple(nothing for _ in lengths)
        score, loss = torch.cat(scores, 1).numpy(), torch.cat(losses, 1).numpy()
        means = [loss[i, :n].mean(dtype=np.float64) for i, n in enumerate(lengths)]
        return np.array(means), tuple(score[i, :n] for i, n in enumerate(lengths))


def load_heads(
    build: BuildHead, rows: TrainingRows, members: Sequence[int], weights: Mapping[str, Tensor]
) -> FittedHead:
    """Trained heads of some folds with these weights, with encoders and source for new rows.

    Args:
        build: function that builds the stack of networks.
        rows: the training side and its folds.
        members: positions of folds among those of ``rows``.
        weights: weights by name; the first axis of each has one entry for each member.
    """
    widths = _widths(rows)
    empty = np.zeros((len(members), widths.image))
    network = build(RandomStreams([0] * len(members)), widths, Standardise(empty, empty))
    network.load_state_dict(weights)
    columns = NetworkColumns.of(rows.folds[member].encoder for member in members)
    return FittedHead(network.eval(), columns, rows.source, rows.tokens, rows.tta)


def _widths(rows: TrainingRows) -> Widths:
    width, classes = rows.images.shape[-1], len(rows.train.classes)
    return Widths(width, rows.tokens, rows.folds[0].encoder.width, classes)
