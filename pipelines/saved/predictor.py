"""Kept models, read back: so that a new image can be scored with nothing but a run's `final/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from outerfold.pipelines.augmentation.views import (
    TASK_STYLES,
    Views,
    augmentation_key,
    scoring_views,
)
from outerfold.pipelines.encoders.divide import Blocks
from outerfold.pipelines.fitted.calibration import decide
from outerfold.pipelines.images.activations import Division, image_source
from outerfold.pipelines.rows.training_rows import ByEncoder, ImageSource, Sources, source_of
from outerfold.pipelines.saved.files import PREPROCESSING, SCHEMA
from outerfold.pipelines.saved.model import Member, Origin, member_of
from outerfold.storage.cache.files import read_json
from outerfold.storage.readers.columns import encode_value
from outerfold.storage.records import (
    FINAL,
    Column,
    DataError,
    Features,
    FloatArray,
    IntArray,
)
from outerfold.storage.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Shipped:
    """The model of a finished run, without its data.

    Attributes:
        members: one refitted model, or the outer models of an ensemble, each with the encoder that
            its own study chose.
        threshold: on the mean of the members' calibrated probabilities; None for several classes.
        augmentation: what made the views that score (``augmentation_key``); empty where none do.
        synthetic: trained on synthetic data; good for nothing but a demonstration.
        blocks: of the encoder that were trained.
    """

    task: str
    classes: tuple[str, ...]
    members: tuple[Member, ...]
    threshold: float | None
    augmentation: str
    synthetic: bool
    blocks: Blocks = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Clinical columns it reads."""
        return tuple(fitted.column for fitted in self.members[0].columns.columns)

    def score(self, features: Features, cache: Path) -> tuple[FloatArray, IntArray]:
        """Calibrated probabilities (n, classes) and decisions (n,) for images and columns.

        Raises:
            DataError: an encoder's weights cannot be had, or other code makes the views here.
        """
        refuse_other_views(self.augmentation, self.task)
        origins = dict.fromkeys(member.origin for member in self.members)
        sources = [(one.name, self._represented(features, one, cache)) for one in origins]
        return self.score_from(features, ByEncoder(tuple(sources)))

    def score_from(self, features: Features, sources: Sources) -> tuple[FloatArray, IntArray]:
        """The same of images that are represented already: the mean over the members.

        Args:
            sources: one for each encoder by which a member reads images.
        """
        each = [
            member.calibrated(features, source_of(sources, member.origin.name))
            for member in self.members
        ]
        calibrated: FloatArray = np.mean(each, axis=0)
        return calibrated, decide(calibrated, self.threshold)

    def _represented(self, features: Features, origin: Origin, cache: Path) -> ImageSource:
        """Images as the members of one encoder read them."""
        own, encoder = [one for one in self.members if one.origin == origin], origin.built()
        views = Views(scoring_views(own[0].tta), TASK_STYLES[self.task])
        division = Division(encoder, origin.weights, self.blocks)
        tokens = not self.blocks and any(one.tokens for one in own)  # else tails make the tokens
        return image_source(features, division, cache=cache, views=views, tokens=tokens)


def refuse_other_views(augmentation: str, task: str) -> None:
    """``DataError`` where views that score come from something else than ``augmentation``.

    Args:
        augmentation: what a model keeps of it; empty where no views score.
    """
    if augmentation and augmentation != augmentation_key(TASK_STYLES[task]):
        raise DataError(
            "this model averages over augmented views (--tta), which the code or libraries "
            "installed here make in another way than those it was fitted with; install the "
            "versions of the run's provenance.json"
        )


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
        tuple(member_of({**kept, **each}, state[each["name"]]) for each in kept["members"])
        if "members" in kept
        else (member_of(kept, state),)
    )
    return Shipped(
        kept["task"],
        tuple(kept["classes"]),
        members,
        kept["threshold"],
        kept["augmentation"],
        kept["synthetic"],
        kept.get("trainable_blocks", 0),
    )


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
