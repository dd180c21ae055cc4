from pathlib import Path

import pytest

from outerfold.storage.errors import Question
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.setup.readable import keep_readable
from tests.storage.images.image_factories import class_folders, write_picture


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
