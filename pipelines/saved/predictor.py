"""Prediction with a finished run's model: ``final/`` alone is enough to score a new image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outerfold.pipelines.augmentation.views import (
    Views,
    augmentation_key,
    scoring_views,
)
from outerfold.pipelines.encoders.divide import Blocks
from outerfold.pipelines.fitted.calibration import decide
from outerfold.pipelines.images.activations import Division, image_source
from outerfold.pipelines.rows.training_rows import ImageSource, Sources, SourcesByEncoder, source_of
from outerfold.pipelines.saved.files import (
    PREPROCESSING,
    SCHEMAS,
    require_sizes,
    understanding_model,
)
from outerfold.pipelines.saved.model import Origin, StudyModel, build_model
from outerfold.storage.cache.files import read_json
from outerfold.storage.names import match_names
from outerfold.storage.readers.columns import encode_value, find_gap
from outerfold.storage.records import (
    FINAL,
    Column,
    DataError,
    Features,
    FloatArray,
    IntArray,
)
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import verify_files
from outerfold.storage.tasks import TASKS

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ShippedModel:
    """Shipped (final) model of a finished run, without its data.

    Attributes:
        task: name of the task.
        classes: names of the classes, in the order of their indices.
        members: one refitted model, or the outer models of an ensemble, each with the encoder that
            its own study chose.
        threshold: threshold on the mean of the members' calibrated probabilities; None for several
            classes.
        augmentation: key of the augmentation of scored views (``augmentation_key``); empty where
            no augmented views are scored.
        synthetic: whether it was trained on synthetic data, so that it serves as demonstration
            only.
        blocks: number of trained blocks of the encoder, or ``all``.
    """

    task: str
    classes: tuple[str, ...]
    members: tuple[StudyModel, ...]
    threshold: float | None
    augmentation: str
    synthetic: bool
    blocks: Blocks = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Clinical columns that the model reads."""
        return self.members[0].columns.columns

    def score(
        self, features: Features, cache: Path, say: Callable[[str], None] = log.warning
    ) -> tuple[FloatArray, IntArray]:
        """Return calibrated probabilities (n, classes) and decided class indices (n,) for new rows.

        Args:
            features: image files and clinical columns of n rows.
            cache: folder for image representations.
            say: called with a sentence where another backend than the run's computes them.

        Raises:
            DataError: an encoder's weights cannot be found, or the installed code makes augmented
                views in another way.
        """
        check_views(self.augmentation, self.task)
        origins = dict.fromkeys(member.origin for member in self.members)
        sources = [(one.name, self._represent_images(features, one, cache, say)) for one in origins]
        return self.score_from(features, SourcesByEncoder(tuple(sources)))

    def score_from(self, features: Features, sources: Sources) -> tuple[FloatArray, IntArray]:
        """Return the same as ``score`` for rows whose image representations exist already.

        Args:
            features: n rows.
            sources: one source for each encoder of the members.
        """
        each = [
            member.predict_calibrated(features, source_of(sources, member.origin.name))
            for member in self.members
        ]
        calibrated: FloatArray = np.mean(each, axis=0)
        return calibrated, decide(calibrated, self.threshold)

    def _represent_images(
        self, features: Features, origin: Origin, cache: Path, say: Callable[[str], None]
    ) -> ImageSource:
        """Compute the image representations that the members with one encoder read."""
        own = [one for one in self.members if one.origin == origin]
        encoder = origin.build_encoder(cache, blocks=self.blocks, say=say)
        views = Views(scoring_views(own[0].tta), TASKS.named(self.task).style)
        division = Division(encoder, origin.weights, self.blocks)
        tokens = not self.blocks and any(one.tokens for one in own)  # else tails make the tokens
        return image_source(features, division, cache=cache, views=views, tokens=tokens)


def check_views(augmentation: str, task: str) -> None:
    """Refuse a model whose augmented views the installed code makes in another way.

    Args:
        augmentation: key that the model stores; empty where no augmented views are scored.
        task: name of the task.

    Raises:
        DataError: the key of the installed code differs.
    """
    if augmentation and augmentation != augmentation_key(TASKS.named(task).style):
        raise DataError(
            "this model averages over augmented views (--tta), but the code or libraries "
            "installed here make these views in another way than at the time of its training; "
            "install the versions of the run's provenance.json"
        )


