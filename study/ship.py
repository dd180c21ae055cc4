"""The shipped model: what `final/` holds so that a new image can be scored with nothing else.

Every study's folder holds the same of its own model; `final/` of an ensemble holds its members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines._base import Fitted, Pipeline
from pipelines.augment import Views, augmentation_key, scoring_views
from pipelines.dbt import DbtPipeline
from pipelines.decision import Decision, decide
from pipelines.embeddings import embed
from pipelines.encoders._base import Encoder
from pipelines.encoders.divide import Blocks
from pipelines.encoders.registry import build
from pipelines.fitted import FittedHead
from pipelines.fitted_tail import FittedTail, load
from pipelines.multimodal import MultimodalPipeline
from pipelines.networks import Standardise, Widths
from pipelines.rows import ImageSource
from pipelines.stacked import Chance
from pipelines.tabular import FittedColumn, TabularEncoder
from pipelines.trunk_source import Division, TrunkSource, trunk_source
from storage.files import read_json, write_json
from storage.framing import Framing
from storage.readers.columns import encode_value
from storage.records import (
    FINAL,
    Column,
    DataError,
    Features,
    FloatArray,
    IntArray,
)
from storage.run_folder import RunFolder
from study.session import STYLES

SCHEMA = 1
PREPROCESSING = "preprocessing.json"
ENCODER_FILE = "encoder.json"
"""In the run directory: the card of the encoder that studies read their images by; where they
choose from several, the first one's, with the cards of the ``others`` in it."""
PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "dbt": DbtPipeline,
    "multimodal": MultimodalPipeline,
}


@dataclass(frozen=True, eq=False)
class Member:
    """The model of one study, without its data.

    Attributes:
        decision: with the study's own temperature, shift and threshold.
        tails: weights of heads and tails, where blocks of the encoder were trained; else empty.
    """

    network: torch.nn.Module
    columns: TabularEncoder
    tokens: bool
    tta: int
    decision: Decision
    tails: Mapping[str, torch.Tensor]

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


@dataclass(frozen=True, eq=False)
class Shipped:
    """The model of a finished run, without its data.

    Attributes:
        encoder_name, weights, weights_sha256: the pretrained encoder it was trained on.
        framing: how images came to fill that encoder's square.
        members: one refitted model, or the outer models of an ensemble.
        threshold: on the mean of the members' calibrated probabilities; None for several classes.
        augmentation: what made the views that score (``augmentation_key``); empty where none do.
        synthetic: trained on synthetic data; good for nothing but a demonstration.
        blocks: of the encoder that were trained.
    """

    task: str
    classes: tuple[str, ...]
    encoder_name: str
    weights: str
    weights_sha256: str
    framing: Framing
    members: tuple[Member, ...]
    threshold: float | None
    augmentation: str
    synthetic: bool
    blocks: Blocks = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Clinical columns it reads."""
        return tuple(fitted.column for fitted in self.members[0].columns.columns)

    def encoder(self) -> Encoder:
        """The very encoder it was trained on.

        Raises:
            DataError: its weights cannot be had, or are others by now.
        """
        return same_encoder(self.encoder_name, self.weights, self.weights_sha256, self.framing)

    def score(self, features: Features, cache: Path) -> tuple[FloatArray, IntArray]:
        """Calibrated probabilities (n, classes) and decisions (n,) for images and columns.

        Raises:
            DataError: the encoder's weights cannot be had, or other code makes the views here.
        """
        refuse_other_views(self.augmentation, self.task)
        encoder = self.encoder()
        views = Views(scoring_views(self.members[0].tta), STYLES[self.task])
        if self.blocks:
            division = Division(encoder, self.weights, self.blocks)
            cut = trunk_source(features, division, cache=cache, views=views)
            return self.score_from(features, cut)
        source = embed(
            features, encoder, cache=cache, views=views,
            tokens=any(member.tokens for member in self.members),
        )  # fmt: skip
        return self.score_from(features, source)

    def score_from(self, features: Features, source: ImageSource) -> tuple[FloatArray, IntArray]:
        """The same of images that are represented already: the mean over the members."""
        each = [member.calibrated(features, source) for member in self.members]
        calibrated: FloatArray = np.mean(each, axis=0)
        return calibrated, decide(calibrated, self.threshold)


def refuse_other_views(augmentation: str, task: str) -> None:
    """``DataError`` where views that score come from something else than ``augmentation``.

    Args:
        augmentation: what a model keeps of it; empty where no views score.
    """
    if augmentation and augmentation != augmentation_key(STYLES[task]):
        raise DataError(
            "this model averages over augmented views (--tta), which the code or libraries "
            "installed here make in another way than those it was fitted with; install the "
            "versions of the run's provenance.json"
        )


def same_encoder(name: str, weights: str, sha256: str, framing: Framing) -> Encoder:
    """The encoder that a run's card names.

    Raises:
        DataError: its weights cannot be had, or are others by now.
    """
    encoder = build(name, weights=Path(weights) if weights else None, framing=framing)
    if encoder.weights_sha256 != sha256:
        raise DataError(
            f"{name}: the weights here have SHA-256 {encoder.weights_sha256[:12]}..., the model "
            f"was trained on {sha256[:12]}...; give it those"
        )
    return encoder


def write_encoder_cards(folder: RunFolder, cards: Sequence[Mapping[str, Any]]) -> None:
    """Keep the cards (``encoder_card``) of all encoders of a run."""
    first, *others = cards
    write_json(folder.path / ENCODER_FILE, {**first, **({"others": others} if others else {})})


def read_encoder_card(folder: RunFolder, name: str) -> dict[str, Any]:
    """The card of one encoder of a run; of its first where ``name`` is empty."""
    first = read_json(folder.path / ENCODER_FILE)
    cards = [{**first}, *first.get("others", [])]
    cards[0].pop("others", None)
    return next(card for card in cards if name in ("", card["name"]))


def write_preprocessing(
    path: Path, pipeline: Pipeline, fitted: Fitted,
    *, decision: Decision, facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write ``preprocessing.json`` of one study's folder; the weights are beside it.

    Args:
        facts: task, classes, synthetic, the encoder's card (``encoder_card``), and what makes
            augmented views, where some score.
    """
    write_json(
        path / PREPROCESSING,
        {
            "schema": SCHEMA,
            **facts,
            "pipeline": asdict(pipeline),
            "networks": fitted.networks,
            "tokens": fitted.tokens,
            "tta": fitted.tta,
            "image_width": int(fitted.network.scaler.mean.shape[-1]),  # type: ignore[union-attr,index]
            "columns": [asdict(column) for column in fitted.encoder.columns],
            "temperature": decision.temperature,
            "shift": decision.shift,
            "threshold": decision.threshold,
        },
    )


