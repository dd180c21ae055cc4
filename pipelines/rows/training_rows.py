"""What a study's rows give every trial alike: inputs, scalers, encoders, resampled rows.

Everything here is learnt from each fold's own fitting rows. None of it depends on a
hyper-parameter other than the sampler's name, so a worker keeps it from trial to trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from outerfold.pipelines.rows.resample import REAL_ROW_SAMPLERS, Resampled, resample, resample_many
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.storage.cache.row_store import StoredRows
from outerfold.storage.records import Dataset, FloatArray, Fold, IntArray
from outerfold.storage.seeds import derive

Float32 = NDArray[np.float32]
Float16 = NDArray[np.float16]
ImageRows = StoredRows | Float32 | Float16
"""(n, dim) or (n, tokens, token_dim), on disk or in memory; positions give an array."""

CHUNK_BYTES = 1 << 23
"""Of rows read at once while statistics are taken."""
MANY = 10_000
"""Training-side rows up to which a sampler's made rows are computed at once and held: neighbours
are compared pair by pair, and a made row takes as much memory as an image."""


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


@runtime_checkable
class StoredSource(Protocol):
    """A source that keeps its rows on disk and need not hand out copies."""

    def stored(self, ids: Sequence[str], view: int = 0, *, tokens: bool) -> StoredRows:
        """What ``tokens`` or ``pooled`` would return, left on disk."""


@dataclass(frozen=True)
class ByEncoder:
    """A source for each of several encoders, the first being the one that data are audited by."""

    sources: tuple[tuple[str, ImageSource], ...]

    def of(self, encoder: str) -> ImageSource:
        """The source of one encoder, by its name."""
        return dict(self.sources)[encoder]


Sources = ImageSource | ByEncoder


def source_of(sources: Sources, encoder: str) -> ImageSource:
    """What an encoder says of the images; the only source there is, whatever the name."""
    return sources.of(encoder) if isinstance(sources, ByEncoder) else sources


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and spread (width,) of fitting rows; a constant input keeps spread 1."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, inputs: Float32) -> Scaler:
        """From ``inputs (n, width)``, the rows that fit."""
        return cls.of(lambda: iter([inputs]), len(inputs))

    @classmethod
    def of(cls, chunks: Callable[[], Iterator[Float32]], rows: int) -> Scaler:
        """The same from parts of ``rows``, gone through twice; the parts' sizes have no effect.

        A later part is added row by row to the sum of those before, as in one whole array.
        """
        mean = _total(chunks()) / rows
        spread = np.sqrt(_total((part - mean) ** 2 for part in chunks()) / rows)
        return cls(mean, np.where(spread > 1e-6, spread, 1.0))


def _total(parts: Iterator[Float32 | FloatArray]) -> FloatArray:
    """(width,) sum over the rows of all parts, in their order."""
    total: FloatArray = next(parts).sum(axis=0, dtype=np.float64)
    for part in parts:
        total = np.concatenate([total[None], part]).sum(axis=0, dtype=np.float64)
    return total


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
    encoder: TabularColumns
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
        tta: augmented views over which, with the image itself, a row that scores is averaged.
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
        """The untouched image of every training-side row."""
        return self.view(0)

    def view(self, view: int) -> ImageRows:
        """The same of augmented view ``view``."""
        ids = self.train.ids.tolist()
        if isinstance(self.source, StoredSource):
            return self.source.stored(ids, view, tokens=self.tokens)
        return self.source.tokens(ids, view) if self.tokens else self.source.pooled(ids, view)

    def resampled(self, which: int, sampler: str) -> Resampled:
        """Rows of fold number ``which`` after resampling; computed once a study."""
        rows = self.folds[which]
        key = (rows.fold.name, sampler)
        if key not in self._resampled:
            self._resampled[key] = self._resample(rows, sampler)
        return self._resampled[key]

    def _resample(self, rows: FoldRows, sampler: str) -> Resampled:
        labels, seed = rows.labels[rows.fit], derive(self.seed, rows.fold.name, "resample")
        if self.tokens or sampler in REAL_ROW_SAMPLERS:
            return resample(sampler, np.zeros((len(labels), 0), np.float32), labels, seed=seed)
        if len(self.train) <= MANY:
            return resample(sampler, self._scaled(rows), labels, seed=seed)
        return resample_many(sampler, partial(self._scaled, rows), labels, seed=seed)

    def _scaled(self, rows: FoldRows, at: IntArray | slice = slice(None)) -> Float32:
        """Inputs of the fitting rows, or of those at positions ``at`` among them."""
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
            Scaler.of(lambda: self._chunks(fit), len(fit)),
            encoder,
            encoder.transform(features.tabular).astype(np.float32),
            self.train.labels,
        )

    def _chunks(self, at: IntArray) -> Iterator[Float32]:
        """Pooled embeddings or mean tokens of some rows, some at a time."""
        step = max(1, CHUNK_BYTES // (4 * int(np.prod(self.images.shape[1:]))))
        for start in range(0, len(at), step):
            inputs = self.images[at[start : start + step]].astype(np.float32)
            yield inputs.mean(axis=1) if self.tokens else inputs
