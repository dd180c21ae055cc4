"""Run directory: its files, each written whole or not at all, and read back as records."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from outerfold.storage.cache.files import read_hashed, write_bytes, write_hashed, write_text
from outerfold.storage.errors import first_line, shorten
from outerfold.storage.records import (
    FINAL,
    Column,
    DataError,
    Dataset,
    Features,
    Fold,
    IntArray,
    OuterFold,
    SetAside,
)
from outerfold.storage.words.csv_tables import csv_text

_HASH_LINE = "# sha256 of the lines below: "


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Every file but the trials' journal and the log is replaced in one step, so that a reader finds
    the old file or the new one, even if the writer was killed.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """Path of the journal of Optuna's trials."""
        return self.path / "trials.journal"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def study(self, name: str) -> Path:
        """Folder of the results of one study, such as ``outer-0``."""
        return self.path / name

    def started(self) -> bool:
        """Whether the folder holds a run that was started."""
        return (self.path / "config.toml").exists()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the options that determine the results."""
        text = tomli_w.dumps(config)
        digest = sha256(text.encode()).hexdigest()
        write_bytes(self.path / "config.toml", f"{_HASH_LINE}{digest}\n{text}".encode())

    def read_config(self) -> dict[str, Any]:
        """Options as they were written.

        Raises:
            DataError: the folder holds no options, so it is no run directory, or they are damaged
                or were changed.
        """
        path = self.path / "config.toml"
        try:
            with _understanding(path):
                text = path.read_text(encoding="utf-8")
                _require_own(path, text)
                found = tomllib.loads(text)
        except (FileNotFoundError, NotADirectoryError):
            raise self._no_run() from None
        lacking = [name for name in ("task", "protocol") if name not in found]
        if lacking:
            raise DataError(
                f"{path}: lacks the options {lacking}, as a damaged file does; restore the file "
                "from a copy"
            )
        return found

    def _no_run(self) -> DataError:
        found = "not a run directory (no config.toml)" if self.path.exists() else "does not exist"
        return DataError(f"{self.path}: {found}; name a run directory that `outerfold run` made")

    def write_set_aside(self, data: Dataset) -> None:
        """Write ``set_aside.csv`` if rows take no part: each row, why, and its class."""
        if not data.set_aside:
            return
        rows = ([row.id, row.why, row.label] for row in data.set_aside)
        write_text(self.path / "set_aside.csv", csv_text(["id", "why", "class"], rows))

    def write_dataset(self, data: Dataset, audit: Iterable[str]) -> None:
        """Write all rows, without the pixels of the images, and the warnings of the audit."""
        features = data.features
        write_hashed(
            self.path / "dataset.json",
            {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "synthetic": data.synthetic,
                "patients_known": data.patients_known,
                "assumptions": list(data.assumptions),
                "audit": list(audit),
                "classes": list(data.classes),
                "columns": [
                    [c.name, c.kind, list(c.levels), *([list(c.gaps)] if c.gaps else [])]
                    for c in features.columns
                ],
                "ids": features.ids.tolist(),
                "images": features.images.tolist(),
                "patients": data.patients.tolist(),
                **_optional_rows(data),
                "labels": data.labels.tolist(),
                "sides": data.sides.tolist(),
                "tabular": [
                    [None if np.isnan(value) else value for value in row]
                    for row in features.tabular.tolist()
                ],
            },
        )

    def move_images(self, data: Dataset) -> None:
        """Write where the same images lie now.

        Args:
            data: the same rows, read at the new place.
        """
        kept = read_hashed(self.path / "dataset.json")
        at = data.features.positions(kept["ids"])
        write_hashed(
            self.path / "dataset.json", {**kept, "images": data.features.images[at].tolist()}
        )

    def read_dataset(self) -> Dataset:
        """Rows of the run.

        Raises:
            DataError: the file is damaged.
        """
        kept = read_hashed(self.path / "dataset.json")
        with _understanding(self.path / "dataset.json"):
            return _parse_dataset(kept)

    def add_embedding_audit(self, found: Iterable[str]) -> None:
        """Write the warnings that the audit of the embeddings gave."""
        kept = read_hashed(self.path / "dataset.json")
        write_hashed(self.path / "dataset.json", {**kept, "audit_of_embeddings": list(found)})

    def has_embedding_audit(self) -> bool:
        """Whether ``add_embedding_audit`` was called for this run."""
        return "audit_of_embeddings" in read_hashed(self.path / "dataset.json")

    def read_audit(self) -> list[str]:
        """All warnings of the audit, first of the data and then of the embeddings."""
        kept = read_hashed(self.path / "dataset.json")
        return [*kept["audit"], *kept.get("audit_of_embeddings", [])]

    def write_splits(
        self, studies: Iterable[OuterFold], attempts: Mapping[str, int], fingerprint: str
    ) -> None:
        """Write the test ids of every outer fold and the validation ids of every inner fold.

        The training and fit ids are all other rows.

        Args:
            studies: outer folds, with the study of all rows.
            attempts: number of the seed that each division took, by name.
            fingerprint: fingerprint of the data.
        """
        write_hashed(
            self.path / "splits.json",
            {
                "fingerprint": fingerprint,
                "attempts": dict(attempts),
                "studies": [
                    {
                        "name": study.name,
                        "repeat": study.repeat,
                        "test": list(study.test),
                        "inner": {fold.name: list(fold.val) for fold in study.inner},
                    }
                    for study in studies
                ],
            },
        )

    def read_splits(self, data: Dataset) -> tuple[OuterFold, ...]:
        """Studies of the run, outer folds first; every fold is checked for leaks again.

        Raises:
            DataError: the folds were made for other data, or the file is damaged.
            LeakError: a row or a patient is on both sides of a fold.
        """
        kept = read_hashed(self.path / "splits.json")
        with _understanding(self.path / "splits.json"):
            if kept["fingerprint"] != data.fingerprint:
                raise DataError(
                    f"{self.path}: splits.json was made for other data; start a new --run"
                )
            for study in kept["studies"]:
                _refuse_path(study["name"])
            names = _SharedNames(data)
            return tuple(_outer_fold(names, study) for study in kept["studies"])

    def write_card(self, text: str) -> None:
        """Write the model card beside the shipped model."""
        write_text(self.study(FINAL) / "MODEL_CARD.md", text)


def _require_own(path: Path, text: str) -> None:
    """Check options against the hash in their first line; those of an earlier version have none.

    Raises:
        DataError: they are not the ones that were written.
    """
    first, _, rest = text.partition("\n")
    if not first.startswith(_HASH_LINE):
        return
    if sha256(rest.encode()).hexdigest() != first.removeprefix(_HASH_LINE).strip():
        raise DataError(
            f"{path}: is not the file that was written (its SHA-256 differs from the one in its "
            "first line); restore the file from a copy, or give other options to another --run"
        )


def _refuse_path(name: str) -> None:
    """Refuse a name of a study that leads out of the run directory, as a foreign run may have.

    Raises:
        DataError: the name is no simple one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise DataError(
            f"splits.json: {shorten(name)} is no name of a study; do not trust this run folder"
        )


