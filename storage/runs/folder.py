"""A run directory: what is in it, written whole or not at all, and read back as records."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from outerfold.storage.cache.files import read_json, write_bytes, write_json, write_text
from outerfold.storage.records import (
    FINAL,
    Column,
    DataError,
    Dataset,
    Features,
    Fold,
    IntArray,
    OuterFold,
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Everything but the trials' journal and the log is replaced in one step, so that a reader sees
    the old file or the new one whenever the writer was killed.
    """

    path: Path

    @property
    def name(self) -> str:
        """Of the run."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """Optuna's trials."""
        return self.path / "trials.journal"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def study(self, name: str) -> Path:
        """Folder of one study's results."""
        return self.path / name

    def started(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.toml").exists()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Keep the options that decide the results."""
        write_bytes(self.path / "config.toml", tomli_w.dumps(config).encode())

    def read_config(self) -> dict[str, Any]:
        """The options as they were written; a folder without them raises ``DataError``."""
        try:
            return tomllib.loads((self.path / "config.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{self.path}: not a run directory (no config.toml); name one that "
                "`outerfold run` made"
            ) from None

    def write_dataset(self, data: Dataset, audit: Iterable[str]) -> None:
        """Keep every row but the images themselves, and what the audit warned of."""
        features = data.features
        write_json(
            self.path / "dataset.json",
            {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "synthetic": data.synthetic,
                "patients_known": data.patients_known,
                "assumptions": list(data.assumptions),
                "audit": list(audit),
                "classes": list(data.classes),
                "columns": [[c.name, c.kind, list(c.levels)] for c in features.columns],
                "ids": features.ids.tolist(),
                "images": features.images.tolist(),
                "patients": data.patients.tolist(),
                "labels": data.labels.tolist(),
                "sides": data.sides.tolist(),
                "tabular": [
                    [None if np.isnan(value) else value for value in row]
                    for row in features.tabular.tolist()
                ],
            },
        )

    def read_dataset(self) -> Dataset:
        """The rows of the run."""
        kept = read_json(self.path / "dataset.json")
        columns = tuple(Column(name, kind, tuple(levels)) for name, kind, levels in kept["columns"])
        tabular = np.array(kept["tabular"], dtype=np.float64).reshape(
            len(kept["ids"]), len(columns)
        )
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
        )

    def add_audit(self, found: Iterable[str]) -> None:
        """Keep what was seen of the data only once their images were represented."""
        kept = read_json(self.path / "dataset.json")
        write_json(self.path / "dataset.json", {**kept, "audit_of_embeddings": list(found)})

    def audited_embeddings(self) -> bool:
        """Whether ``add_audit`` was called."""
        return "audit_of_embeddings" in read_json(self.path / "dataset.json")

    def read_audit(self) -> list[str]:
        """What the audit warned of, before and after the images were represented."""
        kept = read_json(self.path / "dataset.json")
        return [*kept["audit"], *kept.get("audit_of_embeddings", [])]

    def write_splits(
        self, studies: Iterable[OuterFold], attempts: Mapping[str, int], fingerprint: str
    ) -> None:
        """Keep the held-out ids of every division; the other side is the rest."""
        write_json(
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
        """The studies of the run, outer folds first; every division is checked for leaks again."""
        kept = read_json(self.path / "splits.json")
        if kept["fingerprint"] != data.fingerprint:
            raise DataError(f"{self.path}: splits.json was made for other data; start a new --run")
        names = _Names(data)
        return tuple(_outer_fold(names, study) for study in kept["studies"])

    def write_card(self, text: str) -> None:
        """Keep the model card beside the shipped model."""
        write_text(self.study(FINAL) / "MODEL_CARD.md", text)


class _Names:
    """Ids and patients of the rows, each text once, whatever number of folds names it."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.ids = data, data.ids.tolist()
        unique, self.person = np.unique(data.patients, return_inverse=True)
        self.people = unique.tolist()

    def ids_at(self, at: IntArray) -> tuple[str, ...]:
        return tuple([self.ids[row] for row in at.tolist()])

    def patients_at(self, at: IntArray) -> frozenset[str]:
        return frozenset([self.people[person] for person in np.unique(self.person[at]).tolist()])

    def sides(self, of: IntArray, held: list[str]) -> tuple[IntArray, IntArray]:
        """Positions of the rows ``of`` that are not held, and of those that are."""
        out = self.data.features.positions(held)
        return of[~np.isin(of, out)], out


def _outer_fold(names: _Names, kept: dict[str, Any]) -> OuterFold:
    train, test = names.sides(np.arange(len(names.data)), kept["test"])
    inner = []
    for name, val in kept["inner"].items():
        fit, held = names.sides(train, val)
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
