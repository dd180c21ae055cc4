"""Rules of the audit at their limits, one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outerfold.storage.audit.audit import (
    _class_errors,
    _class_warnings,
    _copy_errors,
    _copy_warnings,
    _crushed,
    _group_identical_files,
    _image_errors,
    _lookalike_warnings,
    _pairs_across,
    _patient_warnings,
    find_suspects,
)
from outerfold.storage.audit.near_duplicates import FLAT, Signatures
from outerfold.storage.records import Dataset
from tests.factories import make_rows


def rows(patients: int = 40, **changes: object) -> Dataset:
    """One row a patient; the names of files are in folders of ten."""
    data = make_rows(patients=patients, images=1)[0]
    images = np.array([f"/d/{at // 10}/{at}.png" for at in range(len(data))])
    return replace(data, features=replace(data.features, images=images), **changes)


def signatures(count: int, alike: tuple[tuple[int, int], ...] = ()) -> Signatures:
    """Images that show something of their own, but for copies of one another."""
    draw = np.random.default_rng(0)
    thumbnails = draw.integers(0, 256, (count, 32, 32)).astype(np.uint8)
    hashes, mirrored = draw.integers(0, 256, (2, count, 32)).astype(np.uint8)
    for one, other in alike:
        thumbnails[other], hashes[other], mirrored[other] = (
            thumbnails[one],
            hashes[one],
            mirrored[one],
        )
    return Signatures(
        thumbnails, hashes, mirrored, np.full(count, 90), np.zeros(count, dtype=bool), {}
    )


@pytest.mark.parametrize("lost", [[0, 1], [0, 11, 22]])
def test_single_images_without_levels_are_few(lost: list[int]) -> None:
    data, found = rows(400), signatures(400)
    found.crushed[lost] = True
    ((text, many),) = _crushed(data, found)
    assert not many
    assert f"({len(lost)} in all)" in text


def test_one_of_a_hundred_images_without_levels_are_many() -> None:
    for count, many in ((3, False), (4, True)):
        data, found = rows(400), signatures(400)
        found.crushed[np.arange(count) * 50] = True
        assert [whole for _, whole in _crushed(data, found)] == [many]
    assert list(_crushed(rows(400), signatures(400))) == []


@pytest.mark.parametrize(("count", "many"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_folder_of_three_images_without_levels_is_a_source(count: int, many: bool) -> None:
    data, found = rows(900), signatures(900)
    images = data.features.images.copy()
    images[100 : 100 + count] = [f"/d/own/{at}.png" for at in range(count)]
    found.crushed[100 : 100 + count] = True
    own = replace(data, features=replace(data.features, images=images))
    assert [whole for _, whole in _crushed(own, found)] == [many]
    images[100 + count] = "/d/own/good.png"  # not the whole folder
    own = replace(data, features=replace(data.features, images=images))
    assert [whole for _, whole in _crushed(own, found)] == [False]


def test_an_image_of_nearly_one_grey_level_is_empty_and_an_unreadable_one_is_not() -> None:
    found = signatures(5)
    found.spread[:] = [-1, 0, FLAT, FLAT + 1, 90]
    data = rows(5)
    (text,) = _image_errors(data, found)
    assert f"['{data.ids[1]}', '{data.ids[2]}'] (2 in all) have only one grey level" in text
    found.spread[:] = 90
    assert list(_image_errors(data, found)) == []
    broken = replace(found, failures={3: "no PNG", 4: "cut"})
    (text,) = _image_errors(data, broken)
    assert f"['{data.ids[3]}', '{data.ids[4]}'] (2 in all) are not" in text
    assert "the first: no PNG" in text


def test_copies_are_suspected_between_groups_alone_and_never_where_files_are_identical() -> None:
    data = rows(8)
    found = signatures(8, alike=((0, 1), (2, 3), (4, 5)))
    groups = data.groups.copy()
    groups[3] = groups[2]
    grouped = replace(data, groups=groups)
    pairs = _pairs_across(grouped, found, copies=[(4, 5)])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]
    (text,) = _lookalike_warnings(grouped, found, [(4, 5)])
    assert f"{data.ids[0]} ~ {data.ids[1]}'] (1 in all)" in text
    assert list(_lookalike_warnings(grouped, found, [(4, 5), (0, 1)])) == []


def test_identical_files_are_grouped_and_unreadable_ones_left_out(tmp_path: Path) -> None:
    names = []
    for at, content in enumerate((b"a", b"b", b"a", b"a", b"b", b"c", b"a")):
        names.append(tmp_path / f"{at}.png")
        names[-1].write_bytes(content)
    data = rows(7)
    data = replace(data, features=replace(data.features, images=np.array([*map(str, names)])))
    assert _group_identical_files(data, replace(signatures(7), failures={3: "x"})) == (
        (0, 2, 6),
        (1, 4),
    )


def test_copies_that_differ_in_label_or_patient_are_errors_and_others_warnings() -> None:
    data = rows(6)
    same = replace(
        data,
        labels=np.array([0, 0, 0, 1, 1, 1]),
        patients=np.array(["a", "a", "b", "b", "c", "c"]),
    )
    assert list(_copy_errors(same, [(0, 1), (4, 5)])) == []
    (text,) = _copy_warnings(same, [(0, 1), (4, 5), (2, 3), (1, 2)])
    ids = data.ids
    assert f"['{ids[0]} = {ids[1]}', '{ids[4]} = {ids[5]}'] (2 in all)" in text
    label, patient = _copy_errors(same, [(2, 3), (1, 2), (3, 4, 5)])
    assert f"['{ids[2]} = {ids[3]}'] (1 in all)" in label
    assert f"['{ids[1]} = {ids[2]}', '{ids[3]} = {ids[4]} = {ids[5]}'] (2 in all)" in patient
    (text,) = _copy_warnings(replace(same, patients=np.array(["a"] * 6)), [(0, 1, 2), (3, 4)])
    assert f"{ids[0]} = {ids[1]} = {ids[2]}'" in text
    named = replace(same, patients=np.array(["a"] * 6), labels=np.zeros(6, dtype=np.int64))
    (text,) = _copy_warnings(named, [(0, 1, 2, 3)])
    assert f"'{ids[0]} = {ids[1]} = {ids[2]}'" in text  # three of a group are named


def counted(patients: int, images: int = 2) -> Dataset:
    """Class 0 has so many patients with so many images each; class 1 has twenty."""
    names = [f"p{at}" for at in range(patients) for _ in range(images)]
    names += [f"q{at}" for at in range(20)]
    data = rows(len(names))
    labels = np.array([0] * (patients * images) + [1] * 20)
    return replace(data, labels=labels, patients=np.array(names))


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (2, "find more patients, or leave"),
        (3, "use --outer-folds 3 --inner-folds 2, or leave"),
        (4, "use --outer-folds 4 --inner-folds 3, or leave"),
    ],
)
def test_a_class_with_too_few_patients_says_how_many_folds_it_has(patients: int, said: str) -> None:
    data = counted(patients)
    (text,) = _class_errors(data, 5, 4)
    assert f"class {data.classes[0]!r} has {patients} patients ({2 * patients} images)" in text
    assert said in text
    assert "--inner-folds 2" in next(iter(_class_errors(data, 5, 2))) or patients < 3
    assert list(_class_errors(counted(5), 5, 4)) == []


def test_a_class_of_one_image_or_none_is_refused_in_its_own_words() -> None:
    (text,) = _class_errors(counted(1, images=1), 3, 2)
    assert "has 1 image; a class needs images of at least 3 patients" in text
    (text,) = _class_errors(counted(1, images=2), 3, 2)
    assert "has 1 patients (2 images) for 3 outer folds" in text


def test_a_class_with_few_patients_a_fold_is_warned_of() -> None:
    for patients, warned in ((4, False), (5, True), (19, True), (20, False)):
        found = list(_class_warnings(counted(patients), 5, 4))
        assert bool(found) is warned
        if found:
            assert f"has {patients} patients for 5 outer x 4 inner folds; below 20" in found[0]


def test_patients_of_several_classes_are_named_and_those_of_one_image_each_told() -> None:
    data = rows(6)
    labels = np.array([0, 0, 0, 1, 1, 1])
    mixed = replace(data, labels=labels, patients=np.array(["a", "a", "b", "b", "c", "c"]))
    (text,) = _patient_warnings(mixed)
    assert text.startswith("patients ['b'] (1 in all) have images of more than one class")
    (text,) = _patient_warnings(replace(data, labels=labels))
    assert text.startswith("each of the 6 images has a different patient")
    (text,) = _patient_warnings(replace(data, labels=labels, patients_known=False))
    assert text.startswith("patients are not known")
    two, one = (data.select(data.ids[:count].tolist()) for count in (2, 1))
    (text,) = _patient_warnings(two)
    assert text.startswith("each of the 2 images has a different patient")
    assert list(_patient_warnings(one)) == []


def test_suspects_are_rows_of_two_groups(tmp_path: Path) -> None:
    from PIL import Image

    from tests.storage.images.image_factories import picture

    data, names = rows(6), []
    for at in range(6):
        names.append(str(tmp_path / f"{at}.png"))
        image = picture(at % 4, 64).astype(np.int64)
        Image.fromarray((image * (3 if at > 3 else 4) // 4).astype(np.uint8)).save(names[-1])
    data = replace(data, features=replace(data.features, images=np.array(names)))
    assert find_suspects(data) == [(0, 4), (1, 5)]
    groups = data.groups.copy()
    groups[4] = groups[0]
    assert find_suspects(replace(data, groups=groups)) == [(1, 5)]
