"""SMOTE among so many rows that its neighbours are sought among some of them only.

What is made is kept as two rows and a share, 20 bytes, and laid together when a batch wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.records import IntArray

Float32 = NDArray[np.float32]

POOL = 8192
"""Rows of a class that neighbours are sought among; all of them would take time as their square,
and memory for every row."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows (s,) on the line between two real ones, which are positions as ``Resampled.rows``.

    Attributes:
        first, second: (s,) the real rows.
        share: (s,) of the way from the first to the second, in [0, 1).
    """

    first: IntArray
    second: IntArray
    share: Float32

    def __len__(self) -> int:
        return len(self.share)

    def between(self, rows: Float32) -> Float32:
        """(s, width) the made rows of ``rows (n, width)``."""
        start = rows[self.first]
        return np.asarray(start + self.share[:, None] * (rows[self.second] - start))


NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def blend(
    read: Callable[[IntArray], Float32], labels: IntArray, *, neighbours: int, seed: int
) -> tuple[Pairs, IntArray, int]:
    """Pairs that bring every class to the size of the largest, their labels, and the largest pool.

    Chawla et al. (2002), SMOTE, over at most ``POOL`` rows of a class, drawn anew for each.

    Args:
        read: scaled inputs (len(at), width) of rows at positions.
        labels: (n,) of all rows; a class that is made rows of has two or more.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    parts, kinds, largest = [NO_PAIRS], [np.zeros(0, np.int64)], 0
    for label in np.flatnonzero((counts > 0) & (counts < counts.max())).tolist():
        own = np.flatnonzero(labels == label)
        pool = np.sort(rng.choice(own, POOL, replace=False)) if len(own) > POOL else own
        want = int(counts.max() - counts[label])
        parts.append(_between_neighbours(read(pool), pool, want, neighbours, rng))
        kinds.append(np.full(want, label, dtype=np.int64))
        largest = max(largest, len(pool))
    pairs = Pairs(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.share for part in parts]),
    )
    return pairs, np.concatenate(kinds), largest


def _between_neighbours(
    inputs: Float32, rows: IntArray, want: int, neighbours: int, rng: np.random.Generator
) -> Pairs:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(neighbours, len(rows) - 1)).fit(inputs)
    near = search.kneighbors(return_distance=False)  # without the row itself
    first = rng.integers(0, len(rows), want)
    second = near[first, rng.integers(0, near.shape[1], want)]
    return Pairs(rows[first], rows[second], rng.random(want, dtype=np.float32))
