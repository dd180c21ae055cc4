"""Heat maps of one image for a fold's model: Grad-CAM, attention roll-out, pooling weights."""

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
"""Multiple of an even share at which a heat map is hottest (unless its peak is higher). A scale up
to the peak of each map would show rounding errors as hot spots."""


class MapTrunk(Protocol):
    """Trunk that pools its last map."""

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images (n, 3, s, s), in the model's own shape."""

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim)."""

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map (n, channels, h, w)."""


@dataclass(frozen=True, eq=False)
class Heat:
    """Heat map of one image.

    Attributes:
        shares: (s, s) at the size of the encoder's input, in [0, 1]. For Grad-CAM it is the value
            divided by the map's maximum. For weights it is 0 up to an even share and 1 at
            ``TWICE`` an even share or at the peak, whichever is larger, so even weights give no
            hot spot.
        method: ``GRAD_CAM``, ``ROLL_OUT`` or ``POOLING``.
        peak: for weights, the largest weight divided by an even share; None for Grad-CAM.
        probabilities: (classes,) calibrated, computed from the pixels of all scoring views.
    """

    shares: NDArray[np.float32]
    method: str
    peak: float | None
    probabilities: FloatArray


def method_of(encoder: FrozenEncoder, *, tokens: bool) -> str:
    """Return the method for this encoder and for heads that read tokens or pooled vectors."""
    if rolls_out(encoder):
        return ROLL_OUT
    return POOLING if tokens else GRAD_CAM


def check_method(method: str) -> None:
    """Check that the package which a method needs is installed.

    Raises:
        DataError: it is not installed.
    """
    if method == GRAD_CAM:
        _import_grad_cam()


def heat_of(
    encoder: FrozenEncoder,
    model: FoldModel,
    squares: NDArray[np.uint8],
    tabular: FloatArray,
    *,
    target: int,
) -> Heat:
    """Compute the heat map of one image for a class; the map is that of view 0, the image itself.

    Args:
        encoder: the pretrained encoder.
        model: model of the fold.
        squares: (views, s, s, 3) 8-bit input of the encoder, then the augmented views over which
            the model averages.
        tabular: (networks or 1, k) encoded columns of the row.
        target: index of the class whose log-odds are explained; only Grad-CAM depends on it.

    Raises:
        DataError: the encoder has no map for Grad-CAM, or grad-cam is not installed.
    """
    method = method_of(encoder, tokens=model.tokens)
    found = model.readings_of(encoder, squares)
    scores = model.probabilities(found, tabular[:, None])[0]
    image = Untouched.of(encoder, model, squares[0])
    if method == GRAD_CAM:
        return Heat(_compute_grad_cam(image, model.network, tabular, target), method, None, scores)
    weights = pooling_weights(model, found[0]) if model.tokens else None
    if method == ROLL_OUT:
        map_ = image.rolled_out(weights)[0]
    else:
        assert weights is not None
        map_ = weights.mean(dim=0)[0].reshape(TOKEN_GRID, TOKEN_GRID)
    peak = float(map_.max()) * map_.numel()
    shares = _scale_shares(map_ * map_.numel(), peak, encoder.image_size)
    return Heat(shares, method, peak, scores)


