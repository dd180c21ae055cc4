"""Small trees in the layouts in which public sets are published; their pictures are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import openpyxl

from tests.storage.images.image_factories import picture_bytes

Rows = Iterable[Iterable[object]]


def _put(root: Path, names: Iterable[str]) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes(number))


def _sheet(path: Path, rows: Rows, sep: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(sep.join(map(str, row)) for row in rows) + "\n", encoding="utf-8")


def _names(text: str) -> list[object]:
    return list(text.split(","))


def _book(path: Path, rows: Rows) -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    book.save(path)


def busi(root: Path) -> Path:
    """Class folders with masks; no patients are known."""
    for name in ("benign", "malignant", "normal"):
        _put(root / "Dataset_BUSI_with_GT" / name, (f"{name} ({n}).png" for n in range(8)))
        _put(root / "Dataset_BUSI_with_GT" / name, (f"{name} ({n})_mask.png" for n in range(8)))
    _put(root / "Dataset_BUSI_with_GT" / "benign", ["benign (1)_mask_1.png"])
    return root


def breakhis(root: Path) -> Path:
    """CLASS/SOB/TYPE/SLIDE/MAGNIFICATION, the slide being the patient's."""
    for name, kinds in (("benign", "AF"), ("malignant", "DM")):
        for kind in kinds:
            for slide in range(4):
                code = f"SOB_{name[0].upper()}_{kind}_14-2254{slide}{kind}"
                folder = root / "BreaKHis_v1/histology_slides/breast" / name / "SOB" / kind / code
                zooms = (40, 100)
                _put(
                    folder,
                    (
                        f"{z}X/{code.replace('_14', '-14')}-{z}-{n:03}.png"
                        for z in zooms
                        for n in (1, 2)
                    ),
                )
    return root


def mias(root: Path) -> Path:
    """Flat files, two of each patient, and a text of labels."""
    _put(root, (f"mdb{n:03}.pgm" for n in range(1, 13)))
    _sheet(root / "Info.txt", ([f"mdb{n:03}", "G", "CIRC", "B"] for n in range(1, 13)), " ")
    return root


def cdd_cesm(root: Path) -> Path:
    """Two folders of images of all classes, with a workbook."""
    rows: list[list[object]] = [
        _names(
            "Patient_ID,Age,Side,Type,Image_name,Breast density,Pathology Classification/ Follow up"
        )
    ]
    for patient in range(12):
        for kind, folder in (
            ("DM", "Low energy images of CDD-CESM"),
            ("CM", "Subtracted images of CDD-CESM"),
        ):
            name = f"P{patient}_L_{kind}_MLO"
            _put(root / folder, [f"{name}.jpg"])
            label = ("Normal", "Benign", "Malignant")[patient % 3]
            rows.append([patient, 50, "L", kind, name, "b", label])
    _book(root / "Radiology-manual-annotations.xlsx", rows)
    return root


def kaggle_idc(root: Path) -> Path:
    """PATIENT/CLASS/image."""
    for patient in range(8863, 8871):
        for label in (0, 1):
            _put(
                root / f"{patient}/{label}",
                (f"{patient}_idx5_x{n}51_y1251_class{label}.png" for n in (1, 2)),
            )
    return root


def inbreast(root: Path) -> Path:
    """Flat DICOM files whose names begin with a number that the sheet lists."""
    rows: list[list[object]] = [
        [
            "Patient ID",
            "Patient age",
            "Laterality",
            "View",
            "Acquisition date",
            "File Name",
            "ACR",
            "Bi-Rads",
        ]
    ]
    for n in range(12):
        _put(root / "AllDICOMs", [f"{20586900 + n}_6c613a14b80a85{n:02}_MG_R_CC_ANON.dcm"])
        rows.append(["removed", "removed", "R", "CC", 201001, 20586900 + n, 2, n % 5 + 1])
    _sheet(root / "INbreast.csv", rows, ";")
    return root


