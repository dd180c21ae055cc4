"""Public sets as they are published: read, asked one question, or refused with the layout drawn."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from outerfold.storage.errors import Question
from outerfold.storage.readers._base import ReadOptions
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError
from tests.storage.readers import published_layouts as sets

Make = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("make", "named", "options", "classes", "patients"),
    [
        (sets.busi, "", {}, ("normal", "benign", "malignant"), None),
        (
            sets.cdd_cesm,
            "Radiology-manual-annotations.xlsx",
            {},
            ("Normal", "Benign", "Malignant"),
            12,
        ),
        (sets.rsna, "train.csv", {}, ("0", "1"), 12),
        (
            sets.cbis_ddsm,
            "csv/mass_case_description_train_set.csv",
            {},
            ("BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"),
            12,
        ),
        (
            sets.breakhis,
            "",
            {"patient_regex": r"(SOB_\w_\w+_14-\w+)/"},
            ("benign", "malignant"),
            16,
        ),
        (
            sets.inbreast,
            "INbreast.csv",
            {"label_column": "Bi-Rads", "patient_regex": r"_([0-9a-f]{16})_MG_"},
            ("1", "2", "3", "4", "5"),
            12,
        ),
    ],
)
def test_a_set_that_names_all_is_read(
    tmp_path: Path,
    make: Make,
    named: str,
    options: dict[str, str],
    classes: tuple[str, ...],
    patients: int | None,
) -> None:
    data = read_dataset(make(tmp_path / "set") / named, task="dbt", options=ReadOptions(**options))
    assert data.classes == classes
    assert data.patients_known == (patients is not None)
    assert patients in {None, len(set(data.patients.tolist()))}


@pytest.mark.parametrize(
    ("make", "named", "positive", "asked", "answer"),
    [
        (sets.breakhis, "", None, "--patient-regex", {"patients_unknown": True}),
        (sets.kaggle_idc, "", "1", "--positive", {}),
        (
            sets.inbreast,
            "INbreast.csv",
            None,
            "2 questions.*--label-column.*--patients-unknown",
            {"label_column": "Bi-Rads", "patients_unknown": True},
        ),
        (
            sets.vindr_mammo,
            "breast-level_annotations.csv",
            None,
            "2 questions.*--label-column.*--patient-column study_id",
            {"label_column": "breast_birads", "patient_column": "study_id"},
        ),
    ],
)
def test_what_a_set_leaves_open_is_asked_in_one_message(
    tmp_path: Path, make: Make, named: str, positive: str | None, asked: str, answer: dict[str, str]
) -> None:
    source = make(tmp_path / "set") / named
    with pytest.raises(Question, match=asked):
        read_dataset(source, task="dbt")
    data = read_dataset(source, task="dbt", positive=positive, options=ReadOptions(**answer))
    assert len(data.classes) in {2, 5}


@pytest.mark.parametrize(
    ("make", "sheets"),
    [
        (sets.cdd_cesm, ["Radiology-manual-annotations.xlsx"]),
        (sets.inbreast, ["INbreast.csv"]),
        (sets.rsna, ["train.csv"]),
        (sets.cbis_ddsm, ["csv/mass_case_description_train_set.csv"]),
        (sets.vindr_mammo, ["breast-level_annotations.csv"]),
        (sets.cmmd, ["CMMD_clinicaldata_revision.xlsx"]),
        (sets.embed, ["tables/EMBED_OpenData_clinical.csv", "tables/EMBED_OpenData_metadata.csv"]),
        (sets.bcs_dbt, ["BCS-DBT-labels-train.csv", "BCS-DBT-file-paths-train.csv"]),
    ],
)
def test_a_set_without_class_folders_is_refused_with_its_layout_and_its_sheets(
    tmp_path: Path, make: Make, sheets: list[str]
) -> None:
    with pytest.raises(DataError) as refused:
        read_dataset(make(tmp_path / "set"), task="dbt")
    said = str(refused.value)
    assert re.search(r"\n  \S.*/  \S+ \(\d+ images\)\n", said)
    assert "a .csv with the columns file, label and patient_id, such as" in said
    assert all(f"{name} was not read" in said for name in sheets)


def test_images_beside_each_other_are_refused_with_the_manifest_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"12 images beside each other.*mdb001\.pgm,LABEL,PATIENT"):
        read_dataset(sets.mias(tmp_path / "set"), task="dbt")


def test_editions_of_one_set_are_no_classes(tmp_path: Path) -> None:
    for edition in ("jpg", "png"):
        sets.busi(tmp_path / "set" / edition)
    with pytest.raises(DataError, match=r"\['jpg', 'png'\] look like editions of one set"):
        read_dataset(tmp_path / "set", task="dbt")
    read_dataset(tmp_path / "set" / "png", task="dbt")


def test_the_gravest_lesion_of_an_image_labels_it(tmp_path: Path) -> None:
    sheet = sets.cbis_ddsm(tmp_path / "set") / "csv/mass_case_description_train_set.csv"
    rows = sheet.read_text().splitlines()
    sheet.write_text(
        "\n".join([rows[0], rows[1], rows[1].replace(",BENIGN,", ",MALIGNANT,"), *rows[2:]])
    )
    data = read_dataset(sheet, task="dbt")
    first = data.ids.tolist().index("../jpeg/1.3.6.1.4.1.9590.0/1-1.jpg")
    assert data.classes[data.labels[first]] == "MALIGNANT"
    assert any("lists lesions: 7 images have several rows" in note for note in data.assumptions)


def test_rows_of_one_image_are_refused_where_nothing_numbers_lesions(tmp_path: Path) -> None:
    sheet = sets.cbis_ddsm(tmp_path / "set") / "csv/mass_case_description_train_set.csv"
    sheet.write_text(sheet.read_text().replace("abnormality id", "remark"))
    with pytest.raises(DataError, match="are listed twice; keep one row"):
        read_dataset(sheet, task="dbt")