@torch.inference_mode()
def pooling_weights(model: FoldModel, tokens: np.ndarray) -> Tensor:
    """Weights (networks, n, t) of the spatial tokens, mean over attention heads; they sum to 1.

    Args:
        model: model of the fold.
        tokens: (networks or 1, n, t, width).

    Raises:
        TypeError: the network does not pool tokens by attention.
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
    """Untouched image, which is view 0, and the networks between it and the heads.

    Attributes:
        x: (1, 3, s, s) normalised image.
        trunk: the whole frozen encoder; with ``tails`` the frozen part before them, or None.
        tails: trained tails, one for each network; empty where the encoder is frozen.
        taken: (1, ...) input of the tails; ``x`` without tails.
    """

    x: Tensor
    trunk: FrozenEncoder | None
    tails: tuple[Tail, ...]
    taken: Tensor

    @classmethod
    def of(cls, encoder: FrozenEncoder, model: FoldModel, square: NDArray[np.uint8]) -> Untouched:
        """Prepare the image with this 8-bit square (s, s, 3)."""
        x = encoder.normalised(square[None])
        if model.tails is None:
            return cls(x, encoder, (), x)
        tails: tuple[Tail, ...] = tuple(model.tails.each)  # type: ignore[arg-type]
        return cls(x, model.tails.trunk, tails, model.tails.taken(square[None]))

    @property
    def ends(self) -> Sequence[MapTrunk]:
        """Modules that give the last map: one for all networks, or one for each."""
        if self.tails:
            return self.tails
        assert self.trunk is not None
        return [self.trunk.trunk]  # type: ignore[list-item]

    def rolled_out(self, weights: Tensor | None) -> Tensor:
        """Compute shares of patches (1, h, w) by attention roll-out.

        Args:
            weights: ``pooling_weights`` where heads read tokens; else None.
        """
        if self.tails:
            return tail_shares(self.trunk, self.tails, self.x, self.taken, weights)
        assert self.trunk is not None
        mean = None if weights is None else weights.mean(dim=0)
        return patch_shares(self.trunk, self.x, mean)


class _LogOdds:
    """Target of Grad-CAM: the log-odds of one class, from log-probabilities (classes,)."""

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, logs: Tensor) -> Tensor:
        rest = torch.cat([logs[: self.target], logs[self.target + 1 :]])
        return logs[self.target] - torch.logsumexp(rest, dim=0)


class _ImageToScore(nn.Module):
    """Module from one image to the heads' log-probabilities; Grad-CAM observes its last map."""

    def __init__(self, image: Untouched, head: nn.Module, columns: Tensor) -> None:
        super().__init__()
        self.head, self.last_map = head, nn.Identity()
        self.image, self.columns = image, columns

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities (1, classes); Grad-CAM takes only the map's size from ``x``."""
        ends = self.image.ends
        with torch.no_grad():
            features = torch.cat([end.features(self.image.taken) for end in ends])
        if features.ndim != 4:
            raise DataError(
                "explain: this encoder's patches are neither a map for Grad-CAM nor processed by "
                "plain attention that could be rolled out; choose another encoder"
            )
        features = self.last_map(features.detach().requires_grad_())
        pooled = [end.pool(one[None]) for end, one in zip(ends, features, strict=True)]
        return log_probabilities(self.head, torch.stack(pooled)[None], self.columns)

    def map(self, features: Tensor) -> Tensor:
        """Join the maps of all ends as channels of one map, (1, ends * channels, h, w)."""
        return self.image.ends[0].map(features).flatten(0, 1)[None]


def _compute_grad_cam(
    image: Untouched, head: nn.Module, tabular: FloatArray, target: int
) -> NDArray[np.float32]:
    """Grad-CAM heat map (s, s) in [0, 1].

    Networks that share a map share its gradient. Where each network has its own map, the maps are
    the channels of one joint map; if all tails are equal, the result is the same.
    """
    grad_cam = _import_grad_cam()
    whole = _ImageToScore(image, head, torch.tensor(tabular[:, None]).float())
    with torch.enable_grad(), grad_cam(whole, [whole.last_map], whole.map) as cam:
        shares = cam(input_tensor=image.x, targets=[_LogOdds(target)])[0]
    return np.asarray(np.clip(shares, 0.0, 1.0), dtype=np.float32)


def _scale_shares(times: Tensor, peak: float, side: int) -> NDArray[np.float32]:
    """Scale multiples of an even share (h, w) to a heat map (side, side) in [0, 1]."""
    wide = functional.interpolate(
        times[None, None].float(), (side, side), mode="bilinear", align_corners=False
    )[0, 0]
    shares = ((wide - 1) / (max(peak, TWICE) - 1)).clamp(0, 1)
    return np.asarray(shares.cpu().numpy(), dtype=np.float32)


def _import_grad_cam() -> type:
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise DataError(
            "explain: heat maps of this encoder need the package grad-cam; install it with: "
            "pip install 'outerfold[explain]'"
        ) from error
    found: type = GradCAM
    return found
