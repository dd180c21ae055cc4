"""Search for cropped copies: images of different patients, one of which shows part of the other.

A perceptual hash misses them, because a crop of a tenth shifts everything that the hash measures.
So frozen embeddings propose, for each image, the most similar images of other patients; then the
reduced images of each pair are compared at every position and at sizes down to four fifths. The
embeddings alone cannot decide: on 1,875 ultrasounds a copy saved at JPEG quality 30 is often less
similar to its original (cosine 0.93) than an image of another patient is (0.97).
``docs/leaks.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.audit.near_duplicates import compute_signatures, find_pairs, remove_outline
from outerfold.storage.records import Float32, IntArray, StrArray

NEAREST_SHOWN = 3
"""Number of nearest images of other patients that are compared with each image."""
WHITENED = 256
"""Largest number of principal directions, each scaled to standard deviation 1. The cosine of raw
embeddings is 0.9 for any two scans of one organ and finds 80 % of the cropped copies; that of
scaled directions finds 90 %."""

PATCH_SIDE = 32
SIZES = tuple(range(26, PATCH_SIDE + 1))
"""Sides, in pixels, to which an image is reduced before it is searched in the other image, which
has sides of ``PATCH_SIDE``: crops of up to a fifth are found."""
ROUGH, PROMISING = SIZES[::2], 0.45
"""Every second size is tried first, and all sizes only on pairs of at least this likeness, which
takes less than half the time. A cropped ultrasound has a likeness of at least 0.59 at the rough
sizes."""
MIN_OVERLAP, SPREADS = 0.62, 6.0
"""A pair overlaps if its likeness is at least the first number and lies the second number of
standard deviations above the median of all compared pairs. On 1,875 ultrasounds this finds three
pairs (0.65 to 0.87), each of one patient under two names; the most similar pair that only shares a
caption reaches 0.59. Mammograms share an outline (median 0.5, up to 0.84), so hardly any pair of
them is found.
"""
MOST_IMAGES = 50_000
"""Largest number of images for which overlaps are searched. The time grows with its square (20,000
images: half a minute on one core), and all embeddings are in memory (50,000 of 1280 numbers:
256 MB)."""
BLOCK = 1 << 22
"""Cosines in memory at once during the search for neighbours (16 MiB)."""
PAIRS = 256
"""Pairs compared at once; with their spectra they take about 10 MiB."""


@dataclass(frozen=True)
class Overlap:
    """Rows of two images of different patients that share a picture, ``first < second``.

    Attributes:
        likeness: largest correlation of fine detail over positions and sizes, at most 1.
    """

    first: int
    second: int
    likeness: float


def find_overlaps(
    embeddings: Float32, images: Sequence[str], patients: StrArray
) -> tuple[Overlap, ...]:
    """Pairs of images that overlap but are no near-duplicates as a whole, most similar first.

    Args:
        embeddings: (n, dim) frozen embedding of each image.
        images: (n,) paths of readable image files.
        patients: (n,) patient names; images of one patient are never a pair.
    """
    pairs = nearest_pairs(whiten(embeddings), patients)
    if not len(pairs):
        return ()
    rows, at = np.unique(pairs, return_inverse=True)
    first, second = at.reshape(pairs.shape).T
    signatures = compute_signatures([images[row] for row in rows.tolist()])
    near_duplicates = {(pair.first, pair.second) for pair in find_pairs(signatures)}
    likeness = measure_likeness(remove_outline(signatures.thumbnails), first, second)
    found = [
        Overlap(int(pairs[i, 0]), int(pairs[i, 1]), float(likeness[i]))
        for i in np.flatnonzero(likeness >= likeness_threshold(likeness)).tolist()
        if (int(first[i]), int(second[i])) not in near_duplicates
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.likeness, pair.first, pair.second)))


def whiten(embeddings: Float32) -> Float32:
    """Unit vectors (n, width) of embeddings (n, dim) along their leading principal directions.

    Each direction is scaled to standard deviation 1 before the vectors are given length 1.
    """
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    width = min(WHITENED, len(centred) // 4, int((values > 1e-6 * values[-1]).sum()))
    lead = vectors[:, -width:] / np.sqrt(values[-width:]) if width else vectors[:, :0]
    found = centred @ lead.astype(np.float32)
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(norm > 0, norm, 1), dtype=np.float32)


def nearest_pairs(unit: Float32, patients: StrArray) -> IntArray:
    """Pairs (pairs, 2) of each row and its nearest rows of other patients, first < second.

    Args:
        unit: (n, width) unit vectors.
        patients: (n,) patient names.
    """
    n, people = len(unit), np.unique(patients, return_inverse=True)[1]
    if people.max(initial=0) == 0 or not unit.shape[1]:
        return np.zeros((0, 2), dtype=np.int64)
    found = []
    step = max(1, BLOCK // n)
    for start in range(0, n, step):
        here = np.arange(start, min(start + step, n))
        cosines = unit[here] @ unit.T
        cosines[people[here][:, None] == people] = -np.inf
        near = np.argpartition(-cosines, min(NEAREST_SHOWN, n) - 1, axis=1)[:, :NEAREST_SHOWN]
        real = np.isfinite(np.take_along_axis(cosines, near, axis=1))
        one = np.broadcast_to(here[:, None], near.shape)[real]
        found.append(np.sort(np.stack([one, near[real]], axis=1), axis=1))
    return np.asarray(np.unique(np.concatenate(found), axis=0), dtype=np.int64)


def likeness_threshold(likeness: Float32) -> float:
    """Smallest likeness of an overlapping pair, given that of all pairs (pairs,).

    It is at least ``MIN_OVERLAP``. Fisher's transform makes correlations nearly normal. The
    standard deviation is estimated from the median absolute deviation (times 1.4826), so that a
    few copies among the pairs do not raise it.
    """
    z = np.arctanh(np.clip(likeness.astype(np.float64), -0.999, 0.999))
    middle = float(np.median(z))
    spread = 1.4826 * float(np.median(np.abs(z - middle)))
    return max(MIN_OVERLAP, float(np.tanh(middle + SPREADS * spread)))


def measure_likeness(pictures: NDArray[np.float64], first: IntArray, second: IntArray) -> Float32:
    """Likeness (pairs,) of ``pictures[first]`` and ``pictures[second]``; either may be the part.

    Args:
        pictures: (n, PATCH_SIDE, PATCH_SIDE) grey values.
        first, second: (pairs,) positions in ``pictures``.
    """
    from joblib import Parallel, delayed

    pixels = pictures.astype(np.float32)
    parts = [slice(start, start + PAIRS) for start in range(0, len(first), PAIRS)]
    likeness = Parallel(n_jobs=4, prefer="threads")(
        delayed(_best_likeness)(pixels[first[part]], pixels[second[part]]) for part in parts
    )
    return np.concatenate([np.zeros(0, dtype=np.float32), *likeness])


def _best_likeness(one: Float32, two: Float32) -> Float32:
    likeness = np.maximum(
        _correlate_with_parts(one, two, ROUGH), _correlate_with_parts(two, one, ROUGH)
    )
    fine = likeness >= PROMISING
    if fine.any():
        likeness[fine] = np.maximum(
            _correlate_with_parts(one[fine], two[fine]), _correlate_with_parts(two[fine], one[fine])
        )
    return likeness


def _correlate_with_parts(small: Float32, large: Float32, sizes: Sequence[int] = SIZES) -> Float32:
    """Largest correlation (pairs,) of ``small``, reduced, with a part of ``large``.

    Both are (pairs, PATCH_SIDE, PATCH_SIDE). The result is the normalised cross-correlation.

    Reference: Lewis (1995), Fast normalized cross-correlation.
    """
    from scipy.fft import irfft2, rfft2

    best = np.full(len(small), -1.0, dtype=np.float32)
    spectrum = rfft2(large)
    sums, squares = _sum_table(large), _sum_table(large * large)
    for shrunk in _reduce_pictures(small, sizes):
        height, width = shrunk.shape[1:]
        centred = shrunk - shrunk.mean(axis=(1, 2), keepdims=True)
        norm = np.square(centred).sum(axis=(1, 2), dtype=np.float64)[:, None, None]
        # At these positions the part lies wholly inside the large image, so the values that the
        # Fourier transform wraps around the edges are left out.
        places = (slice(None), slice(PATCH_SIDE - height + 1), slice(PATCH_SIDE - width + 1))
        product = irfft2(
            spectrum * np.conj(rfft2(centred, (PATCH_SIDE, PATCH_SIDE))), (PATCH_SIDE, PATCH_SIDE)
        )[places]
        mass = _window_sums(sums, height, width)
        spread = _window_sums(squares, height, width) - mass * mass / (height * width)
        scale = np.sqrt(np.maximum(spread, 0) * norm)
        likeness = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 1e-3)
        best = np.maximum(best, likeness.max(axis=(1, 2)).astype(np.float32))
    return best


def _reduce_pictures(pictures: Float32, sizes: Sequence[int] = SIZES) -> Iterator[Float32]:
    """Pictures (n, height, width) for each pair of height and width in ``sizes``.

    All pairs are needed, since a crop may remove rows alone or columns alone.
    """
    shrink = {size: _reducing_matrix(size) for size in sizes}
    for height in sizes:
        lower = shrink[height] @ pictures
        for width in sizes:
            yield np.asarray(lower @ shrink[width].T, dtype=np.float32)


def _reducing_matrix(size: int) -> Float32:
    """Matrix (size, PATCH_SIDE) that reduces a column of pixels to ``size`` pixels, antialiased."""
    from PIL import Image

    unit = Image.fromarray(np.eye(PATCH_SIDE, dtype=np.float32))
    return np.asarray(unit.resize((PATCH_SIDE, size), Image.Resampling.BICUBIC), dtype=np.float32)


def _sum_table(pictures: Float32) -> NDArray[np.float64]:
    """Sums (n, PATCH_SIDE + 1, PATCH_SIDE + 1) of all pixels above and to the left."""
    total = np.zeros((len(pictures), PATCH_SIDE + 1, PATCH_SIDE + 1))
    total[:, 1:, 1:] = pictures.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    return total


def _window_sums(total: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Sums over every window (height, width), computed from the table of ``_sum_table``."""
    tall = total[:, height:] - total[:, :-height]
    return np.asarray(tall[:, :, width:] - tall[:, :, :-width])
