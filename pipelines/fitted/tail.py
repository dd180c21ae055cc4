"""A trained tail with its head: how rows are scored, and how it is kept and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.encoders.frozen import to_grid
from outerfold.pipelines.fitted.head import mean_probability
from outerfold.pipelines.heads.networks import class_logits
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.storage.records import Features, FloatArray

SCORED = 16
"""Rows scored at once; a short batch is filled up, so that a row's numbers do not depend on its
neighbours."""

Products = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, eq=False)
class FittedTail:
    """Networks whose probabilities are averaged, each a tail of the encoder and a head.

    Attributes:
        network: the heads, a stack of one or several, in evaluation mode.
        tails: one a head, in the same order.
        encoder: of clinical columns, fitted on the rows that trained the networks.
        source: where activations of the rows to score lie.
        tokens: whether heads read spatial tokens.
        device: where rows are scored.
        tta: augmented views over which, with the image itself, probabilities are averaged.
    """

    network: nn.Module
    tails: nn.ModuleList
    encoder: TabularColumns
    source: TailRows
    tokens: bool
    device: str = "cpu"
    tta: int = 0

    @property
    def networks(self) -> int:
        """How many are averaged."""
        return len(self.tails)

    def predict(self, features: Features) -> FloatArray:
        """(n, classes) probabilities before calibration; it cannot see a label."""
        device = torch.device(self.device)
        self.network.to(device)
        self.tails.to(device)
        tabular = torch.tensor(self.encoder.transform(features.tabular), dtype=torch.float32)
        scores = [
            mean_probability(views).mean(0).cpu()
            for views in score(
                list(self.tails),
                self.network,
                self.source,
                features.ids.tolist(),
                tabular,
                tokens=self.tokens,
                device=device,
                tta=self.tta,
            )
        ]
        return torch.cat(scores).numpy()

    def state(self) -> Mapping[str, Tensor]:
        """Tensors by name, for ``torch.save``."""
        heads = {f"head.{name}": value for name, value in self.network.state_dict().items()}
        tails = {f"tails.{name}": value for name, value in self.tails.state_dict().items()}
        return {name: value.cpu().contiguous() for name, value in {**heads, **tails}.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``state`` gave."""
        load(state, self.network, self.tails)


def load(state: Mapping[str, Tensor], head: nn.Module, tails: nn.Module) -> None:
    """Give a stack of heads and their tails the weights of ``FittedTail.state``."""
    for part, module in (("head.", head), ("tails.", tails)):
        own = {k[len(part) :]: value for k, value in state.items() if k.startswith(part)}
        module.load_state_dict(own)


def logits_of(
    tails: Sequence[nn.Module],
    head: nn.Module,
    images: Tensor,
    tabular: Tensor,
    mask: Tensor | None,
    *,
    tokens: bool,
    products: Products = nullcontext,
) -> Tensor:
    """(networks, n, classes) of one batch that every network reads.

    Args:
        images: (n, ...) as the tails take them.
        tabular: (n, k) encoded clinical columns.
        mask: (1, n, 1) while training.
        products: the context in which tails multiply; heads always do in float32.
    """
    seen = read_by(tails, images, tokens=tokens, products=products)
    columns = tabular.expand(len(tails), *tabular.shape)
    return class_logits(head(seen, columns, mask))


def read_by(
    tails: Sequence[nn.Module], images: Tensor, *, tokens: bool, products: Products = nullcontext
) -> Tensor:
    """(networks, n, ...) float32, what each head reads of images as the tails take them."""
    return torch.stack([_read(tail, images, tokens, products) for tail in tails])


def _read(tail: nn.Module, images: Tensor, tokens: bool, products: Products) -> Tensor:
    with products():
        pooled, spatial = tail(images)
    read: Tensor = to_grid(spatial) if tokens else pooled
    return read.float()


@torch.inference_mode()
def readings(
    tails: Sequence[nn.Module],
    source: TailRows,
    ids: Sequence[str],
    *,
    tokens: bool,
    device: torch.device,
    view: int = 0,
) -> Iterator[Tensor]:
    """(networks, some rows, ...) what each head reads of one view, by tails in evaluation mode."""
    for start in range(0, len(ids), SCORED):
        names = ids[start : start + SCORED]
        images = filled(source.activations(names, view)).to(device)
        yield read_by(tails, images, tokens=tokens)[:, : len(names)]


@torch.inference_mode()
def score(
    tails: Sequence[nn.Module],
    head: nn.Module,
    source: TailRows,
    ids: Sequence[str],
    tabular: Tensor,
    *,
    tokens: bool,
    device: torch.device,
    tta: int = 0,
) -> Iterator[list[Tensor]]:
    """(networks, some rows, classes) logits, in evaluation mode, of each view that scores."""
    for module in (*tails, head):
        module.eval()
    for start in range(0, len(ids), SCORED):
        names = ids[start : start + SCORED]
        columns = torch.zeros(SCORED, tabular.shape[1])
        columns[: len(names)] = tabular[start : start + SCORED]
        views = []
        for view in scoring_views(tta):
            images = filled(source.activations(names, view)).to(device)
            logits = logits_of(tails, head, images, columns.to(device), None, tokens=tokens)
            views.append(logits[:, : len(names)])
        yield views


def filled(images: NDArray[np.generic]) -> Tensor:
    """A batch of ``SCORED`` images, the missing ones black."""
    whole = np.zeros((SCORED, *images.shape[1:]), images.dtype)
    whole[: len(images)] = images
    return torch.from_numpy(whole)
