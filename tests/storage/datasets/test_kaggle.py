import time
from pathlib import Path

import pytest

from outerfold.storage.datasets import kaggle
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import class_folders


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    return tmp_path


def _complete(cache: Path, task: kaggle.Task) -> Path:
    """A finished download as kagglehub marks it."""
    owner, name, _, version = kaggle.TASK_SETS[task].split("/")
    folder = cache / "datasets" / owner / name
    (folder).mkdir(parents=True)
    (folder / f"{version}.complete").touch()
    return folder / "versions" / version


def test_handles_pin_a_version() -> None:
    assert all("/versions/" in handle for handle in kaggle.TASK_SETS.values())


def test_a_local_copy_is_found_below_its_wrapping_folders(cache: Path) -> None:
    folder = _complete(cache, "dbt")
    class_folders(folder / "archive" / "train", {"Normal": 1, "Cancer": 1})
    found = kaggle.availability("dbt")
    assert found.state == "local"
    assert found.path == folder / "archive" / "train"
    assert kaggle.find_or_download("dbt") == found.path


def test_an_unfinished_download_does_not_count_as_local(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _complete(cache, "dbt")
    class_folders(folder, {"Normal": 1, "Cancer": 1})
    next(folder.parents[1].glob("*.complete")).unlink()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert kaggle.availability("dbt").state == "unavailable"


def test_without_network_it_says_why_within_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    start = time.perf_counter()
    found = kaggle.availability("multimodal")
    assert time.perf_counter() - start < 6
    assert found.state == "unavailable"
    assert "cheddad/miniddsm" in found.reason
    assert "cannot be reached: 127.0.0.1" in found.reason
    assert kaggle.find_or_download("multimodal") is None


def test_the_sheet_decides_over_class_folders_of_other_editions(tmp_path: Path) -> None:
    class_folders(tmp_path / "A-more", {"Benign": 1, "Cancer": 1})
    class_folders(tmp_path / "JPEG-8", {"Benign": 1, "Cancer": 1})
    (tmp_path / "JPEG-8" / "DataWMask.xlsx").touch()
    assert kaggle.data_root(tmp_path) == tmp_path / "JPEG-8"


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a Mini-DDSM sheet nor class folders"):
        kaggle.data_root(tmp_path)
