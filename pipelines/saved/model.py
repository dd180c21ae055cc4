"""Model of one study, read from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outerfold.pipelines._base import Fitted
from outerfold.pipelines.encoders._base import FLOAT32, Encoder
from outerfold.pipelines.encoders.backends.choose import OPENVINO, choose_backend, with_backend
from outerfold.pipelines.encoders.divide import Blocks, frozen_parts
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.fitted.head import FittedHead
from outerfold.pipelines.fitted.tail import FittedTail, load
from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.images.activations import TrunkSource
from outerfold.pipelines.rows.tabular import FittedColumn, NetworkColumns, TabularColumns
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.pipelines.saved.files import PREPROCESSING, require_sizes, understanding_model
from outerfold.storage.cache.files import read_json
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import (
    Column,
    DataError,
    Features,
    FloatArray,
)
from outerfold.storage.registry import load_part
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import verify_files
from outerfold.storage.tasks import TASKS


@dataclass(frozen=True)
class Origin:
    """Description of the pretrained encoder whose image representations a model reads.

    Attributes:
        name: ``family:model``.
        weights: weights file that the user gave; empty for the encoder's default weights.
        weights_sha256: SHA-256 (64 hex digits) of the weights file.
        framing: how an image of any shape becomes the encoder's square.
        backend: backend that computed the representations; empty for a run that named none.
        difference: largest difference between this backend and torch in float32, as the run
            measured it on 16 photographs, in standard deviations; None where that is the backend.
        precision: number format in which the representations were computed.
    """

    name: str
    weights: str
    weights_sha256: str
    framing: Framing
    backend: str = ""
    difference: float | None = None
    precision: str = FLOAT32

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Origin:
        """Read the description from a card (``outerfold.pipelines.saved.files.encoder_card``)."""
        framing = Framing(card["fit"], card["crop"])
        return cls(
            card["name"],
            card["weights"],
            card["weights_sha256"],
            framing,
            card.get("backend", ""),
            card.get("backend_difference"),
            card.get("precision", FLOAT32),
        )

    def build_encoder(
        self,
        cache: Path,
        *,
        blocks: Blocks = 0,
        device: str = "cpu",
        say: Callable[[str], None],
    ) -> Encoder:
        """Build the encoder with the same weights, by the same backend if this machine has it.

        Args:
            cache: folder that keeps converted encoders.
            blocks: number of trained blocks, or ``all``.
            device: device of the encoder; half precision is computed on a GPU alone.
            say: called with a sentence where the values are computed in another way.

        Raises:
            DataError: the weights cannot be found, or their SHA-256 differs.
        """
        weights = Path(self.weights) if self.weights else None
        encoder = build(self.name, weights=weights, framing=self.framing)
        if encoder.weights_sha256 != self.weights_sha256:
            raise DataError(
                f"{self.name}: the weights here have SHA-256 {encoder.weights_sha256[:12]}..., but "
                f"the model was trained with {self.weights_sha256[:12]}...; restore those weights"
            )
        backend = self._find_backend(encoder, blocks, cache, say)
        return with_backend(encoder, backend, cache, self._find_precision(device, say))

    def _find_precision(self, device: str, say: Callable[[str], None]) -> str:
        if self.precision == FLOAT32 or device.startswith("cuda"):
            return self.precision
        say(
            f"{self.name}: the model reads values computed in {self.precision} on a GPU, and "
            "float32 computes them here; when the run began, the two differed by at most "
            f"{self.difference or 0:.1g} of the values' standard deviation on 16 photographs"
        )
        return FLOAT32

    def _find_backend(
        self, encoder: Encoder, blocks: Blocks, cache: Path, say: Callable[[str], None]
    ) -> str:
        if self.backend != OPENVINO:
            return self.backend
        found = choose_backend(frozen_parts(encoder, blocks), cache=cache, device="cpu")
        if found.backend != OPENVINO:
            say(
                f"{self.name}: the model reads values computed by OpenVINO, and torch computes "
                f"them here ({found.reason}); when the run began, the two differed by at most "
                f"{self.difference or 0:.1g} of the values' standard deviation on 16 photographs"
            )
        return found.backend


@dataclass(frozen=True, eq=False)
class StudyModel:
    """Model of one study, without its data.

    Attributes:
        network: stack of one or more heads in evaluation mode.
        columns: encoders of the clinical columns.
        tokens: whether heads read spatial tokens.
        tta: number of augmented views; probabilities are averaged over them and the image itself.
        decision: calibration and threshold of the study.
        tails: weights of heads and tails where blocks of the encoder were trained; else empty.
        origin: the pretrained encoder.
    """

    network: torch.nn.Module
    columns: NetworkColumns
    tokens: bool
    tta: int
    decision: Decision
    tails: Mapping[str, torch.Tensor]
    origin: Origin

    def predict_calibrated(self, features: Features, source: ImageSource) -> FloatArray:
        """Return calibrated probabilities (n, classes) for rows whose images are in ``source``."""
        return self.decision.calibrate(self.bind_source(source).predict(features))

    def bind_source(self, source: ImageSource) -> Fitted:
        """Return the model with the image representations that it reads."""
        if not self.tails:
            return FittedHead(self.network, self.columns, source, self.tokens, self.tta)
        assert isinstance(source, TrunkSource)
        tails = self.build_tails(source.tail())
        return FittedTail(self.network, tails, self.columns, source, self.tokens, tta=self.tta)

    def build_tails(self, pretrained: torch.nn.Module) -> torch.nn.ModuleList:
        """Build the trained tails, one for each network, in evaluation mode.

        The heads in ``network`` get their trained weights too.

        Args:
            pretrained: tail of the pretrained encoder.
        """
        networks = len(next(self.network.parameters()))
        tails = torch.nn.ModuleList(deepcopy(pretrained) for _ in range(networks)).eval()
        load(self.tails, self.network, tails)
        return tails


def read_preprocessing(folder: RunFolder, study: str) -> dict[str, Any]:
    """Read ``preprocessing.json`` of one finished study.

    Raises:
        DataError: this file or the weights are missing or were changed.
    """
    path = folder.study(study)
    for name in (PREPROCESSING, "model.pt"):
        if not (path / name).exists():
            raise DataError(
                f"{path / name}: this file is missing, and without it the study's model cannot be "
                "read; run the study again with this version"
            )
    verify_files(path, PREPROCESSING, "model.pt")
    found: dict[str, Any] = read_json(path / PREPROCESSING)
    return found


def read_model(folder: RunFolder, study: str) -> StudyModel:
    """Read the model of one finished study.

    Raises:
        DataError: the model is missing, or another version wrote it.
    """
    path, kept = folder.study(study), read_preprocessing(folder, study)
    with understanding_model(path):
        require_sizes(path, kept)
        state = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
        return build_model(kept, state)


def _read_column(kept: dict[str, Any]) -> FittedColumn:
    own = kept["column"]
    column = Column(own["name"], own["kind"], tuple(own["levels"]), tuple(own.get("gaps", ())))
    return replace(
        FittedColumn(column, kept["fill"]),
        **{
            "mean": kept["mean"],
            "scale": kept["scale"],
            "known": tuple(kept["known"]),
        },
    )


def build_model(kept: dict[str, Any], state: Mapping[str, torch.Tensor]) -> StudyModel:
    """Build a model from the contents of ``preprocessing.json`` and the weights of its folder."""
    each = kept.get("columns_by_network") or [kept["columns"]]
    columns = NetworkColumns(tuple(TabularColumns(tuple(map(_read_column, one))) for one in each))
    decision = Decision(kept["temperature"], kept["threshold"], kept["shift"])
    tails = state if kept.get("trainable_blocks", 0) else {}
    network = _build_heads(kept, columns, {} if tails else state)
    return StudyModel(
        network, columns, kept["tokens"], kept["tta"], decision, tails, Origin.of(kept["encoder"])
    )


def _build_heads(
    kept: dict[str, Any], columns: NetworkColumns, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Build the stack of heads; it is untrained where ``state`` is empty."""
    width = kept["image_width"]
    widths = Widths(width, kept["tokens"], columns.width, len(kept["classes"]))
    networks = kept.get("networks", 1)
    empty = np.zeros((networks, width))
    pipeline = load_part(TASKS.named(kept["task"]).pipeline)(
        **kept["pipeline"].get("head", kept["pipeline"])
    )
    network: torch.nn.Module = pipeline.network(
        RandomStreams([0] * networks), widths, Standardise(empty, empty)
    )
    if state:
        network.load_state_dict(state)
    return network.eval()
