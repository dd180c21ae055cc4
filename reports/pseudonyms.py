"""Copy of a report to share: running numbers in place of the names of images and patients."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outerfold.reports.drawing import Drawer
from outerfold.reports.journal_style import printed_in, style_of
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.schema import DatasetEntry, Results
from outerfold.reports.write import report_parts, write_parts
from outerfold.storage.cache.files import write_text
from outerfold.storage.records import DataError, Dataset, Predictions, Run, StrArray
from outerfold.storage.words.csv_tables import csv_text, read_csv_rows
from outerfold.storage.words.hidden_names import without_names

KEY = "pseudonyms.csv"
"""File of the run with the running number of each image and patient; it is not for sharing."""
LEFT_OUT = "left out of this copy"
HEADER = ("id", "patient", "image number", "patient number")
PICTURES = ("inside.html", "*_Inside_*.jpg", "*_Inside_*.docx")
"""Files of ``outerfold explain`` that show images."""


@dataclass(frozen=True)
class Pseudonyms:
    """Running numbers of images and patients, by their names."""

    images: Mapping[str, str]
    patients: Mapping[str, str]

    @classmethod
    def draw(cls, data: Dataset, chance: random.Random) -> Pseudonyms:
        """Numbers in an order that says nothing of the names."""
        patients = [*data.patients.tolist(), *data.groups.tolist()]
        return cls(
            _number(data.ids.tolist(), "image", chance), _number(patients, "patient", chance)
        )

    @classmethod
    def read(cls, path: Path, data: Dataset) -> Pseudonyms:
        """Numbers of an earlier copy, so that two copies agree.

        Raises:
            DataError: the file is no such table, or lacks an image or a patient.
        """
        try:
            rows = read_csv_rows(path)
            images = {row["id"]: row["image number"] for row in rows if row["id"]}
            patients = {row["patient"]: row["patient number"] for row in rows}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: cannot be read ({error}); remove it to draw anew") from None
        if not (set(data.ids.tolist()) <= set(images) and _people(data) <= set(patients)):
            raise DataError(f"{path}: is not that of this run's data; remove it to draw anew")
        return cls(images, patients)

    def write(self, path: Path, data: Dataset) -> None:
        """Write the table from which the sender can tell who is who."""
        named = zip(data.ids.tolist(), data.patients.tolist(), strict=True)
        rows = [[i, p, self.images[i], self.patients[p]] for i, p in named]
        only = sorted(_people(data) - set(data.patients.tolist()))  # names of groups alone
        write_text(path, csv_text(HEADER, [*rows, *(["", p, "", self.patients[p]] for p in only)]))

    def rename(self, rows: Predictions, *, level: bool = False) -> Predictions:
        """Rows under their numbers, in an order of these numbers.

        Args:
            rows: rows of images, or of patients and breasts.
            level: whether they are of patients or breasts.
        """
        ids = rows.ids.tolist()
        if level:
            pairs = zip(ids, rows.patients.tolist(), strict=True)
            new = [self.patients[whom] + name.removeprefix(whom) for name, whom in pairs]
        else:
            new = [self.images[name] for name in ids]
        renamed = replace(
            rows,
            ids=np.array(new, dtype=np.str_),
            patients=self._of_patients(rows.patients),
            groups=self._of_patients(rows.groups),
        )
        return renamed.take(np.lexsort((renamed.ids, renamed.fold, renamed.repeat)))

    def _of_patients(self, names: StrArray) -> StrArray:
        return np.array([self.patients[name] for name in names.tolist()], dtype=np.str_)


def write_pseudonymised(
    run: Run, to: Path, *, key: Path, chance: random.Random, pictures: Path | None = None
) -> list[Path]:
    """Write a report under running numbers into a new folder; return the paths of its files.

    Its numbers are those of the run's report. Paths, the command, and the names of the run, of its
    data and of the machine's folders are left out.

    Args:
        run: the run, with its data.
        to: folder of the copy.
        key: table of the numbers; it is read if it exists, and else written.
        chance: draws the order of the numbers.
        pictures: folder of the run's report, of which the pages of ``outerfold explain`` are copied
            too; None leaves all pictures out.

    Raises:
        DataError: the folder is not empty, ``key`` is of other data, or there are no such pictures.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"{to}: is not empty; name a new folder for the copy")
    assert run.data is not None
    copied = list(_find_pictures(pictures)) if pictures is not None else []
    if key.exists():
        names = Pseudonyms.read(key, run.data)
    else:
        names = Pseudonyms.draw(run.data, chance)
        names.write(key, run.data)
    evidence = _renamed(gather_evidence(run), names)
    with printed_in(style_of(run.protocol)):
        written = write_parts(report_parts(evidence, Drawer(), inside=bool(copied)), to)
    for path in copied:
        (to / path.name).write_bytes(path.read_bytes())
    return [*written, *(to / path.name for path in copied)]


def _renamed(evidence: Evidence, names: Pseudonyms) -> Evidence:
    test, validation = (
        None if rows is None else names.rename(rows)
        for rows in (evidence.test, evidence.validation)
    )
    return replace(
        evidence,
        run=replace(evidence.run, name="a run", data=None, sides={}),
        numbers=_without_identities(evidence.numbers),
        test=test,
        validation=validation,
        levels={name: names.rename(rows, level=True) for name, rows in evidence.levels.items()},
    )


def _without_identities(numbers: Results) -> Results:
    made, data = numbers["provenance"], DatasetEntry(**numbers["dataset"])
    data["name"] = "data"
    data["assumptions"] = [without_names(line) for line in data.get("assumptions") or ()]
    data["audit"] = [without_names(line) for line in data.get("audit") or ()]
    cards = {name: {**card, "weights": ""} for name, card in made.get("encoders", {}).items()}
    return {
        **numbers,
        "dataset": data,
        "provenance": {**made, "run": "a run", "command": LEFT_OUT, "encoders": cards},
    }


def _people(data: Dataset) -> set[str]:
    return {*data.patients.tolist(), *data.groups.tolist()}


def _number(names: Sequence[str], what: str, chance: random.Random) -> dict[str, str]:
    mixed = sorted(set(names))
    chance.shuffle(mixed)
    digits = len(str(len(mixed)))
    return {name: f"{what}-{at:0{digits}d}" for at, name in enumerate(mixed, 1)}


def _find_pictures(report: Path) -> Iterator[Path]:
    found = [path for pattern in PICTURES for path in sorted(report.glob(pattern))]
    if not found:
        raise DataError(
            f"{report}: holds no pictures; give outerfold explain first, or leave --pictures out"
        )
    yield from found
