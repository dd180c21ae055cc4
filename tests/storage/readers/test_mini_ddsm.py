from pathlib import Path

import numpy as np
import pytest
from openpyxl import Workbook

from outerfold.storage.readers.mini_ddsm import list_mini_ddsm
from outerfold.storage.readers.read import read_dataset, read_sheet_only
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import real_data, write_picture

HEADER = ["fullPath", "fileName", "View", "Side", "Status", "Tumour_Contour", "Age", "Density"]


def _sheet(path: Path, rows: list[list[object]], header: list[str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    for row in [header or HEADER, *rows]:
        book.active.append(row)
    book.save(path)


def _row(status: str, case: str, age: object = 50, density: object = 2) -> list[object]:
    name = f"{case}_1.LEFT_CC.png"
    number = case.split("_")[1]
    return [f"{status}\\{number}\\{name}", name, "CC", "LEFT", status, "-", age, density]


def _images(root: Path, rows: list[list[object]]) -> None:
    for seed, row in enumerate(rows):
        write_picture(root / str(row[0]).replace("\\", "/"), seed)


ROWS = [_row("Benign", "C_0029", None, 0), _row("Cancer", "B_0029"), _row("Normal", "A_0029", 61)]


def test_back_slashes_missing_age_and_density_zero_are_read(tmp_path: Path) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", ROWS)
    _images(tmp_path, ROWS)
    data = read_dataset(tmp_path, task="multimodal")
    assert data.ids[0] == "Benign/0029/C_0029_1.LEFT_CC.png"
    assert data.classes == ("other", "Cancer")
    assert [column.name for column in data.features.columns] == ["age", "density"]
    assert [column.gaps for column in data.features.columns] == [(), (0.0,)]
    np.testing.assert_array_equal(data.features.tabular, [[np.nan] * 2, [50, 2], [61, 2]])
    assert any("density 0" in said and "(1 rows)" in said for said in data.assumptions)


def test_equal_case_numbers_of_different_volumes_are_different_patients(tmp_path: Path) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", ROWS)
    _images(tmp_path, ROWS)
    assert read_dataset(tmp_path, task="dbt").patients.tolist() == ["C_0029", "B_0029", "A_0029"]


def test_only_rows_with_images_are_kept_and_it_is_said(tmp_path: Path) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", ROWS)
    _images(tmp_path, ROWS[:2])
    data = read_dataset(tmp_path, task="multimodal")
    assert len(data) == 2
    assert any("1 of 3 rows of DataWMask.xlsx have no image" in said for said in data.assumptions)


def test_no_image_at_all_is_refused(tmp_path: Path) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", ROWS)
    with pytest.raises(DataError, match=r"none of the 3 images of DataWMask.xlsx exists"):
        read_dataset(tmp_path, task="multimodal")


def test_one_list_a_class_reads_as_the_joint_sheet_does(tmp_path: Path) -> None:
    header = [name for name in HEADER if name != "Status"]
    for row in ROWS:
        _sheet(tmp_path / "lists" / f"List_{row[4]}.xlsx", [row[:4] + row[5:]], header)
    _sheet(tmp_path / "joint" / "DataWMask.xlsx", ROWS)
    _images(tmp_path / "lists", ROWS)
    _images(tmp_path / "joint", ROWS)
    lists = read_dataset(tmp_path / "lists", task="multimodal")
    joint = read_dataset(tmp_path / "joint", task="multimodal")
    assert lists.fingerprint == joint.fingerprint
    assert lists.labels.tolist() == joint.labels.tolist()


def test_the_png_edition_is_found_through_the_jpeg_sheet(tmp_path: Path) -> None:
    rows = [[str(cell).replace(".png", ".jpg") for cell in row] for row in ROWS]
    _sheet(tmp_path / "DataWMask.xlsx", rows)
    _images(tmp_path, ROWS)
    data = read_dataset(tmp_path, task="dbt")
    assert data.features.images[0].endswith(".png")


def test_a_sheet_without_paths_and_a_broken_sheet_are_refused(tmp_path: Path) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", [["x"]], ["name"])
    with pytest.raises(DataError, match="has no column 'fullPath'"):
        read_dataset(tmp_path, task="dbt")
    (tmp_path / "DataWMask.xlsx").write_bytes(b"no sheet")
    with pytest.raises(DataError, match=r"DataWMask\.xlsx: cannot be read"):
        read_dataset(tmp_path, task="dbt")


def test_a_default_column_may_be_asked_for_in_any_case_and_label_columns_too(
    tmp_path: Path,
) -> None:
    _sheet(tmp_path / "DataWMask.xlsx", ROWS)
    _images(tmp_path, ROWS)
    data = read_dataset(tmp_path, task="multimodal", columns=["AGE", "status", "Tumour_Contour"])
    assert [column.name for column in data.features.columns] == ["age", "Status", "Tumour_Contour"]


def test_the_real_sheet_has_1952_patients_and_its_missing_values() -> None:
    data = read_sheet_only(real_data("mini-ddsm"))
    assert len(data) == 7808
    assert len(set(data.patients.tolist())) == 1952
    assert np.bincount(data.labels).tolist() == [5092, 2716]
    assert np.isnan(data.features.tabular).sum(axis=0).tolist() == [12, 4]


def test_the_real_cases_have_forty_views_and_no_mask() -> None:
    listing = list_mini_ddsm(real_data("mini-ddsm"))
    assert len(listing.ids) == 40
    assert not [name for name in listing.ids if "mask" in name.lower()]
    assert len(set(listing.patients or ())) == 10
    assert any("7768 of 7808 rows" in said for said in listing.assumptions)
