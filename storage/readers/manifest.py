"""Reader of a CSV manifest: one row for each image, ``file,label,patient_id`` and other columns."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from outerfold.storage.errors import Question, first_three, suggest_name
from outerfold.storage.images.read import IMAGE_SUFFIXES, is_image
from outerfold.storage.names import normalise
from outerfold.storage.readers._base import (
    DEFAULTS,
    Listing,
    ReadOptions,
    find_column,
    pick_column,
)
from outerfold.storage.records import DataError
from outerfold.storage.words.class_names import severity
from outerfold.storage.words.headers import (
    FILE_NAMES,
    LABEL_NAMES,
    LESION_NAMES,
    PATIENT_NAMES,
)
from outerfold.storage.words.sheets import SHEET_SUFFIXES, TextTable, read_sheet


def is_manifest(source: Path) -> bool:
    """Whether a source is a table of rows."""
    return source.is_file() and source.suffix.lower() in SHEET_SUFFIXES


def list_manifest(path: Path, options: ReadOptions = DEFAULTS) -> Listing:
    """Listing of the manifest's rows; a relative ``file`` is relative to the manifest's folder.

    Raises:
        DataError: there is no file or label column, a file is repeated, absent or no image.
    """
    table = read_sheet(path)
    file = _require_column(path, table, "file", options.file_column, FILE_NAMES)
    label = _require_column(path, table, "label", options.label_column, LABEL_NAMES)
    ids = _find_files(path.parent, [name.replace("\\", "/") for name in table[file]])
    ids, table, notes = _merge_lesions(path, ids, table, label)
    patient = pick_column(
        table, "--patient-column", options.patient_column, PATIENT_NAMES, path.name
    )
    return Listing(
        path.parent,
        ids,
        _require_images(path, ids),
        table[label],
        table[patient] if patient else None,
        table,
        path.name,
        assumptions=notes,
        label_column=label,
    )


def _merge_lesions(
    path: Path, ids: tuple[str, ...], table: TextTable, label: str
) -> tuple[tuple[str, ...], TextTable, tuple[str, ...]]:
    """One row for each image of a sheet that lists lesions; the gravest label stays.

    Raises:
        DataError: files are listed twice in a sheet without a column of lesions, or under labels
            that do not say which one is graver.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(ids):
        rows[name].append(row)
    twice = sorted(name for name, found in rows.items() if len(found) > 1)
    if not twice:
        return ids, table, ()
    if find_column(table, LESION_NAMES) is None:
        raise DataError(f"{path.name}: files {first_three(twice)} are listed twice; keep one row")
    labels = table[label]
    unclear = [
        name
        for name in twice
        if len({labels[row] for row in rows[name]}) > 1
        and None in {severity(labels[row]) for row in rows[name]}
    ]
    if unclear:
        raise DataError(
            f"{path.name}: files {first_three(unclear)} have lesions under several labels, and "
            "their names do not say which is graver; keep one row a file, with its own label"
        )
    kept = [max(found, key=lambda row: severity(labels[row]) or 0) for found in rows.values()]
    note = (
        f"{path.name} lists lesions: {len(twice)} images have several rows, and the one with the "
        "gravest label was kept"
    )
    columns = {name: tuple(texts[row] for row in kept) for name, texts in table.items()}
    return tuple(rows), columns, (note,)


def _require_column(
    path: Path, table: TextTable, what: str, named: str, wanted: tuple[str, ...]
) -> str:
    found = pick_column(table, f"--{what}-column", named, wanted, path.name)
    several = [] if named or what == "file" else _rivals(table, wanted)
    if several:
        raise Question(
            f"{path.name}: columns {several} may all hold the labels; choose with "
            f"{' or '.join(f'--{what}-column {shlex.quote(name)}' for name in several[:3])}"
        )
    if found is None:
        raise Question(
            f"{path.name}: a manifest needs a column {what!r}, found {list(table)}"
            f"{suggest_name(what, table)}; name the column with --{what}-column NAME, or write a "
            ".csv with the columns file, label and patient_id where none holds it"
        )
    return found


def _rivals(table: TextTable, wanted: tuple[str, ...]) -> list[str]:
    """Columns of labels of a table, where there are several and none is called label or class."""
    found = [name for one in wanted if (name := find_column(table, [one]))]
    plain = {normalise(name) for name in found} & {"label", "labels", "class", "target"}
    return found if len(found) > 1 and not plain else []


def _find_files(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Paths below the root; a bare name is that of the one file below the root that has it.

    The name may lack its suffix. A name that no file or several files have stays as it is.
    """
    given = [str(PurePosixPath(name)) for name in names]
    lost = [name for name in given if not (root / name).is_file()]
    if not lost or any("/" in name for name in lost):
        return tuple(given)
    at: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if is_image(path):
            for key in {path.name, path.stem}:
                at[key].append(path.relative_to(root).as_posix())
    unique = {name: at[name][0] for name in lost if len(at[name]) == 1}
    return tuple(unique.get(name, name) for name in given)


def _require_images(path: Path, ids: tuple[str, ...]) -> tuple[Path, ...]:
    images = tuple(path.parent / name for name in ids)
    absent = [name for name, image in zip(ids, images, strict=True) if not image.is_file()]
    if absent:
        raise DataError(
            f"{path.name}: files {first_three(absent)} do not exist below {path.parent}; "
            "paths are relative to the manifest's folder"
        )
    no_images = [n for n, image in zip(ids, images, strict=True) if not is_image(image)]
    if no_images:
        raise DataError(
            f"{path.name}: files {first_three(no_images)} are no images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return images
