"""Other statistics of the heads' batch normalisation, put in place of the project's for a while."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from outerfold.pipelines.heads import mlp_gradients, stacked
from outerfold.pipelines.training.heads import StackedTraining


@contextmanager
def constant_momentum() -> Iterator[None]:
    """Running statistics as they were before their start was corrected."""
    with _momentum(lambda steps: torch.full_like(steps, stacked.BATCH_NORM_MOMENTUM)):
        yield


@contextmanager
def computed_anew(real: bool) -> Iterator[None]:
    """Statistics over one more pass, without dropout, at the end of every epoch.

    Args:
        real: whether the pass is over the training rows as they are, else over those that the
            sampler delivers.
    """
    own = StackedTraining._validate

    def validate(training: StackedTraining) -> Any:
        norms = [m for m in training.network.modules() if isinstance(m, stacked.BatchNorm)]
        counts = [norm.steps.clone() for norm in norms]
        for norm in norms:
            norm.steps.zero_()
        training.network.eval()  # no dropout; a mask makes batch normalisation use the rows
        with _momentum(lambda steps: 1 / steps), torch.no_grad():
            for images, tabular, mask in _passes(training, real):
                training.network(images, tabular, mask)
        for norm, steps in zip(norms, counts, strict=True):
            norm.steps.copy_(steps)
        return own(training)

    try:
        StackedTraining._validate = validate  # type: ignore[method-assign]
        yield
    finally:
        StackedTraining._validate = own  # type: ignore[method-assign]


STATISTICS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "constant momentum": constant_momentum,
    "corrected for the start": nullcontext,
    "anew over the real rows": lambda: computed_anew(real=True),
    "anew over the sampler's rows": lambda: computed_anew(real=False),
}
"""Ways to get the statistics that a network is scored with; the second is the project's own."""


@contextmanager
def _momentum(weight: Callable[[Tensor], Tensor]) -> Iterator[None]:
    own = stacked.running_momentum
    try:
        stacked.running_momentum = mlp_gradients.running_momentum = weight
        yield
    finally:
        stacked.running_momentum = mlp_gradients.running_momentum = own


def _passes(training: StackedTraining, real: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images, columns and masks (folds, rows, ...) of one pass."""
    if not real:  # a copy, so that the training draws what it would have drawn
        for batch in copy.deepcopy(training.batches).epoch():
            yield batch.images, batch.tabular, batch.mask
        return
    folds, bank = training.rows.folds, training.rows.images
    most = max(len(fold.fit) for fold in folds)
    images = torch.zeros(len(folds), most, bank.shape[-1])
    tabular = torch.zeros(len(folds), most, folds[0].tabular.shape[1])
    mask = torch.zeros(len(folds), most, 1)
    for k, fold in enumerate(folds):
        n = len(fold.fit)
        images[k, :n] = torch.tensor(bank[fold.fit])
        tabular[k, :n] = torch.tensor(fold.tabular[fold.fit])
        mask[k, :n] = 1
    yield images, tabular, mask
