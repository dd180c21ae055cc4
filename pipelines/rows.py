"""What a study's rows give every trial alike: inputs, scalers, encoders, resampled rows.

Everything here is learnt from each fold's own fitting rows. None of it depends on a
hyper-parameter other than the sampler's name, so a worker keeps it from trial to trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.resample import Resampled, resample
from pipelines.tabular import TabularEncoder
from storage.records import Dataset, FloatArray, Fold, IntArray
from storage.seeds import derive

Float32 = NDArray[np.float32]
Float16 = NDArray[np.float16]


class ImageSource(Protocol):
    """Frozen image representations by row id; label-free and row-wise."""

    @property
    def dim(self) -> int:
        """Width of a pooled embedding."""

    @property
    def views(self) -> int:
        """Representations a row has: view 0 is the image, the others are augmented."""

    def pooled(self, ids: Sequence[str], view: int = 0) -> Float32:
        """(n, dim)."""

    def tokens(self, ids: Sequence[str], view: int = 0) -> Float16:
        """(n, tokens, token_dim)."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and spread (width,) of fitting rows; a constant input keeps spread 1."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, inputs: Float32) -> Scaler:
        """From ``inputs (n, width)``, the rows that fit."""
        mean = inputs.mean(axis=0, dtype=np.float64)
        spread = inputs.std(axis=0, dtype=np.float64)
        return cls(mean, np.where(spread > 1e-6, spread, 1.0))


@dataclass(frozen=True, eq=False)
class FoldRows:
    """One fold's view of the training side.

    Attributes:
        fold: which rows fit and which validate.
        fit, val: positions of those rows in the training side.
        scaler: of pooled embeddings (or of the mean token), from fitting rows.
        encoder: of clinical columns, from fitting rows.
        tabular: (n, width) every training-side row as this fold's encoder sees it.
        labels: (n,) of the training side.
    """

    fold: Fold
    fit: IntArray
    val: IntArray
    scaler: Scaler
    encoder: TabularEncoder
    tabular: Float32
    labels: IntArray

    @property
    def minority(self) -> IntArray:
        """Classes with fewer fitting images than the largest."""
        counts = np.bincount(self.labels[self.fit])
        return np.flatnonzero(counts < counts.max())


class TrainingRows:
    """The training side of one study, prepared for its folds.

    Args:
        train: rows that may be learnt from.
        folds: inner folds, or one fold without validation rows for a refit.
        source: frozen representations of the images.
        tokens: True to learn from spatial tokens, False from pooled embeddings.
        seed: of the resampling.
    """

    def __init__(
        self, train: Dataset, folds: Sequence[Fold], source: ImageSource, *, tokens: bool, seed: int
    ) -> None:
        self.train, self.source, self.tokens, self.seed = train, source, tokens, seed
        self.folds = [self._fold_rows(fold) for fold in folds]
        self._resampled: dict[tuple[str, str], Resampled] = {}

    @cached_property
    def images(self) -> Float32 | Float16:
        """(n, dim) or (n, tokens, token_dim), the untouched image of every training-side row."""
        return self.view(0)

    def view(self, view: int) -> Float32 | Float16:
        """The same of augmented view ``view``."""
        ids = self.train.ids.tolist()
        return self.source.tokens(ids, view) if self.tokens else self.source.pooled(ids, view)

    def resampled(self, which: int, sampler: str) -> Resampled:
        """Rows of fold number ``which`` after resampling; computed once a study."""
        rows = self.folds[which]
        key = (rows.fold.name, sampler)
        if key not in self._resampled:
            self._resampled[key] = resample(
                sampler,
                self._scaled(rows),
                rows.labels[rows.fit],
                seed=derive(self.seed, rows.fold.name, "resample"),
            )
        return self._resampled[key]

    def _scaled(self, rows: FoldRows) -> Float32:
        if self.tokens:
            return np.zeros((len(rows.fit), 0), dtype=np.float32)
        mean, scale = rows.scaler.mean.astype(np.float32), rows.scaler.scale.astype(np.float32)
        image = (self.images[rows.fit] - mean) / scale
        return np.concatenate([image, rows.tabular[rows.fit]], axis=1)

    def _fold_rows(self, fold: Fold) -> FoldRows:
        features = self.train.features
        fit, val = features.positions(fold.fit), features.positions(fold.val)
        encoder = TabularEncoder.fit(features.columns, features.tabular[fit])
        inputs = self.images[fit].astype(np.float32)
        if self.tokens:
            inputs = inputs.mean(axis=1)
        return FoldRows(
            fold, fit, val, Scaler.fit(inputs), encoder,
            encoder.transform(features.tabular).astype(np.float32), self.train.labels,
        )  # fmt: skip
