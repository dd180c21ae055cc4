"""The model of one study, read back from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outerfold.pipelines._base import Fitted, Pipeline
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.fitted.head import FittedHead
from outerfold.pipelines.fitted.tail import FittedTail, load
from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.images.activations import TrunkSource
from outerfold.pipelines.rows.tabular import FittedColumn, TabularColumns
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.pipelines.saved.files import PREPROCESSING
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.storage.cache.files import read_json
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import (
    Column,
    DataError,
    Features,
    FloatArray,
)
from outerfold.storage.runs.folder import RunFolder

PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "dbt": DbtPipeline,
    "multimodal": MultimodalPipeline,
}


@dataclass(frozen=True)
class Origin:
    """The pretrained encoder that a model reads images by.

    Attributes:
        weights: file it was built from; empty for its own.
        framing: how images came to fill its square.
    """

    name: str
    weights: str
    weights_sha256: str
    framing: Framing

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Origin:
        """What a card (``outerfold.pipelines.saved.files.encoder_card``) names."""
        framing = Framing(card["fit"], card["crop"])
        return cls(card["name"], card["weights"], card["weights_sha256"], framing)

    def built(self) -> Encoder:
        """The very encoder.

        Raises:
            DataError: its weights cannot be had, or are others by now.
        """
        weights = Path(self.weights) if self.weights else None
        encoder = build(self.name, weights=weights, framing=self.framing)
        if encoder.weights_sha256 != self.weights_sha256:
            raise DataError(
                f"{self.name}: the weights here have SHA-256 {encoder.weights_sha256[:12]}..., the "
                f"model was trained on {self.weights_sha256[:12]}...; give it those"
            )
        return encoder


@dataclass(frozen=True, eq=False)
class Member:
    """The model of one study, without its data.

    Attributes:
        decision: with the study's own temperature, shift and threshold.
        tails: weights of heads and tails, where blocks of the encoder were trained; else empty.
        origin: what it reads images by.
    """

    network: torch.nn.Module
    columns: TabularColumns
    tokens: bool
    tta: int
    decision: Decision
    tails: Mapping[str, torch.Tensor]
    origin: Origin

    def calibrated(self, features: Features, source: ImageSource) -> FloatArray:
        """Calibrated probabilities (n, classes)."""
        return self.decision.calibrate(self._fitted(source).predict(features))

    def _fitted(self, source: ImageSource) -> Fitted:
        if not self.tails:
            return FittedHead(self.network, self.columns, source, self.tokens, self.tta)
        assert isinstance(source, TrunkSource)
        tails = self.tails_like(source.tail())
        return FittedTail(self.network, tails, self.columns, source, self.tokens, tta=self.tta)

    def tails_like(self, pretrained: torch.nn.Module) -> torch.nn.ModuleList:
        """The trained tails, one a network, in evaluation mode; the heads get their weights too."""
        networks = len(next(self.network.parameters()))
        tails = torch.nn.ModuleList(deepcopy(pretrained) for _ in range(networks)).eval()
        load(self.tails, self.network, tails)
        return tails


def read_preprocessing(folder: RunFolder, study: str) -> dict[str, Any]:
    """``preprocessing.json`` of one finished study.

    Raises:
        DataError: it or the weights are gone.
    """
    path = folder.study(study)
    for name in (PREPROCESSING, "model.pt"):
        if not (path / name).exists():
            raise DataError(
                f"{path / name}: is not there, and the study's model cannot be had without it; "
                "run the study again with this version"
            )
    found: dict[str, Any] = read_json(path / PREPROCESSING)
    return found


def read_member(folder: RunFolder, study: str) -> Member:
    """The model that one finished study kept.

    Raises:
        DataError: it is gone, or another version's.
    """
    path, kept = folder.study(study), read_preprocessing(folder, study)
    state = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
    try:
        return member_of(kept, state)
    except (RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: its model is not what {PREPROCESSING} says ({reason}); run the study again "
            "with this version"
        ) from None


def _column(kept: dict[str, Any]) -> FittedColumn:
    column = Column(**{**kept["column"], "levels": tuple(kept["column"]["levels"])})
    return replace(
        FittedColumn(column, kept["fill"]),
        **{
            "mean": kept["mean"],
            "scale": kept["scale"],
            "known": tuple(kept["known"]),
        },
    )


def member_of(kept: dict[str, Any], state: Mapping[str, torch.Tensor]) -> Member:
    """From the contents of ``preprocessing.json`` and the weights beside it."""
    columns = TabularColumns(tuple(_column(column) for column in kept["columns"]))
    decision = Decision(kept["temperature"], kept["threshold"], kept["shift"])
    tails = state if kept.get("trainable_blocks", 0) else {}
    network = _network(kept, columns, {} if tails else state)
    return Member(
        network, columns, kept["tokens"], kept["tta"], decision, tails, Origin.of(kept["encoder"])
    )


def _network(
    kept: dict[str, Any], columns: TabularColumns, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """The heads; untrained where ``state`` is empty."""
    width = kept["image_width"]
    widths = Widths(width, kept["tokens"], columns.width, len(kept["classes"]))
    networks = kept.get("networks", 1)
    empty = np.zeros((networks, width))
    pipeline = PIPELINES[kept["task"]](**kept["pipeline"].get("head", kept["pipeline"]))
    network = pipeline.network(RandomStreams([0] * networks), widths, Standardise(empty, empty))
    if state:
        network.load_state_dict(state)
    return network.eval()
