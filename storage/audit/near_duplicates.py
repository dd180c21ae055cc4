"""Search for near-duplicate images by perceptual hashes in bands, at nearly linear cost.

The hash is ``imagehash.phash`` (Zauner 2010) of 256 bits. Two images are compared if they share
one of 21 bands of 12 bits: this finds every pair that differs by at most 20 bits, and 90 % of the
pairs that differ by 44. Scans of one organ on one machine share outline, borders and gain, so a
pair counts only if its reduced images correlate as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.audit.suspected_patients import first_of_joined
from outerfold.storage.images.read import examine_image
from outerfold.storage.records import ByteArray, DataError, FloatArray, IntArray

HASH_SIZE = 16
THUMBNAIL = 4 * HASH_SIZE  # phash reduces an image to four times its hash size
BAND_BITS = 12
MAX_BITS = 64
MIN_CORRELATION = 0.97
MIN_DETAIL_CORRELATION = 0.9
"""Limits of a pair: differing bits, correlation of the reduced images and of their detail.

Measured on 2,131 ultrasounds: the nearest two of different patients differ by 72 bits, and their
detail correlates with 0.54. Recompressed, resized, brightened or mirrored copies differ by at most
24 bits (smooth images 50) and correlate with at least 0.98 and 0.96. A cropped copy is not found
here, and a copy with burned-in text in half of the cases; ``storage/audit/cropped_copies.py`` finds
most of both.
"""
CROWDED = 64
"""Number of images, next in hash order, with which an image of the same band value is compared. If
thousands share a value (blank frames), comparing all pairs would cost their number squared."""

FLAT = 2
"""Largest difference, in grey levels, between the lightest and darkest pixel of an empty image."""

CHUNK = 4096
"""Pairs confirmed at once; their reduced images take 32 MiB for each side of the pairs."""


@dataclass(frozen=True, eq=False)
class Signatures:
    """Data by which near-duplicates are found, for n images.

    Attributes:
        thumbnails: (n, 32, 32) grey values, 0 where the image is unreadable.
        hashes, mirrored: (n, 32) bytes, perceptual hash of the image and of its mirror image.
        spread: (n,) largest minus smallest grey level of the thumbnail; -1 for unreadable images.
        crushed: (n,) whether the 8-bit image has lost most of the levels of its file.
        failures: {row: reason why the image cannot be decoded}.
    """

    thumbnails: ByteArray
    hashes: ByteArray
    mirrored: ByteArray
    spread: IntArray
    crushed: NDArray[np.bool_]
    failures: dict[int, str]


@dataclass(frozen=True)
class Pair:
    """Rows of two images that look the same, ``first < second``.

    ``mirrored`` is whether one of them is the mirror image of the other.
    """

    first: int
    second: int
    mirrored: bool


def compute_signatures(images: Sequence[str]) -> Signatures:
    """Signatures of the n image files; each is decoded once, in 4 threads.

    Unreadable images are listed in ``failures`` and raise nothing.
    """
    from joblib import Parallel, delayed

    signed = Parallel(n_jobs=4, prefer="threads")(delayed(_sign_image)(path) for path in images)
    n, bits = len(images), HASH_SIZE * HASH_SIZE // 8
    thumbnails = np.zeros((n, 32, 32), dtype=np.uint8)
    hashes, mirrored = np.zeros((2, n, bits), dtype=np.uint8)
    spread, crushed = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
    failures: dict[int, str] = {}
    for row, found in enumerate(signed):
        if isinstance(found, str):
            failures[row] = found
        else:
            thumbnails[row], hashes[row], mirrored[row], spread[row], crushed[row] = found
    return Signatures(thumbnails, hashes, mirrored, spread, crushed, failures)


def _sign_image(path: str) -> tuple[ByteArray, ByteArray, ByteArray, int, bool] | str:
    """One row of ``Signatures`` for an image; a reason if it is unreadable."""
    try:
        grey, crushed = examine_image(path, THUMBNAIL)
    except DataError as error:
        return str(error)
    small = grey.reshape(32, 2, 32, 2).mean(axis=(1, 3)).round().astype(np.uint8)
    flipped = np.ascontiguousarray(grey[:, ::-1])
    spread = int(grey.max()) - int(grey.min())
    return small, _hash_image(grey), _hash_image(flipped), spread, crushed


def _hash_image(grey: ByteArray) -> ByteArray:
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIZE).hash
    return np.packbits(np.asarray(bits, dtype=bool).ravel())


def find_pairs(signatures: Signatures) -> tuple[Pair, ...]:
    """Pairs of near-duplicate images, as they are or mirrored; images of one grey are left out."""
    usable = np.flatnonzero(signatures.spread > FLAT)
    found = {
        (first, second): Pair(first, second, mirrored)
        for mirrored in (True, False)
        for first, second in _confirmed_pairs(signatures, usable, mirrored)
    }
    return tuple(found[key] for key in sorted(found))


def _confirmed_pairs(
    signatures: Signatures, usable: IntArray, mirrored: bool
) -> Iterator[tuple[int, int]]:
    """Confirmed rows (first, second); with ``mirrored``, one is the mirror image of the other."""
    other = signatures.mirrored if mirrored else signatures.hashes
    codes = _candidates(signatures.hashes[usable], other[usable], mirrored)
    for start in range(0, len(codes), CHUNK):
        some = codes[start : start + CHUNK]
        first, second = usable[some // len(usable)], usable[some % len(usable)]
        alike = _alike(signatures.thumbnails, first, second, mirrored)
        yield from zip(first[alike].tolist(), second[alike].tolist(), strict=True)


def _candidates(hashes: ByteArray, other: ByteArray, mirrored: bool) -> IntArray:
    """Codes of the pairs of positions that share a band and differ by at most ``MAX_BITS``.

    Each pair occurs once, as first * n + second with first < second.
    """
    n = len(hashes)
    rows = np.concatenate([hashes, other]) if mirrored else hashes
    bits = np.unpackbits(rows, axis=1)
    place = np.unique(rows, axis=0, return_inverse=True)[1].ravel()  # rank in hash order
    weights = 1 << np.arange(BAND_BITS)
    found: set[int] = set()
    for band in range(bits.shape[1] // BAND_BITS):
        keys = bits[:, band * BAND_BITS : (band + 1) * BAND_BITS] @ weights
        for one, two in _same_key(keys, np.lexsort((place, keys)), n):
            near = np.bitwise_count(rows[one] ^ rows[two]).sum(axis=1) <= MAX_BITS
            one, two = one[near] % n, two[near] % n
            found.update((np.minimum(one, two) * n + np.maximum(one, two)).tolist())
    return np.array(sorted(found), dtype=np.int64)


def _same_key(keys: IntArray, order: IntArray, n: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of rows with equal keys that are at most ``CROWDED`` apart in ``order``.

    Rows from n on are mirror images; if there are any, a pair is one image and one mirror image.
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
    """Mask (pairs,), True where the thumbnails and also their fine detail correlate."""
    rows, at = np.unique(np.concatenate([first, second]), return_inverse=True)
    one, two = at[: len(first)], at[len(first) :]
    images = thumbnails[rows].astype(np.float64)
    whole = _correlations(images, one, two, mirrored) >= MIN_CORRELATION
    fine = _correlations(remove_outline(images), one, two, mirrored) >= MIN_DETAIL_CORRELATION
    return np.asarray(whole & fine, dtype=np.bool_)


def remove_outline(images: ByteArray | FloatArray) -> FloatArray:
    """Fine detail (n, h, w) of images (n, h, w), without the outline that scans of one organ share.

    The outline is the image after a Gaussian filter of standard deviation 2 pixels.
    """
    from scipy.ndimage import gaussian_filter

    images = images.astype(np.float64)
    return images - np.asarray(gaussian_filter(images, (0.0, 2.0, 2.0)), dtype=np.float64)


def _correlations(images: FloatArray, one: IntArray, two: IntArray, mirrored: bool) -> FloatArray:
    """Pearson correlation (pairs,) of ``images[one]`` and ``images[two]``.

    It is 0 where one of the images is constant.
    """
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    other = unit[:, :, ::-1] if mirrored else unit
    return np.asarray(np.einsum("pij,pij->p", unit[one], other[two]), dtype=np.float64)


def group_lookalikes(ids: Sequence[str], images: Sequence[str]) -> tuple[str, ...]:
    """Group name of each image (n,): the id of the first image in its group of look-alikes.

    An image without look-alikes is alone in its group.

    Args:
        ids: (n,) row names.
        images: (n,) paths of image files.
    """
    found = find_pairs(compute_signatures(images))
    first = first_of_joined(len(ids), [(pair.first, pair.second) for pair in found])
    return tuple(ids[row] for row in first.tolist())
