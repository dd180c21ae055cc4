"""Search for near-duplicates, step by step, against comparing every pair."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from outerfold.storage.audit import near_duplicates as module
from outerfold.storage.audit.near_duplicates import (
    FLAT,
    MAX_BITS,
    Pair,
    Signatures,
    _alike,
    _candidates,
    _correlations,
    compute_signatures,
    find_pairs,
    remove_outline,
)
from outerfold.storage.records import ByteArray
from tests.storage.images.image_factories import picture


def altered(hashes: ByteArray, bits: int, seed: int) -> ByteArray:
    """Hashes (n, 32) with so many bits turned."""
    draw, found = np.random.default_rng(seed), np.unpackbits(hashes, axis=1)
    for row in found:
        row[draw.choice(256, bits, replace=False)] ^= 1
    return np.packbits(found, axis=1)


def hashes(count: int = 12) -> ByteArray:
    """Random hashes, then each with 3, 20, 44, 64 and 65 bits turned."""
    first = np.random.default_rng(0).integers(0, 256, (count, 32)).astype(np.uint8)
    return np.concatenate([first, *(altered(first, bits, bits) for bits in (3, 20, 44, 64, 65))])


def share_a_band(one: ByteArray, other: ByteArray) -> bool:
    """Whether one of 21 bands of 12 bits is equal."""
    a, b = np.unpackbits(one)[:252].reshape(21, 12), np.unpackbits(other)[:252].reshape(21, 12)
    return bool((a == b).all(axis=1).any())


def differ(one: ByteArray, other: ByteArray) -> int:
    return int((np.unpackbits(one) != np.unpackbits(other)).sum())


def test_candidates_are_the_pairs_that_share_a_band_and_differ_by_at_most_64_bits() -> None:
    rows = hashes()
    n = len(rows)
    expected = [
        a * n + b
        for a, b in combinations(range(n), 2)
        if share_a_band(rows[a], rows[b]) and differ(rows[a], rows[b]) <= MAX_BITS == 64
    ]
    assert _candidates(rows, rows, mirrored=False).tolist() == expected
    apart = {differ(rows[code // n], rows[code % n]) for code in expected}
    assert {3, 20, 44} <= apart


def test_mirrored_candidates_compare_an_image_with_a_mirror_image_alone() -> None:
    rows = hashes()
    n = len(rows)
    mirrors = np.random.default_rng(1).integers(0, 256, (n, 32)).astype(np.uint8)
    mirrors[30], mirrors[5] = altered(rows[2:3], 7, 1)[0], rows[5]  # its own mirror image: no pair
    mirrors[0], mirrors[n - 1] = altered(rows[4:5], 7, 2)[0], altered(rows[0:1], 7, 3)[0]
    expected = sorted(
        {
            min(a, b) * n + max(a, b)
            for a in range(n)
            for b in range(n)
            if a != b
            and share_a_band(rows[a], mirrors[b])
            and differ(rows[a], mirrors[b]) <= MAX_BITS
        }
    )
    found = _candidates(rows, mirrors, mirrored=True).tolist()
    assert found == expected
    assert {2 * n + 30, 4, n - 1} <= set(found)


def test_correlations_are_pearsons_of_image_and_mirror_image() -> None:
    images = np.random.default_rng(0).random((5, 32, 32))
    images[4] = 3.0
    one, two = np.array([0, 1, 0, 4]), np.array([1, 2, 3, 0])
    for mirrored in (False, True):
        found = _correlations(images, one, two, mirrored)
        for value, a, b in zip(found[:3], one, two, strict=False):
            other = images[b][:, ::-1] if mirrored else images[b]
            assert value == pytest.approx(np.corrcoef(images[a].ravel(), other.ravel())[0, 1])
        assert found[3] == 0.0


def test_the_outline_is_a_gaussian_of_two_pixels_of_each_image_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    found = remove_outline(images)
    for image, fine in zip(images, found, strict=True):
        whole = image.astype(np.float64)
        np.testing.assert_allclose(fine, whole - gaussian_filter(whole, 2.0), atol=1e-9)


def test_a_pair_needs_the_same_outline_and_the_same_detail() -> None:
    draw = np.random.default_rng(0)
    outline = 8 * gaussian_filter(draw.random((32, 32)), 4.0) * 255
    detail = draw.normal(0, 12, (32, 32))
    whole = np.clip(outline / outline.max() * 160 + 40 + detail, 0, 255)
    other_detail = np.clip(whole - detail + draw.normal(0, 12, (32, 32)), 0, 255)
    other_outline = np.clip(whole + np.linspace(-80, 80, 32)[None], 0, 255)
    brighter = np.clip(whole * 0.8 + 30, 0, 255)
    images = np.stack([whole, other_detail, other_outline, brighter]).round().astype(np.uint8)
    first, second = np.zeros(3, dtype=np.int64), np.array([1, 2, 3])
    assert _alike(images, first, second, mirrored=False).tolist() == [False, False, True]
    flipped = images.copy()
    flipped[3] = flipped[3][:, ::-1]
    assert _alike(flipped, first, second, mirrored=True).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("whole", "fine", "alike"),
    [(0.97, 0.9, True), (0.969, 0.95, False), (0.99, 0.899, False)],
)
def test_a_pair_at_both_limits_is_a_pair(
    monkeypatch: pytest.MonkeyPatch, whole: float, fine: float, alike: bool
) -> None:
    found = iter([np.array([whole]), np.array([fine])])
    monkeypatch.setattr(module, "_correlations", lambda *_: next(found))
    one = np.array([0])
    assert _alike(np.zeros((2, 32, 32), np.uint8), one, one + 1, mirrored=False).tolist() == [alike]


def signed(root: Path, count: int = 8) -> Signatures:
    """Images, each with a brighter copy and a mirrored one, and flat ones."""
    names = []
    for at in range(count):
        image = picture(at, 64).astype(np.int64)
        for kind, pixels in enumerate((image, image * 3 // 4 + 20, image[:, ::-1])):
            names.append(str(root / f"{at}-{kind}.png"))
            Image.fromarray(np.ascontiguousarray(pixels).astype(np.uint8)).save(names[-1])
    for at in (FLAT, FLAT):
        names.append(str(root / f"flat-{len(names)}.png"))
        Image.fromarray(np.repeat(np.array([[7, 7 + at]], np.uint8), 64, 0).repeat(32, 1)).save(
            names[-1]
        )
    return compute_signatures(names)


@pytest.mark.parametrize("chunk", [1, 5, 4096])
def test_every_copy_is_found_once_however_many_are_confirmed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = find_pairs(signed(tmp_path))
    expected = []
    for at in range(0, 24, 3):
        expected += [Pair(at, at + 1, False), Pair(at, at + 2, True), Pair(at + 1, at + 2, True)]
    assert list(found) == expected


def test_an_unreadable_image_is_named_and_the_others_keep_their_rows(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    names = [str(tmp_path / name) for name in ("a.png", "broken.png", "b.png")]
    for at in (0, 2):
        Image.fromarray(picture(at, 64)).save(names[at])
    found = compute_signatures(names)
    assert list(found.failures) == [1]
    assert found.spread[1] == -1
    assert found.spread.tolist() == [
        int(picture(0, 64).max()) - int(picture(0, 64).min()),
        -1,
        int(picture(2, 64).max()) - int(picture(2, 64).min()),
    ]
    assert not found.crushed.any()
    small = picture(0, 64).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found.thumbnails[0], small, atol=0.51)
    assert found.hashes.shape == found.mirrored.shape == (3, 32)
    assert (found.hashes[0] != found.hashes[2]).any()
