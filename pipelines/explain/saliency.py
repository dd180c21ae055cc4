"""Where in an image a fold's score is sensitive: Grad-CAM, attention roll-out, pooling weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from outerfold.pipelines.encoders._base import TOKEN_GRID
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.explain.fold_model import FoldModel, log_probabilities
from outerfold.pipelines.explain.rollout import patch_shares, rolls_out, tail_shares
from outerfold.pipelines.heads.networks import AttentionPool, Standardise
from outerfold.storage.records import DataError, FloatArray

GRAD_CAM = "Grad-CAM"
ROLL_OUT = "attention roll-out"
POOLING = "attention pooling"
TWICE = 2.0
"""Times an even share; a scale up to each map's own peak would show rounding as a hot spot."""


class MapTrunk(Protocol):
    """A trunk whose pooled vector is made of its last map."""

    def features(self, x: Tensor) -> Tensor:
        """Images (n, 3, s, s) to features in the model's own shape."""

    def pool(self, features: Tensor) -> Tensor:
        """Those features to (n, dim)."""

    def map(self, features: Tensor) -> Tensor:
        """Those features to (n, channels, h, w)."""


@dataclass(frozen=True, eq=False)
class Heat:
    """One image's heat map.

    Attributes:
        shares: (s, s) at the size the encoder sees, in [0, 1]. Of Grad-CAM the part of the map's
            own maximum; of weights 0 for an even share or less, 1 for ``TWICE`` as much or, where
            that is more, for the peak: weights that are even everywhere are hot nowhere.
        method: ``GRAD_CAM``, ``ROLL_OUT`` or ``POOLING``.
        peak: of weights, the largest over what an even share would be; None for Grad-CAM.
        probabilities: (classes,) calibrated, computed from the pixels of all views.
    """

    shares: NDArray[np.float32]
    method: str
    peak: float | None
    probabilities: FloatArray


def method_of(encoder: FrozenEncoder, *, tokens: bool) -> str:
    """How an image is explained: by what its encoder is and what the head reads of it."""
    if rolls_out(encoder.trunk):
        return ROLL_OUT
    return POOLING if tokens else GRAD_CAM


def require(method: str) -> None:
    """``DataError`` where a method needs a package that is not installed."""
    if method == GRAD_CAM:
        _grad_cam()


def heat_of(
    encoder: FrozenEncoder,
    model: FoldModel,
    squares: NDArray[np.uint8],
    tabular: FloatArray,
    *,
    target: int,
) -> Heat:
    """Where one image's score for a class is sensitive, as an untouched image.

    Args:
        encoder: the pretrained one.
        squares: (views, s, s, 3), the image as the encoder takes it, then the augmented views
            over which the model averages.
        tabular: (k,) the row's encoded columns.
        target: index of the class whose log-odds are followed; only Grad-CAM depends on it.
    """
    method = method_of(encoder, tokens=model.tokens)
    found = model.readings_of(encoder, squares)
    scores = model.probabilities(found, tabular[None])[0]
    image = Untouched.of(encoder, model, squares[0])
    if method == GRAD_CAM:
        return Heat(_class_map(image, model.network, tabular, target), method, None, scores)
    weights = pooling_weights(model, found[0]) if model.tokens else None
    if method == ROLL_OUT:
        map_ = image.rolled_out(weights)[0]
    else:
        assert weights is not None
        map_ = weights.mean(dim=0)[0].reshape(TOKEN_GRID, TOKEN_GRID)
    peak = float(map_.max()) * map_.numel()
    shares = _above_even(map_ * map_.numel(), peak, encoder.image_size)
    return Heat(shares, method, peak, scores)


@torch.inference_mode()
def pooling_weights(model: FoldModel, tokens: np.ndarray) -> Tensor:
    """(networks, n, t) mean over heads of what each spatial token is given; sums to 1.

    Args:
        tokens: (networks or 1, n, t, width).
    """
    pool, scaler = model.network.pool, model.network.scaler
    if not (isinstance(pool, AttentionPool) and isinstance(scaler, Standardise)):
        raise TypeError(f"{type(model.network).__name__} does not pool its tokens by attention")
    rows = torch.tensor(tokens).float().to(scaler.scale.device)
    rows = rows.expand(model.networks, *rows.shape[1:]).contiguous()
    weights = pool.weights(rows, scaler.scale)
    return weights.mean(dim=-1).reshape(rows.shape[:3])


