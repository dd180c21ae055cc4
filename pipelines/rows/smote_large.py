"""SMOTE for large data: neighbours are sought among a random part of the rows.

A synthetic row is stored as two positions and a share, 20 bytes, and computed when a batch needs
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outerfold.storage.records import Float32, IntArray

POOL = 8192
"""Largest number of rows of a class among which neighbours are sought. The time of a search grows
with the square of the rows, and each row takes memory."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Synthetic rows (s,), each on the line between two real rows.

    Attributes:
        first, second: (s,) positions of the real rows, as in ``Resampled.rows``.
        share: (s,) position on the line from the first row (0) to the second (1), in [0, 1).
    """

    first: IntArray
    second: IntArray
    share: Float32

    def __len__(self) -> int:
        return len(self.share)

    def between(self, rows: Float32) -> Float32:
        """Interpolate the synthetic rows (s, width) between the real rows ``rows`` (n, width)."""
        start = rows[self.first]
        return np.asarray(start + self.share[:, None] * (rows[self.second] - start))


NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def draw_pairs(
    read: Callable[[IntArray], Float32], labels: IntArray, *, neighbours: int, seed: int
) -> tuple[Pairs, IntArray, int]:
    """Draw the pairs that bring every class to the size of the largest class.

    The method is SMOTE (Chawla et al. 2002). Neighbours of a class are sought among at most
    ``POOL`` of its rows, drawn at random for each class.

    Args:
        read: function from positions (k,) of rows to their scaled inputs (k, width).
        labels: (n,) class indices of all rows; every class that gets synthetic rows has two or
            more.
        neighbours: number of nearest rows of the same class.
        seed: seed of the draws.

    Returns:
        The pairs, their class indices (s,), and the largest number of rows searched in a class.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    parts, kinds, largest = [NO_PAIRS], [np.zeros(0, np.int64)], 0
    for label in np.flatnonzero((counts > 0) & (counts < counts.max())).tolist():
        own = np.flatnonzero(labels == label)
        pool = np.sort(rng.choice(own, POOL, replace=False)) if len(own) > POOL else own
        want = int(counts.max() - counts[label])
        parts.append(_pair_neighbours(read(pool), pool, want, neighbours, rng))
        kinds.append(np.full(want, label, dtype=np.int64))
        largest = max(largest, len(pool))
    pairs = Pairs(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.share for part in parts]),
    )
    return pairs, np.concatenate(kinds), largest


def _pair_neighbours(
    inputs: Float32, rows: IntArray, want: int, neighbours: int, rng: np.random.Generator
) -> Pairs:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(neighbours, len(rows) - 1)).fit(inputs)
    near = search.kneighbors(return_distance=False)  # a row is not its own neighbour
    first = rng.integers(0, len(rows), want)
    second = near[first, rng.integers(0, near.shape[1], want)]
    return Pairs(rows[first], rows[second], rng.random(want, dtype=np.float32))
