"""Small data for tests of the protocol: rows with embeddings kept in memory, no image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.pipelines.rows.training_rows import Sources
from outerfold.pipelines.saved.files import write_encoder_cards
from outerfold.storage.records import Column, Dataset, Features, Ids
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import open_studies
from outerfold.study.setup.run_directory import PreparedRun, make_splits, write_run_directory
from outerfold.study.splits import Splits
from outerfold.study.worker.session import WorkerContext

WIDTH, TOKENS = 8, 4
COLUMNS = (
    Column("age"),
    Column("family_history", "binary", ("no", "yes")),
    Column("tissue", "categorical", ("fat", "mixed", "dense")),
)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Frozen representations that lie in memory; pickles whole."""

    ids: Ids
    values: NDArray[np.float32]  # (views, n, tokens, WIDTH)

    @property
    def dim(self) -> int:
        return int(self.values.shape[-1])

    @property
    def views(self) -> int:
        return len(self.values)

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        return self.values[view, self._at(ids)].mean(axis=1)

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        return self.values[view, self._at(ids)].astype(np.float16)

    def _at(self, ids: Sequence[str]) -> list[int]:
        position = {name: i for i, name in enumerate(self.ids)}
        return [position[name] for name in ids]


def make_rows(
    *,
    patients: int = 40,
    images: int = 2,
    classes: Sequence[str] = ("other", "cancer"),
    shares: Sequence[float] | None = None,
    signal: float = 1.0,
    seed: int = 0,
) -> tuple[Dataset, ArraySource]:
    """``patients`` with ``images`` rows each; a class shifts embeddings and columns by ``signal``.

    Every class has at least a sixth of the patients unless ``shares`` (of patients) say otherwise.
    """
    rng = np.random.default_rng(seed)
    weights = np.array(shares if shares is not None else np.linspace(2, 1, len(classes)))
    counts = np.maximum(1, np.floor(weights / weights.sum() * patients)).astype(int)
    counts[0] += patients - counts.sum()
    label = np.repeat(np.repeat(np.arange(len(classes)), counts), images)
    patient = np.repeat(np.arange(patients), images)
    n = len(label)
    ids = tuple(f"p{p:03d}/image-{i}" for p, i in zip(patient, range(n), strict=True))
    own = rng.normal(size=(patients, WIDTH))[patient]
    direction = rng.normal(size=(len(classes), WIDTH))
    centre = signal * direction[label] + 0.7 * own
    values = centre[None, :, None, :] + rng.normal(size=(3, n, TOKENS, WIDTH))
    others = np.random.default_rng((seed, 1)).normal(size=(2, n, TOKENS, WIDTH))
    values = np.concatenate([values, centre[None, :, None, :] + others])  # two of each strength
    age = 50 + 8 * signal * label + rng.normal(scale=8, size=n)
    tabular = np.column_stack([age, rng.integers(0, 2, n), rng.integers(0, 3, n)]).astype(float)
    tabular[rng.random(tabular.shape) < 0.1] = np.nan
    features = Features(
        np.array(ids), np.array([f"/nowhere/{name}.png" for name in ids]), tabular, COLUMNS
    )
    data = Dataset(
        features,
        label.astype(np.int64),
        np.array([f"p{p:03d}" for p in patient]),
        tuple(classes),
        f"seed-{seed}",
        "rows",
    )
    return data, ArraySource(ids, values.astype(np.float32))


def make_config(task: str = "multimodal", **changes: Any) -> StudyConfig:
    """A study of seconds: few folds, trials and epochs."""
    small: dict[str, Any] = {
        "task": task,
        "trials": 4,
        "outer_folds": 3,
        "inner_folds": 3,
        "epochs": 6,
        "networks": 2,
        "patience_epochs": 3,
        "encoder": "array:test",
        "space": {"batch_size": {"values": [32]}},
    }
    return StudyConfig(**{**small, **changes})


def splits_of(data: Dataset, config: StudyConfig) -> Splits:
    """The divisions a run of ``config`` would take."""
    return make_splits(config, data)


def begin_run(
    path: Path,
    data: Dataset,
    source: Sources,
    config: StudyConfig,
    splits: Splits | None = None,
    storage: str | None = None,
) -> tuple[PreparedRun, WorkerContext]:
    """Write a run directory that workers can read; ``splits`` of other rows may be given."""
    folder = RunFolder(path)
    path.mkdir(parents=True)
    prepared = write_run_directory(folder, config, data, splits or splits_of(data, config))
    cards = [
        {
            "name": name,
            "weights": "",
            "weights_sha256": "",
            "fit": config.fit,
            "crop": config.crop,
            "image_size": 224,
        }
        for name in config.encoders
    ]
    write_encoder_cards(folder, cards)
    context = WorkerContext(path, source, storage)
    open_studies(prepared, context)
    return prepared, context


def scrambled(
    data: Dataset, source: ArraySource, ids: Sequence[str], *, seed: int = 1
) -> tuple[Dataset, ArraySource]:
    """The same rows with labels, images and columns of ``ids`` replaced by noise."""
    rng = np.random.default_rng(seed)
    at = data.features.positions(ids)
    labels, tabular, values = data.labels.copy(), data.features.tabular.copy(), source.values.copy()
    labels[at] = (labels[at] + rng.integers(1, len(data.classes), len(at))) % len(data.classes)
    tabular[at] = np.column_stack(
        [rng.normal(500, 100, len(at)), rng.integers(0, 2, len(at)), rng.integers(0, 3, len(at))]
    )
    values[:, at] = rng.normal(scale=50, size=values[:, at].shape)
    features = replace(data.features, tabular=tabular)
    return replace(data, features=features, labels=labels), replace(source, values=values)
