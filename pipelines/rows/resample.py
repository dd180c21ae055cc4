"""Samplers that balance classes; each sees the training rows of one fold and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Generator
from torch.utils.data import WeightedRandomSampler

from outerfold.pipelines.rows.samplers import SAMPLERS
from outerfold.pipelines.rows.smote_large import NO_PAIRS, POOL, Pairs, draw_pairs
from outerfold.storage.records import Float32, FloatArray, IntArray
from outerfold.storage.registry import load_part

NEIGHBOURS = 5
"""Nearest rows of the same class among which SMOTE interpolates."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """Rows on which one fold trains: m real ones and s synthetic ones.

    Attributes:
        rows: (m,) positions among the fold's own training rows; a position may repeat.
        synthetic: (s, width) interpolated inputs, appended after ``rows``.
        labels: (m + s,) class indices of real, then synthetic rows.
        weights: (m + s,) sampling weight of each row in every epoch; None draws each row once.
        note: a sentence where the sampler could not work as requested; else empty.
        pairs: (s,) synthetic rows that are computed when a batch needs them; then ``synthetic`` is
            empty.
    """

    rows: IntArray
    synthetic: Float32
    labels: IntArray
    weights: FloatArray | None = None
    note: str = ""
    pairs: Pairs = NO_PAIRS

    @property
    def made(self) -> int:
        """Number of synthetic rows, s."""
        return len(self.labels) - len(self.rows)

    def order(self, *, shuffle: np.random.Generator, draw: Generator) -> IntArray:
        """Draw the training order of one epoch: positions (m + s,) among all rows."""
        if self.weights is None:
            return shuffle.permutation(len(self.labels)).astype(np.int64)
        chosen = WeightedRandomSampler(self.weights.tolist(), len(self.weights), generator=draw)
        return np.fromiter(chosen, dtype=np.int64, count=len(self.weights))

    def seen(self, classes: int) -> FloatArray:
        """Expected number of images of each class in one epoch, (classes,)."""
        if self.weights is None:
            return np.bincount(self.labels, minlength=classes).astype(np.float64)
        share = np.bincount(self.labels, weights=self.weights, minlength=classes)
        expected: FloatArray = share / share.sum() * len(self.labels)
        return expected


def resample(sampler: str, inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """Balance the classes of one fold's training rows.

    Args:
        sampler: one of ``SAMPLERS``.
        inputs: (n, width) scaled rows; only the interpolating samplers read them.
        labels: (n,) class indices.
        seed: seed of the repeats and interpolations.

    Raises:
        DataError: an unknown sampler.

    The samplers interpolate between rows of one class among one fold's training rows, so no
    synthetic row contains data of a validation patient. A class with too few rows for all
    neighbours uses as many as it has. If a class has one row, rows are repeated instead of
    interpolated. ``note`` reports both cases.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> inputs = np.zeros((4, 2), dtype=np.float32)
        >>> resample("over", inputs, labels, seed=0).seen(2).tolist()
        [3.0, 3.0]
    """
    found: Resampled = load_part(SAMPLERS.named(sampler).resample)(inputs, labels, seed=seed)
    return found


def keep_rows(inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """Every row once."""
    return Resampled(np.arange(len(labels), dtype=np.int64), inputs[:0], labels)


def weigh_rows(inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """Rows drawn in every epoch with the inverse frequency of their class."""
    weights = 1.0 / np.bincount(labels)[labels]
    return replace(keep_rows(inputs, labels, seed=seed), weights=weights)


def repeat_rows(inputs: Float32, labels: IntArray, *, seed: int, note: str = "") -> Resampled:
    """Rows of smaller classes repeated until all classes have the same number."""
    every = np.arange(len(labels), dtype=np.int64)
    return _repeat_rows(every, inputs[:0], labels, seed, note)


def interpolate_rows(inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """SMOTE (Chawla et al. 2002): new rows between neighbours of a smaller class."""
    return _interpolate_rows("smote", inputs, labels, seed)


def interpolate_and_clean(inputs: Float32, labels: IntArray, *, seed: int) -> Resampled:
    """SMOTE without the rows of Tomek links."""
    return _interpolate_rows("smote_tomek", inputs, labels, seed)


def _repeat_rows(
    every: IntArray, nothing: Float32, labels: IntArray, seed: int, note: str = ""
) -> Resampled:
    if len(np.unique(labels)) < 2:
        return Resampled(every, nothing, labels, note=note)
    from imblearn.over_sampling import (
        RandomOverSampler,  # takes a second to load, so other samplers do not load it
    )

    chosen = RandomOverSampler(random_state=seed % 2**32)
    chosen.fit_resample(every[:, None], labels)
    rows = np.asarray(chosen.sample_indices_, dtype=np.int64)
    return Resampled(rows, nothing, labels[rows], note=note)


def _interpolate_rows(sampler: str, inputs: Float32, labels: IntArray, seed: int) -> Resampled:
    from imblearn.over_sampling import SMOTE
    from imblearn.under_sampling import TomekLinks

    n = len(labels)
    every, nothing = np.arange(n, dtype=np.int64), inputs[:0]
    counts = np.unique(labels, return_counts=True)[1]
    smallest = int(counts.min())
    if smallest < 2 or len(counts) < 2:
        note = f"{sampler}: a class has {smallest} training image, so rows were repeated instead"
        return _repeat_rows(every, nothing, labels, seed, note)
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
    """``resample`` for an interpolating sampler on too many rows to hold or to compare in memory.

    Args:
        sampler: one of ``SAMPLERS`` that makes rows, such as ``smote``.
        read: function from positions (k,) of training rows to their scaled inputs (k, width).
        labels: (n,) class indices.
        seed: seed of the repeats and interpolations.
    """
    many = SAMPLERS.named(sampler).many
    if many is None:
        return resample(sampler, read(np.arange(len(labels))), labels, seed=seed)
    found: Resampled = load_part(many)(read, labels, seed=seed)
    return found


def interpolate_many(
    read: Callable[[IntArray], Float32], labels: IntArray, *, seed: int
) -> Resampled:
    """``interpolate_rows`` that reads the rows it needs."""
    return _interpolate_many("smote", read, labels, seed, [])


def interpolate_most(
    read: Callable[[IntArray], Float32], labels: IntArray, *, seed: int
) -> Resampled:
    """``interpolate_and_clean`` without the cleaning, for which all rows would be compared."""
    return _interpolate_many("smote_tomek", read, labels, seed, ["no Tomek links sought"])


def _interpolate_many(
    sampler: str,
    read: Callable[[IntArray], Float32],
    labels: IntArray,
    seed: int,
    limits: list[str],
) -> Resampled:
    every, nothing = np.arange(len(labels), dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < 2 or len(counts) < 2:
        return _interpolate_rows(sampler, nothing, labels, seed)
    pairs, kinds, pool = draw_pairs(read, labels, neighbours=NEIGHBOURS, seed=seed)
    found = [f"neighbours among {POOL:,} rows of a class at most"] if pool == POOL else []
    found += limits
    note = f"{sampler} among {len(labels):,} training images: {', '.join(found)}" if found else ""
    return Resampled(every, nothing, np.concatenate([labels, kinds]), note=note, pairs=pairs)