@dataclass(frozen=True, eq=False)
class Untouched:
    """An image on its way to the heads.

    Attributes:
        x: (1, 3, s, s), normalised.
        trunk: the whole frozen encoder; of ``tails`` the frozen part, if any.
        tails: trained ends, one a network; none where the encoder is frozen.
        taken: what the tails take of the image, or ``x``.
    """

    x: Tensor
    trunk: FrozenEncoder | None
    tails: tuple[Tail, ...]
    taken: Tensor

    @classmethod
    def of(cls, encoder: FrozenEncoder, model: FoldModel, square: NDArray[np.uint8]) -> Untouched:
        """Of its square (s, s, 3)."""
        x = encoder.normalised(square[None])
        if model.tails is None:
            return cls(x, encoder, (), x)
        tails: tuple[Tail, ...] = tuple(model.tails.each)  # type: ignore[arg-type]
        return cls(x, model.tails.trunk, tails, model.tails.taken(square[None]))

    @property
    def ends(self) -> Sequence[MapTrunk]:
        """What gives the last map: one for all networks, or one each."""
        if self.tails:
            return self.tails
        assert self.trunk is not None
        return [self.trunk.trunk]  # type: ignore[list-item]

    def rolled_out(self, weights: Tensor | None) -> Tensor:
        """Shares of patches (1, h, w); see ``pooling_weights`` for the weights."""
        if self.tails:
            return tail_shares(self.trunk, self.tails, self.x, self.taken, weights)
        assert self.trunk is not None
        mean = None if weights is None else weights.mean(dim=0)
        return patch_shares(self.trunk.trunk, self.x, mean)


class _LogOdds:
    """Grad-CAM's target: the log-odds of one class, from log-probabilities (classes,)."""

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, logs: Tensor) -> Tensor:
        rest = torch.cat([logs[: self.target], logs[self.target + 1 :]])
        return logs[self.target] - torch.logsumexp(rest, dim=0)


class _Whole(nn.Module):
    """From one image to the heads' score, as one module whose last map can be listened to."""

    def __init__(self, image: Untouched, head: nn.Module, columns: Tensor) -> None:
        super().__init__()
        self.head, self.last_map = head, nn.Identity()
        self.image, self.columns = image, columns

    def forward(self, x: Tensor) -> Tensor:
        """(1, classes); ``x`` says how large the map is to be drawn."""
        ends = self.image.ends
        with torch.no_grad():
            features = torch.cat([end.features(self.image.taken) for end in ends])
        if features.ndim != 4:
            raise DataError(
                "explain: this encoder's patches are neither a map for Grad-CAM nor seen by plain "
                "attention that could be rolled out; choose another encoder"
            )
        features = self.last_map(features.detach().requires_grad_())
        pooled = [end.pool(one[None]) for end, one in zip(ends, features, strict=True)]
        return log_probabilities(self.head, torch.stack(pooled)[None], self.columns)

    def map(self, features: Tensor) -> Tensor:
        """The maps of all ends as the channels of one, (1, ends * channels, h, w)."""
        return self.image.ends[0].map(features).flatten(0, 1)[None]


def _class_map(
    image: Untouched, head: nn.Module, tabular: FloatArray, target: int
) -> NDArray[np.float32]:
    """(s, s) in [0, 1].

    Networks that share a map share its gradient; where each has its own, they are the channels of
    one map, which is the same where tails are alike.
    """
    grad_cam = _grad_cam()
    whole = _Whole(image, head, torch.tensor(tabular[None]).float())
    with torch.enable_grad(), grad_cam(whole, [whole.last_map], whole.map) as cam:
        shares = cam(input_tensor=image.x, targets=[_LogOdds(target)])[0]
    return np.asarray(np.clip(shares, 0.0, 1.0), dtype=np.float32)


def _above_even(times: Tensor, peak: float, side: int) -> NDArray[np.float32]:
    """(side, side) in [0, 1] from (h, w) multiples of an even share."""
    wide = functional.interpolate(
        times[None, None].float(), (side, side), mode="bilinear", align_corners=False
    )[0, 0]
    shares = ((wide - 1) / (max(peak, TWICE) - 1)).clamp(0, 1)
    return np.asarray(shares.cpu().numpy(), dtype=np.float32)


def _grad_cam() -> type:
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise DataError(
            "explain: heat maps of this encoder need the package grad-cam; install it with: "
            "pip install 'outerfold[explain]'"
        ) from error
    found: type = GradCAM
    return found
