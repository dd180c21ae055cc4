"""Listing of rows as text, which every reader makes before classes and columns are chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from outerfold.storage.errors import DataError, first_three, suggest_name
from outerfold.storage.names import match_name, require_one, same_names
from outerfold.storage.registry import Registry, load_part
from outerfold.storage.set_aside import SetAside
from outerfold.storage.words.sheets import TextTable

SYNTHETIC_MARKER = "SYNTHETIC.txt"
"""Name of a file in the data root that marks the images as made by a program."""

PATIENT_PATTERNS = (
    r"(DBT-P\d+)",  # Breast-Cancer-Screening-DBT
    r"(?:^|/)([A-D]_\d{4})_\d\.",  # DDSM files: volume letter and case number
    r"^([^/]+/\d{4})/",  # DDSM case folders; numbers repeat between classes
)
"""Default patient patterns; a pattern is used only if it matches every file."""

MASK_PATTERN = re.compile(r"[_\- ]mask[_ ]?\d*$", re.IGNORECASE)
"""Pattern in the stem of a file that shows a lesion's outline and is no input image."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Answers to what a source does not say; none changes a source that says it all.

    Attributes:
        patient_column, label_column, file_column, side_column: names of columns; empty finds them.
        patient_regex: pattern whose one group is the patient; None where the source names patients.
        distinct_patients: whether ids that differ in spelling only are different patients.
        patients_unknown: whether to go on without patients where a pattern or tag would give them.
        set_aside: whether rows that cannot be used are left out however many they are.
        strict: whether each row that cannot be used is an error.
        folds: number of outer folds, which says how many patients a pattern must give.
    """

    patient_column: str = ""
    label_column: str = ""
    file_column: str = ""
    side_column: str = ""
    patient_regex: str | None = None
    distinct_patients: bool = False
    patients_unknown: bool = False
    set_aside: bool = False
    strict: bool = False
    folds: int = 5


DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class Listing:
    """n rows with the texts of their source.

    Attributes:
        root: the data folder.
        ids: n unique names: each image's path below the root, with ``/``.
        images: n absolute paths.
        labels: n class names.
        patients: n patient names, or None where the source does not name them.
        table: {column: n texts}, every column of the source, unchanged.
        source: name of the table in messages, for example ``metadata.csv``.
        assumptions: sentences on how the source was read.
        label_column: name of the column of labels; empty where folders are the classes.
        set_aside: rows that have no label or cannot be read, and are not among the n rows.
        gaps: {column: numbers} that stand for missing in this source, and are empty in the table.
    """

    root: Path
    ids: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...] | None
    table: TextTable = field(default_factory=dict)
    source: str = ""
    assumptions: tuple[str, ...] = ()
    label_column: str = ""
    set_aside: tuple[SetAside, ...] = ()
    gaps: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def keep(self, rows: Sequence[int]) -> Listing:
        """The rows at the positions ``rows`` only, in that order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            images=tuple(self.images[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            patients=None if self.patients is None else tuple(self.patients[i] for i in rows),
            table={name: tuple(texts[i] for i in rows) for name, texts in self.table.items()},
        )

    def put_aside(self, why: Mapping[int, str], labels: Collection[str] | None = None) -> Listing:
        """The other rows, with those at the positions in ``why`` set aside for its reasons.

        Args:
            why: reason by position.
            labels: labels that name a class, so that a row is set aside with its own; None is all.
        """
        out = tuple(
            SetAside(
                self.ids[row] or f"row {row + 1}",
                reason,
                self.labels[row] if labels is None or self.labels[row] in labels else "",
            )
            for row, reason in sorted(why.items())
        )
        kept = self.keep([row for row in range(len(self.ids)) if row not in why])
        return replace(kept, set_aside=self.set_aside + out)

    def by_id(self) -> Listing:
        """The rows sorted by id, so that the order of a table changes no result."""
        return self.keep(sorted(range(len(self.ids)), key=self.ids.__getitem__))


def find_columns(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Spellings in ``names`` of the first of the ``wanted`` columns that is among them."""
    every = list(names)
    return next((found for one in wanted if (found := same_names(every, one))), [])


def find_column(names: Iterable[str], wanted: Sequence[str], choice: str = "") -> str | None:
    """First of the ``wanted`` columns among ``names``, as spelt in ``names``; None if none is.

    Args:
        names: columns of a table.
        wanted: names of which the first that is there is taken.
        choice: option that a message names to choose one of several.

    Raises:
        DataError: several columns are that one in different spellings.
    """
    return require_one(find_columns(names, wanted), choice)


def pick_column(
    table: TextTable, option: str, named: str, wanted: Sequence[str], source: str
) -> str | None:
    """Column that the user named with ``option``, else the first of ``wanted``; None if none is.

    Raises:
        DataError: the named column is not in the table, or several columns have that name in
            different spellings.
    """
    if not named:
        return find_column(table, wanted, option)
    found = match_name(table, named, option)
    if found is None:
        raise DataError(
            f"{option} {named!r}: {source} has no such column{suggest_name(named, table)}; "
            f"found {list(table)}"
        )
    return found


def patients_by_regex(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Patient name in each of the n ids: the one group of ``pattern``, searched anywhere in the id.

    Raises:
        DataError: the pattern is invalid, has not exactly one group, or does not match every id.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--patient-regex {pattern!r} is no regular expression: {error}") from error
    if compiled.groups != 1:
        raise DataError(
            f"--patient-regex {pattern!r} needs exactly one group, the patient, "
            f"found {compiled.groups}; for example '(P[0-9]+)_'"
        )
    matches = [compiled.search(name) for name in ids]
    missed = [name for name, match in zip(ids, matches, strict=True) if not (match and match[1])]
    if missed:
        raise DataError(
            f"--patient-regex {pattern!r} finds no patient in the names of files "
            f"{first_three(missed)}; change it, or name the patients in a metadata.csv"
        )
    return tuple(match[1] for match in matches if match)


def patients_by_default(ids: Sequence[str]) -> tuple[str, ...] | None:
    """Patient names (n) by the first known naming scheme that fits every id; None if none fits."""
    for pattern in PATIENT_PATTERNS:
        matches = [re.search(pattern, name) for name in ids]
        found = tuple(match[1] for match in matches if match)
        if ids and len(found) == len(ids):
            return found
    return None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A way to list the rows of a data source.

    Attributes:
        name: its name.
        recognises: function, or its ``module:name``, from a file or folder that exists to whether
            this reader reads it. Readers of plugins are asked first, the others in their order.
        list_rows: function, or its ``module:name``, from its absolute path and ``ReadOptions``, the
            answers to what a source may leave open, to a ``Listing``.
    """

    name: str
    recognises: str | Callable[[Path], bool]
    list_rows: str | Callable[[Path, ReadOptions], Listing]


_HOME = "outerfold.storage.readers"
READERS: Registry[Reader] = Registry(
    "reader",
    (
        Reader(
            name="manifest",
            recognises=f"{_HOME}.manifest:is_manifest",
            list_rows=f"{_HOME}.manifest:list_manifest",
        ),
        Reader(
            name="mini_ddsm",
            recognises=f"{_HOME}.mini_ddsm:has_sheets",
            list_rows=f"{_HOME}.mini_ddsm:list_mini_ddsm",
        ),
        Reader(
            name="class_folders",
            recognises=Path.is_dir,
            list_rows=f"{_HOME}.class_folders:list_class_folders",
        ),
    ),
)


def find_reader(source: Path) -> Reader | None:
    """The reader of a source that exists; None if no reader knows it."""
    own = [reader for name, reader in READERS.items() if READERS.is_added(name)]
    others = [reader for name, reader in READERS.items() if not READERS.is_added(name)]
    for reader in (*own, *others):
        if load_part(reader.recognises)(source):
            return reader
    return None
