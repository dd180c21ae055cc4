"""Near-duplicate images: perceptual hashes, banded so that the cost stays near linear.

The hash is ``imagehash.phash`` (Zauner 2010) of 256 bits; candidates share one of 16 bands of
16 bits, so every pair within 15 bits is found. Scans of one organ on one machine share outline,
borders and gain, so a candidate counts only if its small images correlate as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.images import ByteArray, read_thumbnail
from storage.records import DataError, FloatArray, IntArray

HASH_SIZE = 16
THUMBNAIL = 4 * HASH_SIZE  # phash wants four times its hash size
MAX_BITS = 40
MIN_CORRELATION = 0.97
MIN_DETAIL_CORRELATION = 0.9
"""Measured on 2,131 ultrasounds: the nearest two of different patients differ by 72 bits and their
detail correlates 0.54; recompressed, resized, brightened or mirrored copies stay within 24 bits,
0.98 and 0.96. A copy that was cropped or had text burned in is not found."""
CROWDED = 64
"""Members of a band bucket beyond which each is compared with its next ``CROWDED`` in hash order
only; all pairs of a bucket of thousands (blank frames) would be quadratic."""


@dataclass(frozen=True, eq=False)
class Signatures:
    """What near-duplicates are told by, for n images.

    Attributes:
        thumbnails: (n, 32, 32) grey, zero where unreadable.
        hashes, mirrored: (n, 32) bytes, perceptual hash of the image and of its mirror image.
        spread: (n,) largest minus smallest grey level of the thumbnail; -1 where unreadable.
        failures: {row: why it cannot be decoded}.
    """

    thumbnails: ByteArray
    hashes: ByteArray
    mirrored: ByteArray
    spread: IntArray
    failures: dict[int, str]


@dataclass(frozen=True)
class Pair:
    """Rows of two images that look the same, ``first < second``."""

    first: int
    second: int
    mirrored: bool


def sign(images: Sequence[str]) -> Signatures:
    """Decode every image once, in threads; unreadable ones are told, not raised."""
    from joblib import Parallel, delayed

    signed = Parallel(n_jobs=4, prefer="threads")(delayed(_sign)(path) for path in images)
    n, bits = len(images), HASH_SIZE * HASH_SIZE // 8
    thumbnails = np.zeros((n, 32, 32), dtype=np.uint8)
    hashes, mirrored = np.zeros((2, n, bits), dtype=np.uint8)
    spread = np.full(n, -1, dtype=np.int64)
    failures: dict[int, str] = {}
    for row, found in enumerate(signed):
        if isinstance(found, str):
            failures[row] = found
        else:
            thumbnails[row], hashes[row], mirrored[row], spread[row] = found
    return Signatures(thumbnails, hashes, mirrored, spread, failures)


def _sign(path: str) -> tuple[ByteArray, ByteArray, ByteArray, int] | str:
    try:
        grey = read_thumbnail(path, THUMBNAIL)
    except DataError as error:
        return str(error)
    small = grey.reshape(32, 2, 32, 2).mean(axis=(1, 3)).round().astype(np.uint8)
    flipped = np.ascontiguousarray(grey[:, ::-1])
    return small, _hash(grey), _hash(flipped), int(grey.max()) - int(grey.min())


def _hash(grey: ByteArray) -> ByteArray:
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIZE).hash
    return np.packbits(np.asarray(bits, dtype=bool).ravel())


def find_pairs(signatures: Signatures) -> tuple[Pair, ...]:
    """Pairs of images that are near-duplicates, plain or mirrored; flat images never are."""
    usable = np.flatnonzero(signatures.spread > 2)
    found = {
        (first, second): Pair(first, second, mirrored)
        for mirrored in (True, False)
        for first, second in _matches(signatures, usable, mirrored)
    }
    return tuple(found[key] for key in sorted(found))


def _matches(signatures: Signatures, usable: IntArray, mirrored: bool) -> Iterator[tuple[int, int]]:
    """Confirmed (first, second) rows; ``second`` is mirrored if so asked."""
    other = signatures.mirrored if mirrored else signatures.hashes
    candidates = _candidates(signatures.hashes[usable], other[usable], mirrored)
    if not len(candidates):
        return
    pairs = usable[candidates]
    differing = np.bitwise_count(signatures.hashes[pairs[:, 0]] ^ other[pairs[:, 1]])
    pairs = pairs[differing.sum(axis=1) <= MAX_BITS]
    for first, second in pairs.tolist():
        if _alike(signatures.thumbnails, first, second, mirrored):
            yield first, second


def _candidates(hashes: ByteArray, other: ByteArray, mirrored: bool) -> IntArray:
    """(pairs, 2) positions, first < second, that share a band, each pair once."""
    n = len(hashes)
    seen: set[int] = set()
    left, right = hashes.view(np.uint16), other.view(np.uint16)  # (n, bands)
    for band in range(left.shape[1]):
        buckets: dict[int, list[int]] = defaultdict(list)
        for at, key in enumerate(left[:, band].tolist()):
            buckets[key].append(at)
        if mirrored:
            for at, key in enumerate(right[:, band].tolist()):
                if key in buckets:
                    buckets[key].append(n + at)
        for members in buckets.values():
            if len(members) > 1:
                seen.update(_bucket_pairs(members, hashes, other, mirrored))
    flat = np.array(sorted(seen), dtype=np.int64)
    return np.stack([flat // n, flat % n], axis=1) if n else flat.reshape(0, 2)


def _bucket_pairs(
    members: list[int], hashes: ByteArray, other: ByteArray, mirrored: bool
) -> Iterator[int]:
    """Pairs as first * n + second; a member from n on stands for a mirrored image."""
    n = len(hashes)
    if len(members) > CROWDED:
        both = (hashes, other)
        members = sorted(members, key=lambda m: both[m // n][m % n].tobytes())
    for at, one in enumerate(members):
        for two in members[at + 1 : at + 1 + CROWDED]:
            if mirrored == ((one < n) == (two < n)):
                continue
            first, second = sorted((one % n, two % n))
            if first != second:
                yield first * n + second


def _alike(thumbnails: ByteArray, first: int, second: int, mirrored: bool) -> bool:
    """Whether small images agree, and also their detail without the shared outline."""
    one = thumbnails[first].astype(np.float64)
    two = thumbnails[second].astype(np.float64)
    two = two[:, ::-1] if mirrored else two
    if _pearson(one, two) < MIN_CORRELATION:
        return False
    return _pearson(_detail(one), _detail(two)) >= MIN_DETAIL_CORRELATION


def _detail(image: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    return image - np.asarray(gaussian_filter(image, 2.0), dtype=np.float64)


def _pearson(one: FloatArray, two: FloatArray) -> float:
    a, b = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def group_lookalikes(ids: Sequence[str], images: Sequence[str]) -> tuple[str, ...]:
    """A group name for each image, that of its first look-alike; by id where it has none."""
    leader = np.arange(len(ids))
    for pair in find_pairs(sign(images)):
        one, two = _root(leader, pair.first), _root(leader, pair.second)
        leader[max(one, two)] = min(one, two)
    return tuple(ids[_root(leader, row)] for row in range(len(ids)))


def _root(leader: NDArray[np.int64], row: int) -> int:
    while leader[row] != row:
        row = int(leader[row])
    return row
