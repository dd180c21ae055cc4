from pathlib import Path

import numpy as np
import pytest
from openpyxl import load_workbook

from outerfold.storage.audit.audit import audit_dataset
from outerfold.storage.datasets.demo import Task, write_demo
from outerfold.storage.images.read import content_hash, read_image
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError, Dataset

SMALL: dict[Task, int] = {"multimodal": 20, "dbt": 30}


@pytest.fixture(scope="module", params=["multimodal", "dbt"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    task: Task = request.param
    root = tmp_path_factory.mktemp("demo") / task
    assert write_demo(root, task=task, patients=SMALL[task]) == root
    return read_dataset(root, task=task)


def test_the_readers_read_it_back_as_synthetic_with_known_patients(demo: Dataset) -> None:
    assert demo.synthetic
    assert demo.patients_known
    assert len(set(demo.patients.tolist())) == SMALL[demo.name]  # type: ignore[index]
    images = {read_image(path).shape for path in demo.features.images}
    assert images == {(224, 224, 3)}


def test_a_patient_has_one_class_and_mostly_several_images(demo: Dataset) -> None:
    pairs = set(zip(demo.patients.tolist(), demo.labels.tolist(), strict=True))
    assert len(pairs) == len(set(demo.patients.tolist()))
    assert len(demo) >= 1.5 * len(pairs)


def test_the_audit_finds_nothing_to_stop_at_and_no_lookalikes(demo: Dataset) -> None:
    result = audit_dataset(demo, outer_folds=2, inner_folds=2)
    assert result.errors == ()
    assert not [said for said in result.warnings if "identical" in said]


def test_equal_seeds_write_equal_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for task in ("multimodal", "dbt"):
        trees = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            root = write_demo(tmp_path / task / name, task=task, seed=seed, patients=8)
            files = sorted(path for path in root.rglob("*") if path.is_file())
            trees.append({p.relative_to(root).as_posix(): content_hash(p) for p in files})
        assert trees[0] == trees[1]
        assert trees[0] != trees[2]


def test_multimodal_has_the_real_sheet_with_gaps_and_masks(tmp_path: Path) -> None:
    root = write_demo(tmp_path / "demo", task="multimodal", patients=24, seed=0)
    sheet = load_workbook(root / "DataWMask.xlsx").active
    header, *rows = list(sheet.iter_rows(values_only=True))
    assert header[:3] == ("fullPath", "fileName", "View")
    assert header[-3:] == ("Age", "Density", "family_history")
    assert len(rows) == 96
    assert all("\\" in row[0] for row in rows)
    assert any(row[7] is None for row in rows)
    assert any(row[8] == 0 for row in rows)
    assert list(root.rglob("*_Mask.jpg"))
    data = read_dataset(root, task="multimodal")
    assert [c.name for c in data.features.columns] == ["age", "density", "family_history"]
    assert data.features.columns[2].kind == "binary"
    assert np.isnan(data.features.tabular).any(axis=0).all()
    assert 0.2 < data.labels.mean() < 0.35


def test_dbt_is_imbalanced_like_the_real_set(tmp_path: Path) -> None:
    root = write_demo(tmp_path / "demo", task="dbt", patients=40)
    data = read_dataset(root, task="dbt")
    counts = np.bincount(data.labels)
    assert data.classes == ("Normal", "Actionable", "Benign", "Cancer")
    assert counts[0] == counts.max() > 2 * counts[3]
    assert data.ids[0].startswith("Actionable/DBT-P000")


def test_it_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr("outerfold.storage.datasets.demo._make_sheet", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_demo(tmp_path / "demo", task="multimodal", patients=6)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_and_too_few_patients_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="is not empty"):
        write_demo(tmp_path, task="dbt", patients=8)
    with pytest.raises(DataError, match="at least 8 patients, found 3"):
        write_demo(tmp_path / "x", task="dbt", patients=3)
