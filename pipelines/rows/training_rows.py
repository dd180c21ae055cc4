"""Training rows shared by all trials of a study: inputs, scalers, encoders, resampled rows.

Each fold's scaler, encoder and resampled rows come from its own training rows alone. None of them
depends on a hyper-parameter other than the sampler's name, so a worker process keeps them from
trial to trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from outerfold.pipelines.rows.resample import Resampled, resample, resample_many
from outerfold.pipelines.rows.samplers import SAMPLERS
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.storage.cache.row_store import StoredRows
from outerfold.storage.records import Dataset, Float32, FloatArray, Fold, IntArray
from outerfold.storage.seeds import derive_seed

Float16 = NDArray[np.float16]
ImageRows = StoredRows | Float32 | Float16
"""Image inputs (n, dim) or (n, tokens, token_dim), on disk or in memory; indexing by positions
gives an array."""

CHUNK_BYTES = 1 << 23
"""Bytes of rows that are read at once to compute their mean and standard deviation."""
MANY = 10_000
"""Largest training side whose synthetic rows are computed and kept in memory. With more rows they
are computed for each batch, since neighbours are compared pair by pair and a synthetic row takes
as much memory as an image."""


class ImageSource(Protocol):
    """Frozen image representations by row id; they use no label and no other row."""

    @property
    def dim(self) -> int:
        """Width of a pooled embedding."""

    @property
    def views(self) -> int:
        """Number of representations of a row: view 0 is the image, the others are augmented."""

    def pooled(self, ids: Sequence[str], view: int = 0) -> Float32:
        """Return pooled embeddings (n, dim) of rows, in the order of ``ids``."""

    def tokens(self, ids: Sequence[str], view: int = 0) -> Float16:
        """Return spatial tokens (n, tokens, token_dim) of rows, in the order of ``ids``."""


@runtime_checkable
class StoredSource(Protocol):
    """Source that keeps its rows on disk and can give access to them without a copy."""

    def stored(self, ids: Sequence[str], view: int = 0, *, tokens: bool) -> StoredRows:
        """Return the rows of ``tokens`` (or of ``pooled``) as positions in a file on disk."""


@dataclass(frozen=True)
class SourcesByEncoder:
    """Image sources of several encoders.

    Attributes:
        sources: pairs of encoder name and source; the first encoder is the one of the data audit.
    """

    sources: tuple[tuple[str, ImageSource], ...]

    def of(self, encoder: str) -> ImageSource:
        """Return the source of the encoder with this name."""
        return dict(self.sources)[encoder]


Sources = ImageSource | SourcesByEncoder


def source_of(sources: Sources, encoder: str) -> ImageSource:
    """Return the source of one encoder; a single source is returned for any name."""
    return sources.of(encoder) if isinstance(sources, SourcesByEncoder) else sources


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and standard deviation of training rows.

    Attributes:
        mean: (width,).
        scale: (width,) standard deviation; 1 for a constant input.
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, inputs: Float32) -> Scaler:
        """Fit a scaler on ``inputs (n, width)``, which must hold training rows only."""
        return cls.from_chunks(lambda: iter([inputs]), len(inputs))

    @classmethod
    def from_chunks(cls, chunks: Callable[[], Iterator[Float32]], rows: int) -> Scaler:
        """Fit a scaler on training rows read in parts; the sizes of the parts do not matter.

        Args:
            chunks: function that returns an iterator over the parts (k, width); called twice.
            rows: number of rows of all parts.
        """
        mean = _sum_rows(chunks()) / rows
        deviation = np.sqrt(_sum_rows((part - mean) ** 2 for part in chunks()) / rows)
        return cls(mean, np.where(deviation > 1e-6, deviation, 1.0))


def _sum_rows(parts: Iterator[Float32 | FloatArray]) -> FloatArray:
    """Sum (width,) over the rows of all parts, in their order.

    Later rows are added one by one to the sum of those before, as numpy does in one whole array,
    so that the sizes of the parts do not change the rounding.
    """
    total: FloatArray = next(parts).sum(axis=0, dtype=np.float64)
    for part in parts:
        total = np.concatenate([total[None], part]).sum(axis=0, dtype=np.float64)
    return total


@dataclass(frozen=True, eq=False)
class FoldRows:
    """Training side as one fold reads it.

    Attributes:
        fold: the fold, which names its training and validation rows.
        fit, val: positions of the training and validation rows in the training side.
        scaler: scaler of pooled embeddings (or of the mean token), fitted on training rows.
        encoder: encoder of clinical columns, fitted on training rows.
        tabular: (n, width) clinical columns of all training-side rows, encoded by ``encoder``.
        labels: (n,) class indices of all training-side rows.
    """

    fold: Fold
    fit: IntArray
    val: IntArray
    scaler: Scaler
    encoder: TabularColumns
    tabular: Float32
    labels: IntArray

    @property
    def minority(self) -> IntArray:
        """Indices of the classes with fewer training images than the largest class."""
        counts = np.bincount(self.labels[self.fit])
        return np.flatnonzero(counts < counts.max())


class TrainingRows:
    """Training side of one study, prepared for its folds.

    Args:
        train: rows from which models may learn.
        folds: inner folds, or one fold without validation rows for a refit.
        source: frozen representations of the images.
        tokens: True to learn from spatial tokens, False from pooled embeddings.
        seed: seed of the resampling.
        tta: number of augmented views; the probability of a scored row is averaged over them and
            the image itself.
    """

    def __init__(
        self,
        train: Dataset,
        folds: Sequence[Fold],
        source: ImageSource,
        *,
        tokens: bool,
        seed: int,
        tta: int = 0,
    ) -> None:
        self.train, self.source, self.tokens, self.seed = train, source, tokens, seed
        self.tta = tta
        prepared: dict[tuple[int, int], FoldRows] = {}  # networks of one fold share its rows
        self.folds = []
        for fold in folds:
            key = id(fold.fit), id(fold.val)
            rows = prepared.setdefault(key, prepared.get(key) or self._fold_rows(fold))
            self.folds.append(replace(rows, fold=fold))
        self._resampled: dict[tuple[str, str], Resampled] = {}

    @cached_property
    def images(self) -> ImageRows:
        """Inputs of every training-side row in view 0, the image itself."""
        return self.view(0)

    def view(self, view: int) -> ImageRows:
        """Return the inputs of every training-side row in view number ``view``."""
        ids = self.train.ids.tolist()
        if isinstance(self.source, StoredSource):
            return self.source.stored(ids, view, tokens=self.tokens)
        return self.source.tokens(ids, view) if self.tokens else self.source.pooled(ids, view)

    def resampled(self, which: int, sampler: str) -> Resampled:
        """Return the resampled training rows of fold number ``which``; computed once a study."""
        rows = self.folds[which]
        key = (rows.fold.name, sampler)
        if key not in self._resampled:
            self._resampled[key] = self._resample_fold(rows, sampler)
        return self._resampled[key]

    def _resample_fold(self, rows: FoldRows, sampler: str) -> Resampled:
        labels, seed = rows.labels[rows.fit], derive_seed(self.seed, rows.fold.name, "resample")
        if self.tokens or SAMPLERS.named(sampler).real_rows:
            return resample(sampler, np.zeros((len(labels), 0), np.float32), labels, seed=seed)
        if len(self.train) <= MANY:
            return resample(sampler, self._scaled(rows), labels, seed=seed)
        return resample_many(sampler, partial(self._scaled, rows), labels, seed=seed)

    def _scaled(self, rows: FoldRows, at: IntArray | slice = slice(None)) -> Float32:
        """Scaled inputs (k, width) of the fold's training rows, or of those at positions ``at``."""
        mean, scale = rows.scaler.mean.astype(np.float32), rows.scaler.scale.astype(np.float32)
        image = (self.images[rows.fit[at]] - mean) / scale
        return np.concatenate([image, rows.tabular[rows.fit[at]]], axis=1)

    def _fold_rows(self, fold: Fold) -> FoldRows:
        features = self.train.features
        fit, val = features.positions(fold.fit), features.positions(fold.val)
        encoder = TabularColumns.fit(features.columns, features.tabular[fit])
        return FoldRows(
            fold,
            fit,
            val,
            Scaler.from_chunks(lambda: self._read_chunks(fit), len(fit)),
            encoder,
            encoder.transform(features.tabular).astype(np.float32),
            self.train.labels,
        )

    def _read_chunks(self, at: IntArray) -> Iterator[Float32]:
        """Yield pooled embeddings or mean tokens (k, width) of the rows ``at``, part by part."""
        step = max(1, CHUNK_BYTES // (4 * int(np.prod(self.images.shape[1:]))))
        for start in range(0, len(at), step):
            inputs = self.images[at[start : start + step]].astype(np.float32)
            yield inputs.mean(axis=1) if self.tokens else inputs
