"""Rows that a small tail can read, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outerfold.pipelines.encoders import clip_encoder
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.fine_tuned import TailPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.pipelines.training.tails import TailTraining
from tests.factories import WIDTH, ArraySource, make_rows
from tests.pipelines.rows.fold_factories import CLASSES, cut


class SmallTail(nn.Module):
    """A block with batch normalisation over (n, positions, WIDTH), as a tail of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(WIDTH, WIDTH, 1)
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """To (n, WIDTH) and (n, WIDTH, 4, 4)."""
        image = x.float()[..., :WIDTH].transpose(1, 2).unsqueeze(-1)  # (n, WIDTH, positions, 1)
        spatial = image + torch.relu(self.norm(self.conv(image)))
        grid = nn.functional.interpolate(spatial, (4, 4))
        return spatial.mean((2, 3)), grid


@dataclass(frozen=True, eq=False)
class ArrayTailSource(ArraySource):
    """Activations that lie in memory; the tail is a small one."""

    pixels: bool = False

    def activations(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        return self.values[view, self._at(ids)].astype(np.float16)

    def tail(self) -> nn.Module:
        return SmallTail().eval()


def save_clip(
    folder: Path,
    width: int = 32,
    side: int = 32,
    layers: Any = 2,
    vision: int = 64,
    patch: int | None = 8,
) -> Path:
    """The weights of a small random CLIP, for the loader alone: 32 pixels, two layers."""
    from clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(width, side, layers, vision, patch, 8, 20, 64, 1, 1)  # type: ignore[arg-type]
        torch.save(model.state_dict(), folder / "clip.pt")
    return folder / "clip.pt"


def small_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loader take the files of ``save_clip`` for what their names say."""
    monkeypatch.setitem(clip_encoder.TOWERS, "ViT-B/32", clip_encoder.Tower(32, 32, 2, 64, 8))
    resnet = clip_encoder.Tower(16, 64, (1, 1, 1, 1), 8)
    monkeypatch.setitem(clip_encoder.TOWERS, "RN50", resnet)


def with_tail(source: ArraySource) -> ArrayTailSource:
    """The same rows, as a tail reads them."""
    return ArrayTailSource(source.ids, source.values)


def tail_rows(
    task: str = "multimodal",
    *,
    tokens: bool = False,
    folds: Sequence[float] = (0.3, 0.2),
    **rows: Any,
) -> TrainingRows:
    """Rows of a task in folds of unlike sizes."""
    data, source = make_rows(**{"patients": 24, "classes": CLASSES[task], **rows})
    return TrainingRows(data, cut(data, folds), with_tail(source), tokens=tokens, seed=5)


def tail_pipeline(task: str = "multimodal", *, micro: Any = (), **changes: Any) -> TailPipeline:
    """A configuration in which every part of training has something to do."""
    kind = DbtPipeline if task == "dbt" else MultimodalPipeline
    chosen = {
        "learning_rate": 3e-3,
        "dropout": 0.3,
        "focal_gamma": 2.0,
        "sampler": "over",
        "attention": False,
        "batch_size": 16,
        "ens_beta": 0.9,
        "label_smoothing": 0.1,
        "augmented_views": 2,
    }
    return TailPipeline(kind(**{**chosen, **changes}), 0.3, micro=micro)


def begin(
    rows: TrainingRows, task: str = "multimodal", *, seed: int = 3, **changes: Any
) -> TailTraining:
    """A training of two epochs at most."""
    return tail_pipeline(task, **changes).start(rows, budget=2, seed=seed, device="cpu")
