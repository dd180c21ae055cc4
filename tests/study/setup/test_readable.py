from pathlib import Path

import pytest
from PIL import Image

from outerfold.storage.errors import Question
from outerfold.storage.readers._base import ReadOptions
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.setup.readable import keep_readable, settle_images
from tests.storage.images.image_factories import class_folders, picture, write_picture


def _data(root: Path, broken: int) -> Dataset:
    """Forty readable pictures of each class, and broken ones of one class."""
    class_folders(root, {"benign": 40, "cancer": 40})
    for number in range(broken):
        (root / "cancer" / f"P9{number:02d}_0.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return read_dataset(root, task="dbt", patient_regex=r"(P\d+)")


def test_isolated_unreadable_images_are_set_aside_and_listed(tmp_path: Path) -> None:
    data = keep_readable(_data(tmp_path / "data", 2), {}, None)
    assert len(data) == 80
    assert [(row.id, row.label) for row in data.set_aside] == [
        ("cancer/P900_0.png", "cancer"),
        ("cancer/P901_0.png", "cancer"),
    ]
    assert data.set_aside[0].why.startswith("cannot be decoded as an image (")
    assert "images that cannot be read were set aside: ['cancer/P900_0.png'" in data.assumptions[-1]
    RunFolder(tmp_path).write_set_aside(data)
    listed = (tmp_path / "set_aside.csv").read_text().splitlines()
    assert listed[0] == "id,why,class"
    assert len(listed) == 3


def test_the_rows_that_stay_are_those_of_a_set_without_the_broken_files(tmp_path: Path) -> None:
    with_broken = keep_readable(_data(tmp_path / "a", 1), {}, None)
    without = keep_readable(_data(tmp_path / "b", 0), {}, None)
    assert with_broken.fingerprint == without.fingerprint
    assert not without.set_aside


def test_many_unreadable_images_are_asked_about(tmp_path: Path) -> None:
    data = _data(tmp_path, 4)
    with pytest.raises(Question, match=r"\(4 in all\) cannot be used, .*add --set-aside"):
        keep_readable(data, {}, None)
    assert len(keep_readable(data, {"set_aside": True}, None)) == 80


def test_strict_refuses_each(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--strict: \['cancer/P900_0\.png: cannot be decoded"):
        keep_readable(_data(tmp_path, 1), {"strict": True}, None)


def test_what_was_found_is_kept_until_a_file_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    first = keep_readable(_data(root, 1), {}, cache)
    with monkeypatch.context() as patch:
        patch.setattr("outerfold.study.setup.readable.find_unreadable", None)
        again = keep_readable(read_dataset(root, task="dbt", patient_regex=r"(P\d+)"), {}, cache)
    assert again.fingerprint == first.fingerprint
    write_picture(root / "cancer" / "P900_0.png", 77)
    mended = keep_readable(read_dataset(root, task="dbt", patient_regex=r"(P\d+)"), {}, cache)
    assert len(mended) == 81


def copied(root: Path, names: list[str]) -> Dataset:
    """Pictures of two classes, and smaller copies of one picture under the named patients."""
    class_folders(root, {"benign": 8, "cancer": 8})
    for name in names:
        copy = Image.fromarray(picture(999)).resize((60, 60))
        copy.save(root / "benign" / f"{name}_9.jpg", quality=60 + 3 * len(list(root.rglob("*_9*"))))
    return read_dataset(root, task="dbt", patient_regex=r"(P\d+)")


def test_patients_with_near_identical_images_are_grouped_and_said(tmp_path: Path) -> None:
    data = copied(tmp_path / "data", ["P800", "P801"])
    found = settle_images(data, {}, tmp_path / "cache")
    groups = dict(zip(found.patients.tolist(), found.groups.tolist(), strict=True))
    assert groups["P801"] == groups["P800"] == "P800"
    assert len(set(found.groups.tolist())) == len(set(data.groups.tolist())) - 1
    assert found.patients.tolist() == data.patients.tolist()
    assert found.fingerprint != data.fingerprint
    assert "['benign/P800_9.jpg ~ benign/P801_9.jpg'] (1 in all)" in found.assumptions[-1]
    again = settle_images(data, {}, tmp_path / "cache")
    assert again.fingerprint == found.fingerprint
    assert settle_images(data, {"distinct_patients": True}, None) is data


def test_a_chain_of_more_than_five_patients_is_asked_about(tmp_path: Path) -> None:
    data = copied(tmp_path / "data", [f"P80{n}" for n in range(6)])
    with pytest.raises(Question, match=r"\(6 names\) have near-identical images.*--distinct-pat"):
        settle_images(data, {}, None)


def test_every_question_comes_in_one_message(tmp_path: Path) -> None:
    """An unnamed positive class, images that cannot be read, and a chain of patients."""
    root = tmp_path / "data"
    class_folders(root, {"ash": 8, "oak": 8})
    for number in range(4):
        (root / "ash" / f"P9{number:02d}_0.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    for number in range(6):
        copy = Image.fromarray(picture(999)).resize((60, 60))
        copy.save(root / "oak" / f"P80{number}_9.jpg", quality=60 + 3 * number)
    with pytest.raises(Question) as asked:
        read_dataset(root, task="dbt", patient_regex=r"(P\d+)")
    said = str(asked.value)
    assert said.startswith("3 questions, which one command can answer: (1) ")
    assert all(flag in said for flag in ("--positive", "--set-aside", "--distinct-patients"))
    answered = read_dataset(
        root,
        task="dbt",
        patient_regex=r"(P\d+)",
        positive="oak",
        options=ReadOptions(set_aside=True, distinct_patients=True),
    )
    options = {"set_aside": True, "distinct_patients": True}
    assert len(settle_images(answered, options, None)) == 22
