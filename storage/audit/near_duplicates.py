"""Near-duplicate images: perceptual hashes, banded so that the cost stays near linear.

The hash is ``imagehash.phash`` (Zauner 2010) of 256 bits; candidates share one of 21 bands of
12 bits, so every pair within 20 bits is found, and of those that differ by 44 nine in ten. Scans of
one organ on one machine share outline, borders and gain, so a candidate counts only if its small
images correlate as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.images.pixels import ByteArray
from outerfold.storage.images.read import read_thumbnail
from outerfold.storage.records import DataError, FloatArray, IntArray

HASH_SIZE = 16
THUMBNAIL = 4 * HASH_SIZE  # phash wants four times its hash size
BAND_BITS = 12
MAX_BITS = 64
MIN_CORRELATION = 0.97
MIN_DETAIL_CORRELATION = 0.9
"""Measured on 2,131 ultrasounds: the nearest two of different patients differ by 72 bits and their
detail correlates 0.54; recompressed, resized, brightened or mirrored copies stay within 24 bits,
0.98 and 0.96 (smooth images up to 50). A copy that was cropped is not found here, one with text
burned in half the time; ``storage/audit/cropped_copies.py`` finds most of both.
"""
CROWDED = 64
"""Images of one band value are compared with the next ``CROWDED`` in hash order only; all pairs of
thousands that share it (blank frames) would be quadratic."""

CHUNK = 4096
"""Pairs confirmed at once; their small images take 32 MiB each way."""


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
    codes = _candidates(signatures.hashes[usable], other[usable], mirrored)
    for start in range(0, len(codes), CHUNK):
        some = codes[start : start + CHUNK]
        first, second = usable[some // len(usable)], usable[some % len(usable)]
        alike = _alike(signatures.thumbnails, first, second, mirrored)
        yield from zip(first[alike].tolist(), second[alike].tolist(), strict=True)


def _candidates(hashes: ByteArray, other: ByteArray, mirrored: bool) -> IntArray:
    """Pairs of positions that share a band and differ by ``MAX_BITS`` at most, each once.

    Coded as first * n + second, first < second.
    """
    n = len(hashes)
    rows = np.concatenate([hashes, other]) if mirrored else hashes
    bits = np.unpackbits(rows, axis=1)
    place = np.unique(rows, axis=0, return_inverse=True)[1].ravel()  # rank in hash order
    weights = 1 << np.arange(BAND_BITS)
    found: set[int] = set()
    for start in range(0, bits.shape[1] - BAND_BITS + 1, BAND_BITS):
        keys = bits[:, start : start + BAND_BITS] @ weights
        for one, two in _same_key(keys, np.lexsort((place, keys)), n):
            near = np.bitwise_count(rows[one] ^ rows[two]).sum(axis=1) <= MAX_BITS
            one, two = one[near] % n, two[near] % n
            found.update((np.minimum(one, two) * n + np.maximum(one, two)).tolist())
    return np.array(sorted(found), dtype=np.int64)


def _same_key(keys: IntArray, order: IntArray, n: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of rows of equal key at most ``CROWDED`` apart in ``order``.

    Rows from n on are mirrored images; if there are any, only plain with mirrored is a pair.
    """
    for apart in range(1, min(CROWDED, len(order) - 1) + 1):
        one, two = order[:-apart], order[apart:]
        equal = keys[one] == keys[two]
        if not equal.any():
            return
        wanted = equal & (one % n != two % n)
        if len(keys) > n:
            wanted &= (one < n) != (two < n)
        yield one[wanted], two[wanted]


def _alike(
    thumbnails: ByteArray, first: IntArray, second: IntArray, mirrored: bool
) -> NDArray[np.bool_]:
    """(pairs,) whether small images agree, and also their detail without the shared outline."""
    rows, at = np.unique(np.concatenate([first, second]), return_inverse=True)
    one, two = at[: len(first)], at[len(first) :]
    images = thumbnails[rows].astype(np.float64)
    whole = _correlations(images, one, two, mirrored) >= MIN_CORRELATION
    fine = _correlations(detail(images), one, two, mirrored) >= MIN_DETAIL_CORRELATION
    return np.asarray(whole & fine, dtype=np.bool_)


def detail(images: ByteArray | FloatArray) -> FloatArray:
    """(n, h, w) what is left without the outline that scans of one organ share."""
    from scipy.ndimage import gaussian_filter

    images = images.astype(np.float64)
    return images - np.asarray(gaussian_filter(images, (0.0, 2.0, 2.0)), dtype=np.float64)


def _correlations(images: FloatArray, one: IntArray, two: IntArray, mirrored: bool) -> FloatArray:
    """(pairs,) Pearson correlation of ``images[one]`` and ``images[two]``; 0 where one is flat."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    other = unit[:, :, ::-1] if mirrored else unit
    return np.asarray(np.einsum("pij,pij->p", unit[one], other[two]), dtype=np.float64)


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
