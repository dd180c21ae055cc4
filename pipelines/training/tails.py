"""Training loop of tails: within an epoch the folds train one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from outerfold.pipelines._base import Epoch, TrainingDiverged
from outerfold.pipelines.fitted.tail import FittedTail
from outerfold.pipelines.heads.networks import Standardise
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.images.on_device import device_rows
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.micro_batches import MicroBatches
from outerfold.pipelines.training.tail_fold import BuildTail, TailFold, TailRecipe

CHANGES = "micro_batch_changes"
"""Name of the trial attribute that stores when its micro-batches became smaller."""


class TailTraining:
    """Training of a tail and a head for each fold; its interface is that of ``StackedTraining``.

    Args:
        recipe: settings of the training.
        build: function that builds a stack of heads.
        rows: the training side and its folds.
        source: images or activations that a tail reads.
        budget: largest number of epochs.
        seed: seed of the trial.
        device: ``cpu`` or ``cuda:N``.
        micro: sizes of micro-batches, from an earlier run of the same training if there was one.

    Raises:
        TrainingDiverged: a loss or a probability is no longer a finite number.
    """

    def __init__(
        self,
        recipe: TailRecipe,
        build: BuildTail,
        rows: TrainingRows,
        source: TailRows,
        *,
        budget: int,
        seed: int,
        device: str,
        micro: MicroBatches,
    ) -> None:
        self.recipe, self.build, self.rows, self.source = recipe, build, rows, source
        self.budget, self.device, self.micro = budget, device, micro
        self.inputs = device_rows(source, rows.train.ids.tolist(), torch.device(device))
        self.inputs.want(recipe.view_numbers(rows.tta))
        self.folds = [
            TailFold(recipe, build, rows, k, self.inputs, seed=seed) for k in range(len(rows.folds))
        ]

    def __iter__(self) -> Iterator[Epoch]:
        for number in range(1, self.budget + 1):
            rate = self.recipe.head.rate(number - 1, self.budget)
            fit_loss = np.array([fold.train(number - 1, rate, self.micro) for fold in self.folds])
            val_loss, probabilities = zip(*(fold.validate() for fold in self.folds), strict=True)
            if not all(np.isfinite(values).all() for values in (*probabilities, fit_loss)):
                raise TrainingDiverged(
                    f"epoch {number}: a loss or probability is no longer a number (learning rate "
                    f"{self.recipe.head.learning_rate:.2g}, of the tail "
                    f"{self.recipe.head.learning_rate * self.recipe.tail_rate:.2g})"
                )
            yield Epoch(number, fit_loss, np.array(val_loss), probabilities)

    def fitted(self, *members: int) -> FittedTail:
        """Return a copy of the networks of these folds, with encoders and source for new rows.

        Args:
            members: positions of folds.
        """
        chosen = [self.folds[member] for member in members]
        width = chosen[0].widths.image
        empty = np.zeros((len(chosen), width))
        heads = self.build(
            RandomStreams([0] * len(chosen)), chosen[0].widths, Standardise(empty, empty)
        )
        states = [fold.head.state_dict() for fold in chosen]
        heads.load_state_dict(
            {name: torch.cat([state[name] for state in states]).cpu() for name in states[0]}
        )
        tails = nn.ModuleList(self.source.tail() for _ in chosen)
        for copy, fold in zip(tails, chosen, strict=True):
            copy.load_state_dict(fold.tail.state_dict())
        return FittedTail(
            heads.eval(),
            tails.eval(),
            NetworkColumns.of(self.rows.folds[member].encoder for member in members),
            self.source,
            self.rows.tokens,
            self.device,
            self.rows.tta,
        )

    def delivered(self, fold: int) -> Resampled:
        """Return the rows on which fold number ``fold`` trains."""
        return self.folds[fold].resampled

    def remarks(self) -> Mapping[str, object]:
        """Return the smallest micro-batch and all changes of size; empty if all batches fitted."""
        if self.micro.smallest is None:
            return {}
        return {"micro_batch": self.micro.smallest, CHANGES: [list(c) for c in self.micro.changes]}
