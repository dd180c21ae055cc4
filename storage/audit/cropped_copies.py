"""Cropped copies: images of different patients, one of which shows part of the other.

A crop of a tenth moves all that a perceptual hash looks at. So frozen embeddings name each image's
likeliest strangers, and the small images of a pair are laid over each other at every place and at
sizes down to four fifths. The embeddings alone do not tell: on 1,875 ultrasounds a copy saved at
JPEG quality 30 is often less like its original (cosine 0.93) than a stranger is (0.97).
``docs/leaks.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.audit.near_duplicates import detail, find_pairs, sign
from outerfold.storage.records import IntArray, StrArray

Float32 = NDArray[np.float32]

NEAREST_SHOWN = 3
"""Strangers of each image that are looked at."""
WHITENED = 256
"""Principal directions, each scaled to spread 1: a cosine of raw embeddings is 0.9 for any two
scans of one organ, and finds four in five cropped copies where this finds nine in ten."""

PATCH_SIDE = 32
SIZES = tuple(range(26, PATCH_SIDE + 1))
"""Sides, in pixels, that an image may have within the other: it was cropped by a fifth at most."""
ROUGH, PROMISING = SIZES[::2], 0.45
"""Every other size is tried first, and all only on pairs this alike: less than half the time. A
cropped ultrasound is at least 0.59 alike at the rough sizes."""
MIN_OVERLAP, SPREADS = 0.62, 6.0
"""A pair overlaps if its likeness is this large and this many spreads above the median of the pairs
that were looked at. On 1,875 ultrasounds that finds three pairs, all of one patient under two names
(0.65 to 0.87); the likest two that only share a caption reach 0.59. Mammograms share an outline
(median 0.5, up to 0.84), so among them hardly any pair stands out.
"""
MOST_IMAGES = 50_000
"""Images up to which overlaps are sought: time grows with their square (20,000: half a minute of
one core) and their embeddings are held at once (50,000 of 1280 numbers: 256 MB)."""
BLOCK = 1 << 22
"""Numbers held at once while neighbours are searched (16 MiB)."""
PAIRS = 256
"""Pairs laid over each other at once; with their spectra some 10 MiB."""


@dataclass(frozen=True)
class Overlap:
    """Rows of two images of different patients that share a picture, ``first < second``.

    Attributes:
        likeness: largest correlation of detail over places and sizes, at most 1.
    """

    first: int
    second: int
    likeness: float


def find_overlaps(
    embeddings: Float32, images: Sequence[str], patients: StrArray
) -> tuple[Overlap, ...]:
    """Pairs that overlap and are not near-duplicates as a whole, the likest first.

    Args:
        embeddings: (n, dim) one frozen representation an image.
        images: (n,) readable files.
        patients: (n,) names; images of one patient are never a pair.
    """
    pairs = strangers(whitened(embeddings), patients)
    if not len(pairs):
        return ()
    rows, at = np.unique(pairs, return_inverse=True)
    first, second = at.reshape(pairs.shape).T
    signatures = sign([images[row] for row in rows.tolist()])
    told = {(pair.first, pair.second) for pair in find_pairs(signatures)}
    likeness = overlap(detail(signatures.thumbnails), first, second)
    found = [
        Overlap(int(pairs[i, 0]), int(pairs[i, 1]), float(likeness[i]))
        for i in np.flatnonzero(likeness >= outstanding(likeness)).tolist()
        if (int(first[i]), int(second[i])) not in told
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.likeness, pair.first, pair.second)))


def whitened(embeddings: Float32) -> Float32:
    """(n, width) unit vectors in the leading principal directions, each scaled to spread 1."""
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    width = min(WHITENED, len(centred) // 4, int((values > 1e-6 * values[-1]).sum()))
    lead = vectors[:, -width:] / np.sqrt(values[-width:]) if width else vectors[:, :0]
    found = centred @ lead.astype(np.float32)
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(norm > 0, norm, 1), dtype=np.float32)


def strangers(unit: Float32, patients: StrArray) -> IntArray:
    """(pairs, 2) rows, first < second, of each row and its nearest rows of other patients."""
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


def outstanding(likeness: Float32) -> float:
    """Likeness (pairs,) from which on a pair is unlike the others, at least ``MIN_OVERLAP``.

    Fisher's transform makes correlations near normal; the spread is from the median deviation, so
    that a few copies among the pairs do not hide themselves.
    """
    z = np.arctanh(np.clip(likeness.astype(np.float64), -0.999, 0.999))
    middle = float(np.median(z))
    spread = 1.4826 * float(np.median(np.abs(z - middle)))
    return max(MIN_OVERLAP, float(np.tanh(middle + SPREADS * spread)))


def overlap(pictures: NDArray[np.float64], first: IntArray, second: IntArray) -> Float32:
    """(pairs,) likeness of two pictures (SIDE, SIDE), whichever of the two is part of the other."""
    from joblib import Parallel, delayed

    pixels = pictures.astype(np.float32)
    parts = [slice(start, start + PAIRS) for start in range(0, len(first), PAIRS)]
    likeness = Parallel(n_jobs=4, prefer="threads")(
        delayed(_either_way)(pixels[first[part]], pixels[second[part]]) for part in parts
    )
    return np.concatenate([np.zeros(0, dtype=np.float32), *likeness])


def _either_way(one: Float32, two: Float32) -> Float32:
    likeness = np.maximum(_within(one, two, ROUGH), _within(two, one, ROUGH))
    fine = likeness >= PROMISING
    if fine.any():
        likeness[fine] = np.maximum(_within(one[fine], two[fine]), _within(two[fine], one[fine]))
    return likeness


def _within(small: Float32, large: Float32, sizes: Sequence[int] = SIZES) -> Float32:
    """(pairs,) largest correlation of ``small``, shrunk, with a part of ``large``.

    Normalised cross-correlation: Lewis (1995), Fast normalized cross-correlation.
    """
    from scipy.fft import irfft2, rfft2

    best = np.full(len(small), -1.0, dtype=np.float32)
    spectrum = rfft2(large)
    sums, squares = _summed(large), _summed(large * large)
    for shrunk in _shrunk(small, sizes):
        height, width = shrunk.shape[1:]
        centred = shrunk - shrunk.mean(axis=(1, 2), keepdims=True)
        norm = np.square(centred).sum(axis=(1, 2), dtype=np.float64)[:, None, None]
        # Places where the part lies wholly inside, so the transform's wrapping round is not seen.
        places = (slice(None), slice(PATCH_SIDE - height + 1), slice(PATCH_SIDE - width + 1))
        product = irfft2(
            spectrum * np.conj(rfft2(centred, (PATCH_SIDE, PATCH_SIDE))), (PATCH_SIDE, PATCH_SIDE)
        )[places]
        mass = _windows(sums, height, width)
        spread = _windows(squares, height, width) - mass * mass / (height * width)
        scale = np.sqrt(np.maximum(spread, 0) * norm)
        likeness = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 1e-3)
        best = np.maximum(best, likeness.max(axis=(1, 2)).astype(np.float32))
    return best


def _shrunk(pictures: Float32, sizes: Sequence[int] = SIZES) -> Iterator[Float32]:
    """Every combination of heights and widths in ``sizes``, since a crop may be of one side."""
    shrink = {size: _shrinking(size) for size in sizes}
    for height in sizes:
        lower = shrink[height] @ pictures
        for width in sizes:
            yield np.asarray(lower @ shrink[width].T, dtype=np.float32)


def _shrinking(size: int) -> Float32:
    """(size, SIDE) the matrix that shrinks a column of pixels, antialiased."""
    from PIL import Image

    unit = Image.fromarray(np.eye(PATCH_SIDE, dtype=np.float32))
    return np.asarray(unit.resize((PATCH_SIDE, size), Image.Resampling.BICUBIC), dtype=np.float32)


def _summed(pictures: Float32) -> NDArray[np.float64]:
    """(n, SIDE + 1, SIDE + 1) sums of all pixels above and to the left."""
    total = np.zeros((len(pictures), PATCH_SIDE + 1, PATCH_SIDE + 1))
    total[:, 1:, 1:] = pictures.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    return total


def _windows(total: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Sums over every window (height, width) from the table of ``_summed``."""
    tall = total[:, height:] - total[:, :-height]
    return np.asarray(tall[:, :, width:] - tall[:, :, :-width])
