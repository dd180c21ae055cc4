from pathlib import Path

import pandas as pd
import pytest

from outerfold.storage.readers._base import ReadOptions
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import write_metadata, write_picture


def _images(root: Path, count: int = 4) -> list[str]:
    names = [f"images/i{n}.png" for n in range(count)]
    for seed, name in enumerate(names):
        write_picture(root / name, seed)
    return names


def test_rows_are_sorted_so_that_the_order_of_the_sheet_changes_nothing(tmp_path: Path) -> None:
    names = _images(tmp_path)
    rows = [f"{name},{'ab'[i % 2]},p{i}" for i, name in enumerate(names)]
    one = read_dataset(
        write_metadata(tmp_path, "file,label,patient_id", rows, "m.csv"), task="dbt", positive="b"
    )
    two = read_dataset(
        write_metadata(tmp_path, "file,label,patient_id", rows[::-1], "n.csv"),
        task="dbt",
        positive="b",
    )
    assert one.ids.tolist() == names
    assert one.fingerprint == two.fingerprint
    assert one.name == "m"


def test_semicolons_byte_order_mark_and_back_slashes_are_read(tmp_path: Path) -> None:
    names = _images(tmp_path)
    rows = [f"{n};{'ab'[i % 2]};p{i}".replace("/", "\\") for i, n in enumerate(names)]
    text = "﻿" + "\n".join(["File;Label;Patient ID", *rows])
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    data = read_dataset(tmp_path / "m.csv", task="dbt", positive="b")
    assert data.ids.tolist() == names
    assert data.patients.tolist() == ["p0", "p1", "p2", "p3"]


def test_a_folder_whose_metadata_has_the_labels_is_read_as_a_manifest(tmp_path: Path) -> None:
    names = _images(tmp_path)
    rows = [f"{n},{'ab'[i % 2]},p{i}" for i, n in enumerate(names)]
    write_metadata(tmp_path, "file,label,patient_id", rows)
    assert read_dataset(tmp_path, task="dbt", positive="b").classes == ("a", "b")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,patient_id", "images/i0.png,p", "needs a column 'label'"),
        ("label,patient_id", "a,p", "needs a column 'file'"),
        ("file,label,patient_id", "images/i9.png,a,p", r"\['images/i9.png'\] .* do not exist"),
        ("file,label,patient_id", "images/i0.png,a,", "1 of 1 images have no patient"),
        ("file,label,patient_id", "images/i0.png,a,p\nimages/i0.png,a,p", "listed twice"),
        ("file,label,patient_id", "m.csv,a,p", "are no images"),
    ],
)
def test_a_bad_manifest_is_explained(tmp_path: Path, header: str, row: str, message: str) -> None:
    _images(tmp_path)
    path = write_metadata(tmp_path, header, [row], "m.csv")
    with pytest.raises(DataError, match=message):
        read_dataset(path, task="dbt")


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    path = write_metadata(tmp_path, "file,label", [], "m.csv")
    with pytest.raises(DataError, match="has no rows"):
        read_dataset(path, task="dbt")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_dataset(path, task="dbt")


def test_columns_of_other_names_and_bare_file_names_are_read(tmp_path: Path) -> None:
    for seed, name in enumerate(["x/one.png", "y/two.png", "two/three.png"]):
        write_picture(tmp_path / name, seed)
    rows = ["one,benign,7,L", "two,cancer,8,R", "three.png,cancer,9,R"]
    path = write_metadata(tmp_path, "Image,Truth,MRN,Laterality", rows, "m.csv")
    with pytest.raises(DataError, match="name the column with --label-column"):
        read_dataset(path, task="dbt")
    data = read_dataset(path, task="dbt", options=ReadOptions(label_column="truth"))
    assert data.ids.tolist() == ["two/three.png", "x/one.png", "y/two.png"]
    assert data.patients.tolist() == ["9", "7", "8"]
    assert data.sides.tolist() == ["right", "left", "right"]
    with pytest.raises(DataError, match=r"--patient-column 'MNR': m.csv has no such column; did"):
        read_dataset(
            path, task="dbt", options=ReadOptions(patient_column="MNR", label_column="Truth")
        )


def test_a_workbook_is_a_manifest_and_two_label_columns_are_asked(tmp_path: Path) -> None:
    for seed in range(2):
        write_picture(tmp_path / f"{seed}.png", seed)
    cells = {"file": ["0.png", "1.png"], "pathology": ["benign", "cancer"], "cancer": [0, 1]}
    pd.DataFrame(cells).to_excel(tmp_path / "m.xlsx", index=False)
    with pytest.raises(DataError, match="--label-column cancer or --label-column pathology"):
        read_dataset(tmp_path / "m.xlsx", task="dbt")
    chosen = ReadOptions(label_column="cancer")
    assert read_dataset(tmp_path / "m.xlsx", task="dbt", options=chosen).classes == ("0", "1")


def test_a_sheet_that_is_not_read_is_named(tmp_path: Path) -> None:
    for seed, name in enumerate(["benign", "cancer"]):
        write_picture(tmp_path / name / "a.png", seed)
    write_metadata(tmp_path, "id,age", ["1,2"], "clinical.csv")
    said = read_dataset(tmp_path, task="dbt").assumptions
    assert any(text.startswith("clinical.csv was not read") for text in said)


def test_rows_without_a_file_are_set_aside_and_images_without_a_row_are_counted(
    tmp_path: Path,
) -> None:
    names = _images(tmp_path, 42)
    rows = [f"{name},{'ab'[i % 2]},p{i}" for i, name in enumerate([*names[:40], "gone.png"])]
    source = write_metadata(tmp_path, "file,label,patient_id", rows, "m.csv")
    data = read_dataset(source, task="dbt", positive="b")
    assert [(row.id, row.why) for row in data.set_aside] == [("gone.png", "no such file")]
    assert len(data) == 40
    assert any("m.csv lists 40 images; 2 others beside them" in note for note in data.assumptions)
    with pytest.raises(DataError, match="--strict"):
        read_dataset(source, task="dbt", positive="b", options=ReadOptions(strict=True))


def test_columns_of_which_one_is_1_are_labels(tmp_path: Path) -> None:
    names = _images(tmp_path, 6)
    rows = [
        f"{n},p{i},{int(i % 3 == 0)},{int(i % 3 == 1)},{int(i % 3 == 2)}"
        for i, n in enumerate(names)
    ]
    source = write_metadata(tmp_path, "file,patient_id,Normal,Benign,Cancer", rows, "m.csv")
    data = read_dataset(source, task="dbt")
    assert data.classes == ("Normal", "Benign", "Cancer")
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert any("were read as labels" in note for note in data.assumptions)
    one = read_dataset(source, task="dbt", options=ReadOptions(label_column="Cancer"))
    assert one.classes == ("0", "1")
