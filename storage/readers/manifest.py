"""A CSV manifest: one row an image, ``file,label,patient_id`` and any columns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from outerfold.storage.errors import first_three, nearest
from outerfold.storage.images.read import IMAGE_SUFFIXES
from outerfold.storage.readers._base import (
    FILE_NAMES,
    LABEL_NAMES,
    PATIENT_NAMES,
    Listing,
    find_column,
    read_csv_table,
    require_patients,
)
from outerfold.storage.records import DataError


def list_manifest(path: Path) -> Listing:
    """Rows of the sheet; a relative ``file`` is relative to the sheet's own folder.

    Raises:
        DataError: no file or label column, a repeated or absent file, an empty label.
    """
    table = read_csv_table(path)
    file = _required(path, table, FILE_NAMES)
    label = _required(path, table, LABEL_NAMES)
    ids = tuple(str(PurePosixPath(name.replace("\\", "/"))) for name in table[file])
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise DataError(f"{path.name}: files {first_three(twice)} are listed twice; keep one row")
    unlabelled = [name for name, value in zip(ids, table[label], strict=True) if not value]
    if unlabelled:
        raise DataError(
            f"{path.name}: files {first_three(unlabelled)} have no {label!r}; "
            "fill it in or drop the rows"
        )
    patient = find_column(table, PATIENT_NAMES)
    return Listing(
        path.parent,
        ids,
        _existing(path, ids),
        table[label],
        require_patients(table[patient], ids, patient) if patient else None,
        table,
        path.name,
    )


def _required(path: Path, table: dict[str, tuple[str, ...]], names: tuple[str, ...]) -> str:
    found = find_column(table, names)
    if found is None:
        close = nearest(names[0], table)
        raise DataError(
            f"{path.name}: a manifest needs a column {names[0]!r}, found {list(table)}{close}"
        )
    return found


def _existing(path: Path, ids: tuple[str, ...]) -> tuple[Path, ...]:
    images = tuple(path.parent / name for name in ids)
    absent = [name for name, image in zip(ids, images, strict=True) if not image.is_file()]
    if absent:
        raise DataError(
            f"{path.name}: files {first_three(absent)} do not exist below {path.parent}; "
            "paths are relative to the sheet's folder"
        )
    strange = [n for n in ids if PurePosixPath(n).suffix.lower() not in IMAGE_SUFFIXES]
    if strange:
        raise DataError(
            f"{path.name}: files {first_three(strange)} are no images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return images
