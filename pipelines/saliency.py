"""Where in an image a fold's score is sensitive: Grad-CAM, attention roll-out, pooling weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipelines.encoders._base import TOKEN_GRID
from pipelines.encoders.frozen import FrozenEncoder
from pipelines.explained import FoldModel, log_probabilities
from pipelines.networks import AttentionPool, Standardise
from pipelines.rollout import patch_shares, rolls_out
from storage.records import DataError, FloatArray

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
        probabilities: (classes,) calibrated, computed from the pixels on the way.
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
    encoder: FrozenEncoder, model: FoldModel, square: NDArray[np.uint8], tabular: FloatArray,
    *, target: int,
) -> Heat:  # fmt: skip
    """Where one image's score for a class is sensitive.

    Args:
        square: (s, s, 3), as the encoder takes it.
        tabular: (k,) the row's encoded columns.
        target: index of the class whose log-odds are followed; only Grad-CAM depends on it.
    """
    method = method_of(encoder, tokens=model.tokens)
    x = encoder.normalised(square[None])
    columns = torch.tensor(tabular[None]).float()
    if method == GRAD_CAM:
        shares, logs = _class_map(encoder.trunk, model.network, x, columns, target)
        scores = model.decision.calibrate(np.exp(logs))
        return Heat(shares, method, None, scores[0])
    encoded = encoder.encode(square[None])
    images = encoded.tokens if model.tokens else encoded.pooled
    scores = model.probabilities(images, tabular[None])
    weights = pooling_weights(model, images) if model.tokens else None
    if method == ROLL_OUT:
        map_ = patch_shares(encoder.trunk, x, weights)[0]
    else:
        assert weights is not None
        map_ = weights[0].reshape(TOKEN_GRID, TOKEN_GRID)
    peak = float(map_.max()) * map_.numel()
    shares = _above_even(map_ * map_.numel(), peak, encoder.image_size)
    return Heat(shares, method, peak, scores[0])


@torch.inference_mode()
def pooling_weights(model: FoldModel, tokens: np.ndarray) -> Tensor:
    """(n, t) mean over heads and networks of what each spatial token is given; sums to 1."""
    pool, scaler = model.network.pool, model.network.scaler
    if not (isinstance(pool, AttentionPool) and isinstance(scaler, Standardise)):
        raise TypeError(f"{type(model.network).__name__} does not pool its tokens by attention")
    networks = len(scaler.scale)
    rows = torch.tensor(tokens).float().to(scaler.scale.device)
    weights = pool.weights(rows.expand(networks, *rows.shape).contiguous(), scaler.scale)
    return weights.mean(dim=-1).reshape(networks, *rows.shape[:2]).mean(dim=0)


class _LogOdds:
    """Grad-CAM's target: the log-odds of one class, from log-probabilities (classes,)."""

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, logs: Tensor) -> Tensor:
        rest = torch.cat([logs[: self.target], logs[self.target + 1 :]])
        return logs[self.target] - torch.logsumexp(rest, dim=0)


class _Whole(nn.Module):
    """Frozen trunk and head as one module whose last map can be listened to."""

    def __init__(self, trunk: MapTrunk, head: nn.Module, columns: Tensor) -> None:
        super().__init__()
        self.head, self.last_map = head, nn.Identity()
        self.trunk = trunk
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.trunk.features(x)
        if features.ndim != 4:
            raise DataError(
                "explain: this encoder's patches are neither a map for Grad-CAM nor seen by plain "
                "attention that could be rolled out; choose another encoder"
            )
        features = self.last_map(features.detach().requires_grad_())
        return log_probabilities(self.head, self.trunk.pool(features), self.columns)


def _class_map(
    trunk: nn.Module, head: nn.Module, x: Tensor, columns: Tensor, target: int
) -> tuple[NDArray[np.float32], FloatArray]:
    grad_cam = _grad_cam()
    whole = _Whole(trunk, head, columns)  # type: ignore[arg-type]
    with torch.enable_grad(), grad_cam(whole, [whole.last_map], trunk.map) as cam:
        shares = cam(input_tensor=x, targets=[_LogOdds(target)])[0]
        logs = cam.outputs.detach().cpu().numpy()
    return np.clip(shares, 0.0, 1.0).astype(np.float32), np.asarray(logs, dtype=np.float64)


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
