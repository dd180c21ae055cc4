"""Untrained models to be explained, and what every heat map is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from outerfold.pipelines.explain.fold_model import FoldModel
from outerfold.pipelines.explain.saliency import GRAD_CAM, Heat
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.heads.networks import EmbeddingMLP, Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.tabular import NetworkColumns, TabularColumns

NO_COLUMNS = np.zeros((1, 0))


def head_of(width: int, *, tokens: bool, networks: int = 2, classes: int = 3) -> FoldModel:
    """Untrained networks whose attention, if any, does not look everywhere alike."""
    scaler = Standardise(np.zeros((networks, width)), np.ones((networks, width)))
    streams = RandomStreams(range(networks))
    network = EmbeddingMLP(streams, Widths(width, tokens, 0, classes), scaler, dropout=0.1).eval()
    if network.pool is not None:
        torch.nn.init.normal_(network.pool.query, generator=torch.Generator().manual_seed(1))
    return FoldModel(
        network,
        NetworkColumns((TabularColumns(()),)),
        np.zeros((1, 0)),
        Decision(1.3, None),
        tokens,
    )


def square(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def sound(heat: Heat, side: int) -> None:
    assert heat.shares.shape == (side, side)
    assert np.isfinite(heat.shares).all()
    assert heat.shares.min() >= 0
    assert heat.shares.max() <= 1
    if heat.method == GRAD_CAM:
        assert heat.shares.max() == pytest.approx(1.0, abs=1e-3)
    assert heat.probabilities.sum() == pytest.approx(1.0)