def encoder_card(encoder: Encoder, weights: str) -> dict[str, Any]:
    """What names an encoder and its preprocessing for good."""
    return {
        "name": encoder.name,
        "weights": str(Path(weights).resolve()) if weights else "",
        "weights_sha256": encoder.weights_sha256,
        "image_size": encoder.image_size,
        "fit": encoder.framing.fit,
        "crop": encoder.framing.crop,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "versions": list(encoder.versions),
    }


def read_shipped(folder: RunFolder) -> Shipped:
    """The shipped model of a run; a run that is not finished raises ``DataError``."""
    path = folder.study(FINAL)
    if not (path / "model.pt").exists():
        raise DataError(
            f"{folder.path}: holds no shipped model ({FINAL}/model.pt); "
            "let `outerfold run` finish first"
        )
    kept = read_json(path / PREPROCESSING)
    if kept["schema"] != SCHEMA:
        raise DataError(f"{path}: schema {kept['schema']} is not known here, only {SCHEMA}")
    state = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
    members = (
        tuple(_member({**kept, **each}, state[each["name"]]) for each in kept["members"])
        if "members" in kept
        else (_member(kept, state),)
    )
    return Shipped(
        kept["task"], tuple(kept["classes"]), kept["encoder"]["name"], kept["encoder"]["weights"],
        kept["encoder"]["weights_sha256"], Framing(kept["encoder"]["fit"], kept["encoder"]["crop"]),
        members, kept["threshold"], kept["augmentation"], kept["synthetic"],
        kept.get("trainable_blocks", 0),
    )  # fmt: skip


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
        return _member(kept, state)
    except (RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: its model is not what {PREPROCESSING} says ({reason}); run the study again "
            "with this version"
        ) from None


def new_features(shipped: Shipped, images: Sequence[Path], given: Mapping[str, str]) -> Features:
    """Rows for new images that share the clinical columns ``given`` as text; absent is missing.

    Raises:
        DataError: a column the model does not know, or a value that cannot be read.
    """
    columns = shipped.columns
    known = [column.name for column in columns]
    strangers = [name for name in given if name not in known]
    if strangers:
        raise DataError(f"--{strangers[0]}: the model has no such column; it has {known}")
    values = [_value(column, given.get(column.name)) for column in columns]
    paths = np.array([str(path.resolve()) for path in images])
    return Features(paths, paths, np.tile(np.array([values]), (len(paths), 1)), columns)


def _value(column: Column, text: str | None) -> float:
    return float("nan") if text is None else encode_value(column, text)


def _column(kept: dict[str, Any]) -> FittedColumn:
    column = Column(**{**kept["column"], "levels": tuple(kept["column"]["levels"])})
    return replace(FittedColumn(column, kept["fill"]), **{
        "mean": kept["mean"], "scale": kept["scale"], "known": tuple(kept["known"]),
    })  # fmt: skip


def _member(kept: dict[str, Any], state: Mapping[str, torch.Tensor]) -> Member:
    columns = TabularEncoder(tuple(_column(column) for column in kept["columns"]))
    decision = Decision(kept["temperature"], kept["threshold"], kept["shift"])
    tails = state if kept.get("trainable_blocks", 0) else {}
    network = _network(kept, columns, {} if tails else state)
    return Member(network, columns, kept["tokens"], kept["tta"], decision, tails)


def _network(
    kept: dict[str, Any], columns: TabularEncoder, state: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """The heads; untrained where ``state`` is empty."""
    width = kept["image_width"]
    widths = Widths(width, kept["tokens"], columns.width, len(kept["classes"]))
    networks = kept.get("networks", 1)
    empty = np.zeros((networks, width))
    pipeline = PIPELINES[kept["task"]](**kept["pipeline"].get("head", kept["pipeline"]))
    network = pipeline.network(Chance([0] * networks), widths, Standardise(empty, empty))
    if state:
        network.load_state_dict(state)
    return network.eval()
