"""Cropped and captioned copies of another patient's image are found, and strangers are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from outerfold.storage.audit.audit import audit_embeddings
from outerfold.storage.audit.cropped_copies import (
    MIN_OVERLAP,
    NEAREST_SHOWN,
    find_overlaps,
    likeness_threshold,
    measure_likeness,
    nearest_pairs,
    whiten,
)
from outerfold.storage.audit.near_duplicates import compute_signatures, find_pairs, remove_outline
from outerfold.storage.records import Dataset, Features
from tests.storage.images.image_factories import real_data

SIDE = 160


def scan(seed: int) -> Image.Image:
    """Grey structure at two scales, as fine as an ultrasound's in a small image."""
    rng = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE), 110.0)
    for cells, weight in ((10, 30.0), (40, 20.0)):
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        pixels += weight * np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((SIDE // 10, 0, SIDE, SIDE))


def cut_below(image: Image.Image) -> Image.Image:
    return image.crop((0, 0, SIDE, SIDE - SIDE // 6))


def captioned(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((20, 134, 120, 144), fill=255)
    return image


def cohort(
    folder: Path, copy: Image.Image | None, patients: int = 40
) -> tuple[Dataset, NDArray[np.float32]]:
    """One scan a patient, the last of which is ``copy``, and embeddings that know where it is from.

    An encoder puts a copy near its original; that it does is measured on real images, not here.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(patients, 32)).astype(np.float32)
    for i in range(patients):
        scan(i).save(folder / f"{i:02d}.png")
    if copy is not None:
        copy.save(folder / f"{patients - 1:02d}.png")
        embeddings[-1] = embeddings[3] + 0.3 * rng.normal(size=32)
    paths = np.array([str(path) for path in sorted(folder.iterdir())])
    ids = np.array([f"image-{i:02d}" for i in range(patients)])
    features = Features(ids, paths, np.zeros((patients, 0)))
    labels = np.arange(patients, dtype=np.int64) % 2
    people = np.array([f"p{i:02d}" for i in range(patients)])
    return Dataset(features, labels, people, ("a", "b"), "f"), embeddings


@pytest.mark.parametrize("manipulate", [cropped, cut_below, captioned])
def test_a_copy_that_the_hash_does_not_find_is_a_warning(tmp_path: Path, manipulate) -> None:  # type: ignore[no-untyped-def]
    data, embeddings = cohort(tmp_path / "d", manipulate(scan(3)))
    assert find_pairs(compute_signatures(data.features.images.tolist())) == ()
    (warning,) = audit_embeddings(data, embeddings)
    assert "different patients that share a picture" in warning
    assert "['image-03 ~ image-39'] (1 in all)" in warning


def test_pairs_that_cross_folds_are_named(tmp_path: Path) -> None:
    data, embeddings = cohort(tmp_path / "d", cropped(scan(3)))
    together = [frozenset({"p03", "p39"}), frozenset({"p05"})]
    (warning,) = audit_embeddings(data, embeddings, together)
    assert "(1 in all); none crosses an outer fold; look at them" in warning
    (warning,) = audit_embeddings(data, embeddings, [frozenset({"p03"}), frozenset({"p39"})])
    assert "['image-03 ~ image-39'] (1 in all) cross outer folds; look at them" in warning


def test_strangers_of_one_organ_raise_no_alarm(tmp_path: Path) -> None:
    assert audit_embeddings(*cohort(tmp_path / "d", None)) == ()


def test_one_patients_images_may_overlap(tmp_path: Path) -> None:
    data, embeddings = cohort(tmp_path / "d", cropped(scan(3)))
    patients = data.patients.copy()
    patients[-1] = patients[3]
    same = replace(data, patients=patients, groups=patients)
    assert audit_embeddings(same, embeddings) == ()


def test_a_copy_of_the_whole_is_left_to_the_first_audit(tmp_path: Path) -> None:
    """It was named there, from its hash."""
    data, embeddings = cohort(tmp_path / "d", scan(3).resize((90, 90)))
    assert len(find_pairs(compute_signatures(data.features.images.tolist()))) == 1
    assert audit_embeddings(data, embeddings) == ()


def test_the_likeness_of_a_part_is_found_wherever_it_lies_and_whichever_is_the_part() -> None:
    whole = scan(5)
    boxes = [(0, 0, 140, 140), (20, 20, 160, 160), (8, 0, 152, 160), (0, 10, 160, 145)]
    images = [whole, *(whole.crop(box) for box in boxes)]
    small = [np.asarray(image.resize((32, 32), Image.Resampling.BOX)) for image in images]
    pictures = remove_outline(np.stack([*small, np.asarray(scan(6).resize((32, 32)))]))
    first, parts = np.zeros(4, dtype=np.int64), np.arange(1, 5)
    assert measure_likeness(pictures, first, parts).min() > 0.75
    np.testing.assert_array_equal(
        measure_likeness(pictures, first, parts), measure_likeness(pictures, parts, first)
    )
    assert measure_likeness(pictures, np.array([0]), np.array([5]))[0] < MIN_OVERLAP
    assert measure_likeness(pictures, np.array([0]), np.array([0]))[0] == pytest.approx(1, abs=1e-3)


def test_correlation_equals_numpys_at_every_place() -> None:
    """The fast sums against a window cut out and correlated by hand, at full and smaller size."""
    from outerfold.storage.audit import cropped_copies as overlaps

    rng = np.random.default_rng(1)
    small, large = rng.normal(size=(2, 1, 32, 32)).astype(np.float32)
    best = -1.0
    for shrunk in overlaps._reduce_pictures(small):
        height, width = shrunk.shape[1:]
        for top in range(33 - height):
            for left in range(33 - width):
                window = large[0, top : top + height, left : left + width]
                best = max(best, float(np.corrcoef(shrunk[0].ravel(), window.ravel())[0, 1]))
    assert overlaps._correlate_with_parts(small, large)[0] == pytest.approx(best, abs=1e-4)


def test_neighbours_are_the_nearest_of_other_patients_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    unit = whiten(rng.normal(size=(60, 12)).astype(np.float32))
    patients = np.array([f"p{i // 3}" for i in range(60)])
    wanted = set()
    for row in range(60):
        others = [i for i in range(60) if patients[i] != patients[row]]
        near = sorted(others, key=lambda i: -float(unit[row] @ unit[i]))[:NEAREST_SHOWN]
        wanted |= {(min(row, i), max(row, i)) for i in near}
    found = nearest_pairs(unit, patients)
    assert set(map(tuple, found.tolist())) == wanted
    monkeypatch.setattr("outerfold.storage.audit.cropped_copies.BLOCK", 60 * 7)
    assert nearest_pairs(unit, patients).tolist() == found.tolist()


def test_one_patient_or_flat_embeddings_give_no_pairs(tmp_path: Path) -> None:
    data, embeddings = cohort(tmp_path / "d", cropped(scan(3)), patients=12)
    images = data.features.images.tolist()
    alone = np.full(12, "p")
    assert find_overlaps(embeddings, images, alone) == ()
    assert find_overlaps(np.ones_like(embeddings), images, data.patients) == ()


def test_a_pair_must_stand_out_from_data_whose_strangers_are_alike() -> None:
    rng = np.random.default_rng(3)
    unlike = np.clip(rng.normal(0.25, 0.05, 500), 0, 1).astype(np.float32)
    assert likeness_threshold(unlike) == MIN_OVERLAP
    mammograms = np.clip(rng.normal(0.5, 0.12, 500), 0, 0.9).astype(np.float32)
    assert likeness_threshold(mammograms) > 0.85


@pytest.mark.slow
def test_real_scans_of_one_patient_under_two_names_are_found() -> None:
    """BUS-BRA holds the same scan of three women under two numbers each, once with callipers."""
    from outerfold.storage.readers.read import read_dataset

    data = read_dataset(real_data("bus-bra"), task="dbt")
    row = {name.split("/")[-1]: i for i, name in enumerate(data.ids.tolist())}
    pairs = [
        ("bus_0056-l.jpg", "bus_0091-l.jpg"),
        ("bus_0341-r.jpg", "bus_0356-r.jpg"),
        ("bus_0044-r.jpg", "bus_0065-r.jpg"),
    ]
    images = [str(data.features.images[row[name]]) for pair in pairs for name in pair]
    pictures = remove_outline(compute_signatures(images).thumbnails)
    first, second = np.array([0, 2, 4]), np.array([1, 3, 5])
    assert measure_likeness(pictures, first, second).min() > MIN_OVERLAP
    assert measure_likeness(pictures, first, np.roll(second, 1)).max() < MIN_OVERLAP
