"""Removal of one patient from a run: rows and names; what was trained on them is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outerfold.storage.cache.files import (
    read_hashed,
    write_hashed,
    write_text,
)
from outerfold.storage.errors import DataError, first_three, suggest_name
from outerfold.storage.records import Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import MANIFEST, read_hashes, verify_files, write_manifest
from outerfold.storage.words.csv_tables import csv_text, read_csv_rows
from outerfold.storage.words.hidden_names import without_names

TOMBSTONE = "forgotten.json"
"""File of a run that says what was removed from it, without a name."""
REMOVED_LINE = "(a line about a patient was removed)"
PER_ROW = ("ids", "images", "patients", "labels", "sides", "tabular", "groups", "originals")
"""Entries of ``dataset.json`` with one value for each row."""


@dataclass(frozen=True)
class Forgotten:
    """One patient that was removed.

    Attributes:
        when: day in ISO format.
        images: number of its images.
        trained: studies whose models trained on its rows; they still hold what they learnt.
        tested: studies that tested it.
    """

    when: str
    images: int
    trained: tuple[str, ...]
    tested: tuple[str, ...]

    def describe(self) -> str:
        """Sentence without a name."""
        models = ", ".join(self.trained) or "none"
        return (
            f"a patient with {self.images} images was removed on {self.when}; the models of these "
            f"studies trained on it: {models}"
        )


def read_forgotten(folder: RunFolder) -> tuple[Forgotten, ...]:
    """Patients that were removed from a run.

    Raises:
        DataError: the file was changed.
    """
    path = folder.path / TOMBSTONE
    if not path.exists():
        return ()
    try:
        return tuple(
            Forgotten(one["when"], one["images"], tuple(one["trained"]), tuple(one["tested"]))
            for one in read_hashed(path)["patients"]
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no list of removed patients ({error})") from None


def refuse_forgotten(folder: RunFolder) -> None:
    """Refuse to go on with a run from which a patient was removed.

    Raises:
        DataError: there is one.
    """
    if read_forgotten(folder):
        raise DataError(
            f"--run {folder.path}: a patient was removed from this run, so it cannot go on; remove "
            "the patient from the data and give another --run"
        )


def forget_patient(folder: RunFolder, patient: str, when: str) -> Forgotten:
    """Remove a patient's rows and names from all files of a run but the report.

    A second call ends what a kill interrupted. The report must be written again afterwards.

    Args:
        folder: the run directory.
        patient: name of the patient.
        when: day in ISO format.

    Raises:
        DataError: the run has no such patient or no other one, or a file was changed.
    """
    data = folder.read_dataset()
    ids = data.ids[data.patients == patient].tolist()
    known = set(data.patients.tolist())
    if not ids:
        raise DataError(
            f"{folder.path}: has no patient {patient!r}{suggest_name(patient, known)}; its "
            f"patients are {first_three(sorted(known))}"
        )
    if len(known) == 1:
        raise DataError(f"{folder.path}: has no other patient; delete the whole folder")
    studies = folder.read_splits(data)
    found = _describe(studies, patient, data, ids, when)
    names = {*ids, patient}
    groups = _groups_without(data, patient)
    for study in studies:
        _clean_study(folder.study(study.name), set(ids), groups)
    _clean_splits(folder, set(ids))
    _clean_texts(folder.path, names)
    write_hashed(
        folder.path / TOMBSTONE,
        {"patients": [asdict(one) for one in (*read_forgotten(folder), found)]},
    )
    _clean_dataset(folder, set(ids), groups)
    return found


def _describe(
    studies: Sequence[OuterFold], patient: str, data: Dataset, ids: Sequence[str], when: str
) -> Forgotten:
    group = str(data.groups[data.patients == patient][0])
    return Forgotten(
        when,
        len(ids),
        tuple(one.name for one in studies if group in one.train_patients),
        tuple(one.name for one in studies if group in one.test_patients),
    )


def _groups_without(data: Dataset, patient: str) -> dict[str, str]:
    """Group of each other row by its id; a group that bears the patient's name gets another's."""
    rest = data.patients != patient
    names = [
        (row, str(person), str(group))
        for row, person, group in zip(
            data.ids[rest].tolist(), data.patients[rest], data.groups[rest], strict=True
        )
    ]
    others = sorted(person for _, person, group in names if group == patient)
    return {row: others[0] if group == patient else group for row, _, group in names}


def _clean_study(path: Path, ids: set[str], groups: dict[str, str]) -> None:
    """Remove rows from the tables of a study; its manifest, if it had one, is written anew.

    Raises:
        DataError: a file is not the one that was written.
    """
    if not path.is_dir():
        return
    before = _hashes(path)
    verify_files(path, *(name for name in before if not _was_cleaned(path / name, ids)))
    for table in sorted(path.glob("*.csv")):
        rows = read_csv_rows(table)
        if not rows or "id" not in rows[0]:
            continue
        kept = [row for row in rows if row["id"] not in ids]
        for row in kept:
            if "group" in row:
                row["group"] = groups[row["id"]]
        write_text(table, csv_text(list(rows[0]), [list(row.values()) for row in kept]))
    if before:
        write_manifest(path, {})
    recordings = path / "recordings"
    for file in recordings.glob("*") if recordings.is_dir() else ():
        file.unlink()


def _hashes(path: Path) -> dict[str, Any]:
    return read_hashes(path) if (path / MANIFEST).exists() else {}


def _was_cleaned(path: Path, ids: set[str]) -> bool:
    """Whether a table has none of the rows, as after an interrupted call."""
    if path.suffix != ".csv" or not path.exists():
        return False
    rows = read_csv_rows(path)
    return bool(rows) and "id" in rows[0] and not any(row["id"] in ids for row in rows)


def _clean_splits(folder: RunFolder, ids: set[str]) -> None:
    path = folder.path / "splits.json"
    kept = read_hashed(path)
    for study in kept["studies"]:
        study["test"] = [name for name in study["test"] if name not in ids]
        study["inner"] = {
            fold: [name for name in val if name not in ids] for fold, val in study["inner"].items()
        }
    write_hashed(path, kept)


def _clean_dataset(folder: RunFolder, ids: set[str], groups: dict[str, str]) -> None:
    path = folder.path / "dataset.json"
    kept = read_hashed(path)
    rest = [at for at, name in enumerate(kept["ids"]) if name not in ids]
    for name in PER_ROW:
        if kept.get(name):
            kept[name] = [kept[name][at] for at in rest]
    if "facts" in kept:
        kept["facts"] = {name: [texts[at] for at in rest] for name, texts in kept["facts"].items()}
    if "groups" in kept:
        kept["groups"] = [groups[name] for name in kept["ids"]]
    for name in ("audit", "audit_of_embeddings", "assumptions"):
        if name in kept:
            kept[name] = [without_names(text) for text in kept[name]]
    write_hashed(path, kept)


def _clean_texts(run: Path, names: set[str]) -> None:
    """Remove lines with one of the names from the log, the tables and the key of a run."""
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names)))
    for name in ("run.log", "set_aside.csv", "pseudonyms.csv"):
        path = run / name
        if not path.exists():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        mark = [REMOVED_LINE] if name == "run.log" else []
        cleaned = [part for line in lines for part in (mark if pattern.search(line) else [line])]
        write_text(path, "\n".join(cleaned))