def _parse_dataset(kept: dict[str, Any]) -> Dataset:
    columns = tuple(
        Column(name, kind, tuple(levels), *map(tuple, gaps))
        for name, kind, levels, *gaps in kept["columns"]
    )
    tabular = np.array(kept["tabular"], dtype=np.float64).reshape(len(kept["ids"]), len(columns))
    return Dataset(
        Features(
            np.array(kept["ids"]),
            np.array(kept["images"]),
            tabular.reshape(len(kept["ids"]), len(columns)),
            columns,
        ),
        np.array(kept["labels"], dtype=np.int64),
        np.array(kept["patients"]),
        tuple(kept["classes"]),
        kept["fingerprint"],
        kept["name"],
        kept["synthetic"],
        kept["patients_known"],
        tuple(kept["assumptions"]),
        np.array(kept.get("sides", []), dtype=np.str_),
        np.array(kept.get("groups", []), dtype=np.str_),
        tuple(SetAside(*row) for row in kept.get("set_aside", [])),
        {name: np.array(texts, dtype=np.str_) for name, texts in kept.get("facts", {}).items()},
        np.array(kept.get("originals", []), dtype=np.str_),
    )


@contextmanager
def _understanding(path: Path) -> Iterator[None]:
    """Turn any error of a file that can be read, but not understood, into a sentence.

    Raises:
        DataError: the file is not what outerfold wrote.
    """
    try:
        yield
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(
            f"{path}: is not what outerfold wrote there ({type(error).__name__}: "
            f"{first_line(error)}); restore the file from a copy"
        ) from None


def _optional_rows(data: Dataset) -> dict[str, Any]:
    """Groups where they differ from patients, and what else only some data have."""
    found: dict[str, Any] = {}
    if (data.groups != data.patients).any():
        found["groups"] = data.groups.tolist()
    if data.set_aside:
        found["set_aside"] = [[row.id, row.why, row.label] for row in data.set_aside]
    if data.facts:
        found["facts"] = {name: texts.tolist() for name, texts in data.facts.items()}
    if len(data.originals):
        found["originals"] = data.originals.tolist()
    return found


class _SharedNames:
    """Ids and patients of the rows; all folds share one copy of each text, which saves memory."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.ids = data, data.ids.tolist()
        unique, self.person = np.unique(data.groups, return_inverse=True)
        self.people = unique.tolist()

    def ids_at(self, at: IntArray) -> tuple[str, ...]:
        return tuple([self.ids[row] for row in at.tolist()])

    def patients_at(self, at: IntArray) -> frozenset[str]:
        return frozenset([self.people[person] for person in np.unique(self.person[at]).tolist()])

    def divide(self, rows: IntArray, held_out: list[str]) -> tuple[IntArray, IntArray]:
        """Positions of the ``rows`` without the held-out ones, and of the held-out ones."""
        out = self.data.features.positions(held_out)
        return rows[~np.isin(rows, out)], out


def _outer_fold(names: _SharedNames, kept: dict[str, Any]) -> OuterFold:
    train, test = names.divide(np.arange(len(names.data)), kept["test"])
    inner = []
    for name, val in kept["inner"].items():
        fit, held = names.divide(train, val)
        inner.append(
            Fold(
                name,
                names.ids_at(fit),
                names.ids_at(held),
                names.patients_at(fit),
                names.patients_at(held),
            )
        )
    return OuterFold(
        kept["name"],
        kept["repeat"],
        names.ids_at(train),
        names.ids_at(test),
        names.patients_at(train),
        names.patients_at(test),
        tuple(inner),
    )