def rsna(root: Path) -> Path:
    """train_images/PATIENT/IMAGE.dcm and train.csv."""
    rows = [_names("site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS")]
    for n in range(24):
        _put(root / f"train_images/{10006 + n // 2}", [f"{462822612 + n}.dcm"])
        rows.append(
            list(map(str, [2, 10006 + n // 2, 462822612 + n, "L", "CC", 61, n // 12, 0, 0, ""]))
        )
    _sheet(root / "train.csv", rows)
    return root


def cbis_ddsm(root: Path) -> Path:
    """jpeg/UID/1-1.jpg and one sheet a kind of lesion, in which an image may occur twice."""
    rows: list[list[object]] = [
        _names("patient_id,breast_density,left or right breast,abnormality id,pathology,image path")
    ]
    for n in range(12):
        uid = f"jpeg/1.3.6.1.4.1.9590.{n}/1-1.jpg"
        _put(root, [uid])
        label = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")[n % 3]
        for abnormality in (1, 2)[: 1 + n % 2]:
            rows.append([f"P_{n:05}", 3, "LEFT", abnormality, label, f"../{uid}"])
    _sheet(root / "csv/mass_case_description_train_set.csv", rows)
    return root


def vindr_mammo(root: Path) -> Path:
    """images/STUDY/IMAGE.dicom and a sheet of breasts."""
    rows = [_names("study_id,series_id,image_id,laterality,view_position,breast_birads,split")]
    for n in range(32):
        _put(root / f"images/study{n // 2:03}", [f"image{n:03}.dicom"])
        label = f"BI-RADS {n // 2 % 2 + 1}"
        rows.append([f"study{n // 2:03}", "s", f"image{n:03}", "L", "CC", label, "training"])
    _sheet(root / "breast-level_annotations.csv", rows)
    return root


def cmmd(root: Path) -> Path:
    """PATIENT/STUDY/SERIES/1-1.dcm and a workbook of breasts."""
    rows: list[list[object]] = [
        ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"]
    ]
    for n in range(16):
        _put(
            root / f"CMMD/D1-{n:04}/07-18-2010-NA-NA-79377/1.000000-NA-70244",
            ["1-1.dcm", "1-2.dcm"],
        )
        rows.append([f"D1-{n:04}", "R", 44, 2, "mass", ("Benign", "Malignant")[n % 2], ""])
    _book(root / "CMMD_clinicaldata_revision.xlsx", rows)
    return root


def embed(root: Path) -> Path:
    """images/PATIENT/STUDY/image and two tables, of which neither has both files and labels."""
    clinical, files = (
        [["empi_anon", "acc_anon", "asses", "path_severity"]],
        [["empi_anon", "acc_anon", "anon_dicom_path", "ImageLateralityFinal"]],
    )
    for n in range(16):
        name = f"images/cohort_1/{n}/acc{n}/1.2.{n}.dcm"
        _put(root, [name])
        clinical.append([str(n), f"acc{n}", "N", ""])
        files.append([str(n), f"acc{n}", f"/mnt/NAS2/mammo/anon_dicom/{name}", "L"])
    _sheet(root / "tables/EMBED_OpenData_clinical.csv", clinical)
    _sheet(root / "tables/EMBED_OpenData_metadata.csv", files)
    return root


def bcs_dbt(root: Path) -> Path:
    """Volumes of patients, a sheet of paths and one of labels as columns."""
    labels, files = (
        [["PatientID", "StudyUID", "View", "Normal", "Actionable", "Benign", "Cancer"]],
        [["PatientID", "StudyUID", "View", "descriptive_path", "classic_path"]],
    )
    for n in range(16):
        name = f"Breast-Cancer-Screening-DBT/DBT-P{n:05}/01-01-2000-NA-NA-1/1-1.dcm"
        _put(root, [name])
        labels.append([f"DBT-P{n:05}", f"DBT-S{n:05}", "lcc", *map(str, (1, 0, 0, 0))])
        files.append([f"DBT-P{n:05}", f"DBT-S{n:05}", "lcc", name, name])
    _sheet(root / "BCS-DBT-labels-train.csv", labels)
    _sheet(root / "BCS-DBT-file-paths-train.csv", files)
    return root


LAYOUTS: tuple[Callable[[Path], Path], ...] = (
    busi,
    breakhis,
    mias,
    cdd_cesm,
    kaggle_idc,
    inbreast,
    rsna,
    cbis_ddsm,
    vindr_mammo,
    cmmd,
    embed,
    bcs_dbt,
)
