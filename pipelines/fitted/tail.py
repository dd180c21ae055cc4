"""Trained tails with their heads: prediction for new rows, and weights as tensors.

*Readings* are the inputs that heads read: pooled vectors or spatial tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.encoders.frozen import to_grid
from outerfold.pipelines.fitted.head import mean_probability
from outerfold.pipelines.heads.networks import class_logits
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.storage.records import Features, FloatArray

SCORED = 16
"""Number of rows scored at once; a shorter batch is padded to this size, so that the values of a
row do not depend on the other rows."""
SCORED_ON_GPU = 128
"""The same number on a GPU, which takes little longer for these than for 16."""

ReadView = Callable[[Sequence[str], int], Tensor]
"""Function that returns the inputs (n, ...) of a tail for n rows and the number of a view."""
Products = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, eq=False)
class FittedTail:
    """Networks whose probabilities are averaged; each is a tail of the encoder and a head.

    Attributes:
        network: stack of one or more heads in evaluation mode.
        tails: one tail for each head, in the same order.
        columns: encoders of the clinical columns, fitted on the rows that trained the networks.
        source: source of the activations of the rows to score.
        tokens: whether heads read spatial tokens.
        device: device on which rows are scored.
        tta: number of augmented views; probabilities are averaged over them and the image itself.
    """

    network: nn.Module
    tails: nn.ModuleList
    columns: NetworkColumns
    source: TailRows
    tokens: bool
    device: str = "cpu"
    tta: int = 0

    @property
    def networks(self) -> int:
        """Number of networks whose probabilities are averaged."""
        return len(self.tails)

    def predict(self, features: Features) -> FloatArray:
        """Return probabilities (n, classes) before calibration; ``features`` hold no label."""
        mean: FloatArray = self.predict_each(features).mean(0)
        return mean

    def predict_each(self, features: Features) -> FloatArray:
        """Return probabilities (networks, n, classes) of each network, before calibration."""
        device = torch.device(self.device)
        self.network.to(device)
        self.tails.to(device)
        tabular = torch.tensor(self.columns.transform(features.tabular), dtype=torch.float32)
        scores = [
            mean_probability(views).cpu()
            for views in score(
                list(self.tails),
                self.network,
                partial(read_view, self.source),
                features.ids.tolist(),
                tabular,
                tokens=self.tokens,
                device=device,
                tta=self.tta,
            )
        ]
        return torch.cat(scores, 1).numpy()

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights as tensors by name, for ``torch.save``."""
        heads = {f"head.{name}": value for name, value in self.network.state_dict().items()}
        tails = {f"tails.{name}": value for name, value in self.tails.state_dict().items()}
        return {name: value.cpu().contiguous() for name, value in {**heads, **tails}.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights to those that another model's ``state`` returned."""
        load(state, self.network, self.tails)


def load(state: Mapping[str, Tensor], head: nn.Module, tails: nn.Module) -> None:
    """Load the weights of ``FittedTail.state`` into a stack of heads and its tails."""
    for part, module in (("head.", head), ("tails.", tails)):
        own = {k[len(part) :]: value for k, value in state.items() if k.startswith(part)}
        module.load_state_dict(own)


def compute_logits(
    tails: Sequence[nn.Module],
    head: nn.Module,
    images: Tensor,
    tabular: Tensor,
    mask: Tensor | None,
    *,
    tokens: bool,
    products: Products = nullcontext,
) -> Tensor:
    """Logits (networks, n, classes) of one batch, which every network reads.

    Args:
        tails: one tail for each network.
        head: stack of heads, one for each network.
        images: (n, ...) inputs of the tails.
        tabular: (networks or 1, n, k) encoded clinical columns.
        mask: (1, n, 1) while training, 1 for a row and 0 for padding; None when predicting.
        tokens: whether heads read spatial tokens.
        products: context in which tails compute products; heads always compute in float32.
    """
    seen = apply_tails(tails, images, tokens=tokens, products=products)
    columns = tabular.expand(len(tails), *tabular.shape[1:])
    return class_logits(head(seen, columns, mask))


def apply_tails(
    tails: Sequence[nn.Module], images: Tensor, *, tokens: bool, products: Products = nullcontext
) -> Tensor:
    """Readings (networks, n, ...) of ``images (n, ...)`` in float32, one entry for each tail."""
    return torch.stack([_apply_tail(tail, images, tokens, products) for tail in tails])


def _apply_tail(tail: nn.Module, images: Tensor, tokens: bool, products: Products) -> Tensor:
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
    """Yield readings (networks, k, ...) of one view, for at most ``SCORED`` rows at a time.

    Args:
        tails: one tail for each network, in evaluation mode.
        source: source of the activations.
        ids: rows to read.
        tokens: whether heads read spatial tokens.
        device: device of the tails.
        view: number of the view; 0 is the image itself.
    """
    for start in range(0, len(ids), SCORED):
        names = ids[start : start + SCORED]
        images = pad_batch(source.activations(names, view)).to(device)
        yield apply_tails(tails, images, tokens=tokens)[:, : len(names)]


@torch.inference_mode()
def score(
    tails: Sequence[nn.Module],
    head: nn.Module,
    read: ReadView,
    ids: Sequence[str],
    tabular: Tensor,
    *,
    tokens: bool,
    device: torch.device,
    tta: int = 0,
) -> Iterator[list[Tensor]]:
    """Yield the logits (networks, k, classes) of each scoring view, k rows at a time.

    It puts the tails and the head in evaluation mode.

    Args:
        tails: one tail for each network.
        head: stack of heads, one for each network.
        read: reads the inputs of the tails.
        ids: n rows to score.
        tabular: (networks or 1, n, k) encoded clinical columns.
        tokens: whether heads read spatial tokens.
        device: device of tails and head.
        tta: number of augmented views besides the image itself.
    """
    for module in (*tails, head):
        module.eval()
    size = SCORED if device.type == "cpu" else SCORED_ON_GPU
    for start in range(0, len(ids), size):
        names = ids[start : start + size]
        columns = torch.zeros(len(tabular), size, tabular.shape[2])
        columns[:, : len(names)] = tabular[:, start : start + size]
        views = []
        for view in scoring_views(tta):
            images = pad_rows(read(names, view), size).to(device)
            logits = compute_logits(tails, head, images, columns.to(device), None, tokens=tokens)
            views.append(logits[:, : len(names)])
        yield views


def read_view(source: TailRows, ids: Sequence[str], view: int) -> Tensor:
    """Read the inputs (n, ...) of a tail for n rows; see ``ReadView``."""
    return torch.from_numpy(np.ascontiguousarray(source.activations(ids, view)))


def pad_rows(images: Tensor, size: int) -> Tensor:
    """Pad inputs (n, ...) with zeros to ``size`` rows, on their device."""
    whole = torch.zeros(size, *images.shape[1:], dtype=images.dtype, device=images.device)
    whole[: len(images)] = images
    return whole


def pad_batch(images: NDArray[np.generic]) -> Tensor:
    """Pad images (n, ...) with black ones to a batch of ``SCORED``."""
    whole = np.zeros((SCORED, *images.shape[1:]), images.dtype)
    whole[: len(images)] = images
    return torch.from_numpy(whole)
