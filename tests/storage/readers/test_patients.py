import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.storage.errors import Question
from outerfold.storage.readers._base import DEFAULTS, Listing, ReadOptions
from outerfold.storage.readers.patients import (
    _by_tag,
    ask_of_table,
    drop_nameless,
    find_patients,
    propose_regex,
)
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError, Predictions
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import predictions_csv, read_predictions
from outerfold.study.splits import split
from tests.storage.images.image_factories import write_metadata, write_picture


def listing(ids: list[str], patients: list[str] | None = None) -> Listing:
    labels = tuple(name.split("/")[0] for name in ids)
    named = None if patients is None else tuple(patients)
    return Listing(Path(), tuple(ids), tuple(map(Path, ids)), labels, named, source="m.csv")


def ask(rows: Listing, options: ReadOptions = DEFAULTS) -> tuple[int, int, list[Question]]:
    questions: list[Question] = []
    found = find_patients(rows, options, questions)
    return len(set(found.names)), len(set(found.groups)), questions


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("study_id", True),
        ("woman id", True),
        ("site_id", False),
        ("slice no", False),
        ("hue", False),
    ],
)
def test_a_column_that_may_name_patients_is_asked_about(name: str, asked: bool) -> None:
    rows = listing([f"a/{i}x.png" for i in range(48)])
    rows = replace(rows, table={name: tuple(str(i // 2) for i in range(48)), "image_no": rows.ids})
    questions: list[Question] = []
    if not asked:
        assert ask_of_table(rows.table, None, "m.csv", DEFAULTS) is None
        return
    find_patients(rows, DEFAULTS, questions)
    quoted = f"'{name}'" if " " in name else name
    assert f"24 values for 48 images, at most 2 images each; add --patient-column {quoted}" in str(
        questions[0]
    )
    few = replace(rows, table={name: tuple(str(i % 4) for i in range(48))})
    assert ask_of_table(few.table, None, "m.csv", DEFAULTS) is None


@pytest.mark.parametrize(
    "other", [lambda p: f"{p:03d}", lambda p: f"{p}.0", lambda p: f"P{p}", lambda p: f"pat {p}"]
)
def test_two_spellings_of_a_patient_are_one_group(other: Callable[[int], str]) -> None:
    names = [str(i // 4) if i % 4 < 2 else other(i // 4) for i in range(96)]
    rows = listing([f"a/{i}.png" for i in range(96)], names)
    spelt = len(set(names))
    assert ask(rows)[:2] == (spelt, 24)
    assert ask(rows, ReadOptions(distinct_patients=True))[:2] == (spelt, spelt)


def test_grouped_spellings_are_said() -> None:
    found = find_patients(listing(["a/1.png", "a/2.png"], ["7", "007"]), DEFAULTS, [])
    assert "007 = 7" in found.notes[0]
    assert "--distinct-patients" in found.notes[0]


def _headers(root: Path, tags: list[str | None], patients: list[str] | None = None) -> Listing:
    """Rows of DICOM files that hold no more than a ``PatientID``; None leaves it out."""
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    rows = listing([f"a/{i}.dcm" for i in range(len(tags))], patients)
    rows = replace(rows, images=tuple(root / f"{i}.dcm" for i in range(len(tags))))
    for path, tag in zip(rows.images, tags, strict=True):
        file = pydicom.Dataset()
        file.file_meta = pydicom.dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2"
        if tag is not None:
            file.PatientID = tag
        file.save_as(path, enforce_file_format=True)
    return rows


def test_patients_are_those_of_the_dicom_tag_where_nothing_else_names_them(tmp_path: Path) -> None:
    rows = _headers(tmp_path, ["K7", "K7", "L2", "k07"])
    found = find_patients(rows, DEFAULTS, [])
    assert found.names == ("K7", "K7", "L2", "k07")
    assert found.known
    assert len(set(found.groups)) == 2
    assert "DICOM tag PatientID (3 patients, 4 images)" in found.notes[0]
    assert ask(rows, ReadOptions(distinct_patients=True))[:2] == (3, 3)
    regex = ReadOptions(patient_regex="a/(.)", distinct_patients=True)
    assert ask(rows, regex)[0] == 4


@pytest.mark.parametrize(
    "tags", [["K7", "K7"], ["K7", None], ["K7", "anonymous"]], ids=["one", "gap", "removed"]
)
def test_a_tag_that_does_not_name_every_patient_names_none(
    tmp_path: Path, tags: list[str | None]
) -> None:
    assert _by_tag(_headers(tmp_path, tags)) is None


def test_tags_name_patients_only_where_all_files_are_dicom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _headers(tmp_path, ["K7", "L2", "L2"])
    assert _by_tag(rows) is not None
    assert _by_tag(replace(rows, images=(*rows.images[:2], tmp_path / "b.png"))) is None
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert _by_tag(rows) is None


def test_files_of_one_tag_under_two_patients_are_grouped(tmp_path: Path) -> None:
    rows = _headers(tmp_path, ["K7", "K7", "L2", "L2", None], ["one", "two", "four", "four", "x"])
    found = find_patients(rows, DEFAULTS, [])
    assert found.groups == ("one", "one", "four", "four", "x")
    assert found.names == rows.patients
    assert "one = two" in found.notes[0]
    assert "K7" not in found.notes[0]
    assert ask(rows, ReadOptions(distinct_patients=True))[:2] == (4, 4)


def test_a_tag_of_many_patients_is_asked_about_and_one_of_all_is_none(tmp_path: Path) -> None:
    names = ["one", "two", "three", "four", "five", "six", "seven"]
    rows = _headers(tmp_path, ["K7"] * 6 + ["L2"], names)
    assert "(6 names) have one PatientID" in str(ask(rows)[2][0])
    assert ask(_headers(tmp_path, ["K7"] * 7, names)) == (7, 7, [])


def test_a_long_chain_is_asked() -> None:
    names = ["7", "07", "007", "7.0", "P7", "p7"]
    rows = listing([f"a/{i}.png" for i in range(6)], names)
    assert "--distinct-patients" in str(ask(rows)[2][0])


def test_rows_without_a_patient_are_set_aside_and_half_of_them_refused() -> None:
    ids = [f"a/{i}.png" for i in range(10)]
    kept = drop_nameless(listing(ids, ["nan", "removed", *(f"P{i}" for i in range(8))]))
    assert [row.id for row in kept.set_aside] == ids[:2]
    assert kept.set_aside[0].label == "a"
    with pytest.raises(DataError, match="6 of 10 images have no patient"):
        drop_nameless(listing(ids, ["1.2E+12"] * 6 + ["P1"] * 4))


def test_equal_folder_numbers_under_two_classes_are_grouped() -> None:
    ids = [f"Benign/{n:04d}/{s}.png" for n in range(8) for s in "LR"]
    ids += [f"Cancer/{n:04d}/{s}.png" for n in range(5, 13) for s in "LR"]
    assert ask(listing(ids))[:2] == (16, 13)


def test_years_are_no_patients() -> None:
    ids = [f"{c}/{y}/{i}.png" for c in ("a", "b") for y in range(2010, 2030) for i in range(3)]
    assert propose_regex(ids) is None


@pytest.mark.parametrize(
    ("ids", "patients"),
    [
        ([f"{'ab'[p % 2]}/P{p:03}/{s}.png" for p in range(30) for s in ("left", "right")], 30),
        ([f"{'ab'[p % 2]}/{p + 10000}/{s}.png" for p in range(30) for s in "lr"], 30),
        ([f"{'ab'[p % 2]}/P{p}_{s}_CM_{v}.png" for p in range(30) for s in "LR" for v in "ab"], 30),
        ([f"a/SOB/SOB_B-14-{p}/{m}X/{p}-{m}.png" for p in range(40) for m in (40, 100)], 40),
        ([f"a/{p * 90 + s}_{p:x}7f_MG_{s}.png" for p in range(30) for s in range(2)], 30),
    ],
)
def test_a_pattern_is_proposed_with_its_counts_and_asked(ids: list[str], patients: int) -> None:
    text = str(ask(listing(ids))[2][0])
    assert f"finds {patients} patients in the paths of {len(ids)} images" in text
    pattern = propose_regex(ids)
    assert pattern is not None
    assert f"--patient-regex '{pattern}'" in text
    assert ask(listing(ids), ReadOptions(patient_regex=pattern)) == (patients, patients, [])


@pytest.mark.parametrize(
    "ids",
    [
        [f"{c}/{c} ({i}).png" for c in ("benign", "malignant") for i in range(40)],
        [f"{c}/mdb{i:03}.pgm" for c in "ab" for i in range(40)],
        [f"{c}/img_{i}.png" for c in "ab" for i in range(40)],
    ],
)
def test_file_numbers_are_not_proposed_as_patients(ids: list[str]) -> None:
    assert propose_regex(ids) is None


def test_few_patients_are_proposed_without_a_question(tmp_path: Path) -> None:
    for p in range(12):
        for seed, side in enumerate(("left", "right")):
            folder = tmp_path / ("Cancer" if p > 5 else "Normal") / f"P{p:03d}"
            write_picture(folder / f"{side}.png", 2 * p + seed)
    data = read_dataset(tmp_path, task="dbt")
    assert not data.patients_known
    assert any("finds 12 patients in the paths of 24 images" in said for said in data.assumptions)
    known = read_dataset(tmp_path, task="dbt", patient_regex="/(P[0-9]+)/")
    assert len(set(known.patients.tolist())) == 12
    unknown = read_dataset(tmp_path, task="dbt", options=ReadOptions(patients_unknown=True))
    assert not any("--patient-regex" in said for said in unknown.assumptions)


def test_no_split_parts_a_group_and_the_files_of_a_run_keep_it(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'cancer' if i % 24 > 11 else 'benign'},{i % 24}" for i in range(24)]
    rows += [f"{i}.png,{'cancer' if i % 24 > 11 else 'benign'},P{i % 24:03}" for i in range(24, 48)]
    for i in range(48):
        write_picture(tmp_path / f"{i}.png", i)
    data = read_dataset(
        write_metadata(tmp_path, "file,label,patient_id", rows, "m.csv"), task="dbt"
    )
    assert len(set(data.patients.tolist())) == 48
    assert len(set(data.groups.tolist())) == 24
    splits = split(data, outer_folds=3, inner_folds=2, repeats=1, seed=0)
    for fold in splits.outer:
        held = data.select(fold.test)
        assert not set(held.groups.tolist()) & set(data.select(fold.train).groups.tolist())
        assert len(fold.train_side(data)) == 32
    folder = RunFolder(tmp_path / "run")
    folder.write_dataset(data, ())
    folder.write_splits(splits.studies, splits.attempts, data.fingerprint)
    kept = folder.read_dataset()
    assert kept.groups.tolist() == data.groups.tolist()
    assert folder.read_splits(kept)[0].test_patients == splits.outer[0].test_patients


def test_predictions_keep_groups_in_a_column_only_where_they_differ(tmp_path: Path) -> None:
    n = np.arange(2)
    rows = Predictions(
        np.array(["a", "b"]), np.array(["7", "007"]), np.array(["f", "f"]), n * 0, n,
        np.array([[0.5, 0.5]] * 2), n, ("x", "y"), np.array(["7", "7"]),
    )  # fmt: skip
    path = tmp_path / "p.csv"
    path.write_text(predictions_csv(rows, rows.classes))
    assert path.read_text().splitlines()[0].endswith("predicted,group")
    assert read_predictions(path, rows.classes).groups.tolist() == ["7", "7"]
    assert code_rows(rows).patients == 1
    alone = replace(rows, groups=rows.patients)
    assert "group" not in predictions_csv(alone, rows.classes)
    assert code_rows(alone).patients == 2


def test_ids_with_a_slash_stay_whole() -> None:
    names = [f"{place}/{i:02}" for place in ("Oslo", "Rome") for i in range(8)]
    assert ask(listing([f"a/{i}.png" for i in range(16)], names))[:2] == (16, 16)
