"""Answers to class imbalance, each given the training rows of one fold and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Generator
from torch.utils.data import WeightedRandomSampler

from outerfold.pipelines.rows.smote_large import NO_PAIRS, POOL, Pairs, blend
from outerfold.storage.records import FloatArray, IntArray

Float32 = NDArray[np.float32]
SAMPLERS = ("none", "weighted", "over", "smote", "smote_tomek")
REAL_ROW_SAMPLERS = SAMPLERS[:3]
"""Samplers that make no new rows, and so suit inputs that cannot be interpolated."""

NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Resampled:
    """The rows one fold trains on.

    Attributes:
        rows: (m,) positions among the fold's own training rows; repeats allowed.
        synthetic: (s, width) interpolated inputs, appended after ``rows``.
        pairs: (s,) rows that are made when a batch wants them; then ``synthetic`` is empty.
        labels: (m + s,) of both.
        weights: (m + s,) sampling weight of each row in every epoch, or None for each row once.
        note: a sentence where the sampler asked for could not be used as asked; else empty.
    """

    rows: IntArray
    synthetic: Float32
    labels: IntArray
    weights: FloatArray | None = None
    note: str = ""
    pairs: Pairs = NO_PAIRS

    @property
    def made(self) -> int:
        """Rows that are no real ones."""
        return len(self.labels) - len(self.rows)

    def order(self, *, shuffle: np.random.Generator, draw: Generator) -> IntArray:
        """(m + s,) rows of one epoch, in training order."""
        if self.weights is None:
            return shuffle.permutation(len(self.labels)).astype(np.int64)
        chosen = WeightedRandomSampler(self.weights.tolist(), len(self.weights), generator=draw)
        return np.fromiter(chosen, dtype=np.int64, count=len(self.weights))

    def seen(self, classes: int) -> FloatArray:
        """Expected images of each class (classes,) in one epoch."""
        if self.weights is None:
            return np.bincount(self.labels, minlength=classes).astype(np.float64)
        share = np.bincount(self.labels, weights=self.weights, minlength=classes)
        expected: FloatArray = share / share.sum() * len(self.labels)
        return expected


def resample(sampler: str, inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """Balance the classes of one fold's training rows.

    Args:
        sampler: one of ``SAMPLERS``.
        inputs: (n, width) scaled rows; read by the interpolating samplers alone.
        labels: (n,).
        seed: of the repeats and interpolations.

    Interpolation happens between rows of one class and one fold's training side, so no made
    row holds anything of a patient that validates. A class with fewer rows than neighbours
    uses as many as it has; a class of one row is repeated instead, and the note says so.
    """
    every = np.arange(len(labels), dtype=np.int64)
    nothing = inputs[:0]
    if sampler == "none":
        return Resampled(every, nothing, labels)
    if sampler == "weighted":
        return Resampled(every, nothing, labels, weights=1.0 / np.bincount(labels)[labels])
    if sampler == "over":
        return _repeat(every, nothing, labels, seed)
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; known are {list(SAMPLERS)}")
    return _interpolate(sampler, inputs, labels, seed)


def _repeat(
    every: IntArray, nothing: Float32, labels: IntArray, seed: int, note: str = ""
) -> Resampled:
    if len(np.unique(labels)) < 2:
        return Resampled(every, nothing, labels, note=note)
    from imblearn.over_sampling import (
        RandomOverSampler,  # a second to load: no trial but such waits
    )

    chosen = RandomOverSampler(random_state=seed % 2**32)
    chosen.fit_resample(every[:, None], labels)
    rows = np.asarray(chosen.sample_indices_, dtype=np.int64)
    return Resampled(rows, nothing, labels[rows], note=note)


def _interpolate(sampler: str, inputs: Float32, labels: IntArray, seed: int) -> Resampled:
    from imblearn.over_sampling import SMOTE
    from imblearn.under_sampling import TomekLinks

    n = len(labels)
    every, nothing = np.arange(n, dtype=np.int64), inputs[:0]
    counts = np.bincount(labels)
    smallest = int(counts[counts > 0].min())
    if smallest < 2 or (counts > 0).sum() < 2:
        note = f"{sampler}: a class has {smallest} training image, so rows were repeated instead"
        return _repeat(every, nothing, labels, seed, note)
    neighbours = min(NEIGHBOURS, smallest - 1)
    smote = SMOTE(random_state=seed % 2**32, k_neighbors=neighbours)
    grown, grown_labels = smote.fit_resample(inputs, labels)
    kept = np.arange(len(grown_labels))
    if sampler == "smote_tomek":
        links = TomekLinks(sampling_strategy="all")
        links.fit_resample(grown, grown_labels)
        kept = np.sort(links.sample_indices_)
    note = (
        f"{sampler}: {neighbours} neighbours instead of {NEIGHBOURS}, "
        f"for a class of {smallest} training images"
    )
    return Resampled(
        kept[kept < n].astype(np.int64),
        np.asarray(grown[kept[kept >= n]]),
        np.asarray(grown_labels[kept], dtype=np.int64),
        note=note if neighbours < NEIGHBOURS else "",
    )


def resample_many(
    sampler: str, read: Callable[[IntArray], Float32], labels: IntArray, *, seed: int
) -> Resampled:
    """``resample`` for a sampler that makes rows, among too many rows to hold or to compare.

    Args:
        read: scaled inputs (len(at), width) of training rows at positions.
    """
    every, nothing = np.arange(len(labels), dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
    counts = np.bincount(labels)
    if int(counts[counts > 0].min()) < 2 or (counts > 0).sum() < 2:
        return resample(sampler, nothing, labels, seed=seed)
    pairs, kinds, pool = blend(read, labels, neighbours=NEIGHBOURS, seed=seed)
    found = [f"neighbours among {POOL:,} rows of a class at most"] if pool == POOL else []
    if sampler == "smote_tomek":
        found.append("no Tomek links sought")
    note = f"{sampler} among {len(labels):,} training images: {', '.join(found)}" if found else ""
    return Resampled(every, nothing, np.concatenate([labels, kinds]), note=note, pairs=pairs)