def read_shipped_model(folder: RunFolder) -> ShippedModel:
    """Read the shipped (final) model of a run.

    Raises:
        DataError: the run is not finished, its model was changed, or another version wrote it.
    """
    path = folder.study(FINAL)
    if not folder.path.exists():
        raise DataError(f"{folder.path}: does not exist; name the directory of a finished run")
    if not (path / "model.pt").exists():
        raise DataError(
            f"{folder.path}: holds no shipped model ({FINAL}/model.pt); "
            "let `outerfold run` finish first"
        )
    verify_files(path, PREPROCESSING, "model.pt")
    kept = read_json(path / PREPROCESSING)
    with understanding_model(path):
        return _read_members(path, kept)


def _read_members(path: Path, kept: dict[str, Any]) -> ShippedModel:
    if kept["schema"] not in SCHEMAS:
        raise DataError(
            f"{path}: this version reads models of schema {SCHEMAS[0]} to {SCHEMAS[-1]}, and this "
            f"model has schema {kept['schema']}; use the version of outerfold that made it"
        )
    for each in kept.get("members", [{}]):
        require_sizes(path, {**kept, **each})
    state = torch.load(path / "model.pt", map_location="cpu", weights_only=True)
    members = (
        tuple(build_model({**kept, **each}, state[each["name"]]) for each in kept["members"])
        if "members" in kept
        else (build_model(kept, state),)
    )
    return ShippedModel(
        kept["task"],
        tuple(kept["classes"]),
        members,
        kept["threshold"],
        kept["augmentation"],
        kept["synthetic"],
        kept.get("trainable_blocks", 0),
    )


def new_features(
    shipped: ShippedModel, images: Sequence[Path], given: Mapping[str, str]
) -> Features:
    """Return the rows of new images, which all share the same clinical values.

    Args:
        shipped: the model that will score them.
        images: image files, one for each row.
        given: clinical values as text, by column; an absent column is a missing value.

    Raises:
        DataError: a column that the model does not have, or a value that cannot be read, is
            impossible, or stands for missing in the data of the run.
    """
    named = name_columns([column.name for column in shipped.columns], given)
    for column in shipped.columns:
        why = find_gap(column, _encode_text(column, named.get(column.name)))
        if why:
            raise DataError(
                f"--{column.name}: {named[column.name]} {why}; give another value, or leave the "
                "option out where there is none"
            )
    return new_rows(shipped, images, [named] * len(images))


def name_columns(known: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Given values by the model's names of their columns, which may be spelt in another way.

    Args:
        known: names of the model's columns.
        given: values as text, by column.

    Raises:
        DataError: a column that the model does not have, or two that are one.
    """
    found = match_names(known, given)
    unknown = [name for name in given if name not in found.values()]
    if unknown:
        raise DataError(f"--{unknown[0]}: the model has no such column; it has {list(known)}")
    return {name: given[own] for name, own in found.items()}


def new_rows(
    shipped: ShippedModel,
    images: Sequence[Path],
    given: Sequence[Mapping[str, str]],
    say: Callable[[str], None] = log.warning,
) -> Features:
    """Return the rows of n new images with the clinical values of each.

    Args:
        shipped: the model that will score them.
        images: n image files.
        given: n mappings of columns of the model to values as text; an absent column is a missing
            value.
        say: called with a sentence on numbers that are impossible or stand for missing, which
            become missing.

    Raises:
        DataError: a value cannot be read.
    """
    columns = shipped.columns
    texts = [[_encode_text(column, row.get(column.name)) for column in columns] for row in given]
    paths = np.array([str(path.resolve()) for path in images])
    values = np.array(texts, dtype=np.float64).reshape(len(paths), len(columns))
    for at, column in enumerate(columns):
        reasons = {value: find_gap(column, value) for value in np.unique(values[:, at]).tolist()}
        for value, why in reasons.items():
            if why:
                own = values[:, at] == value
                say(f"column {column.name!r}: {value:g} ({own.sum()} rows) {why}; read as missing")
                values[own, at] = np.nan
    return Features(paths, paths, values, columns)


def _encode_text(column: Column, text: str | None) -> float:
    return float("nan") if text is None else encode_value(column, text)
