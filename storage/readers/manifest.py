"""Reader of a CSV manifest: one row for each image, ``file,label,patient_id`` and other columns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from outerfold.storage.errors import first_three, suggest_name
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
    """Listing of the manifest's rows; a relative ``file`` is relative to the manifest's folder.

    Raises:
        DataError: there is no file or label column, a file is repeated, absent or no image, or a
            patient is empty.
    """
    table = read_csv_table(path)
    file = _require_column(path, table, FILE_NAMES)
    label = _require_column(path, table, LABEL_NAMES)
    ids = tuple(str(PurePosixPath(name.replace("\\", "/"))) for name in table[file])
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise DataError(f"{path.name}: files {first_three(twice)} are listed twice; keep one row")
    patient = find_column(table, PATIENT_NAMES)
    return Listing(
        path.parent,
        ids,
        _require_images(path, ids),
        table[label],
        require_patients(table[patient], ids, patient) if patient else None,
        table,
        path.name,
        label_column=label,
    )


def _require_column(path: Path, table: dict[str, tuple[str, ...]], names: tuple[str, ...]) -> str:
    found = find_column(table, names)
    if found is None:
        close = suggest_name(names[0], table)
        raise DataError(
            f"{path.name}: a manifest needs a column {names[0]!r}, found {list(table)}{close}"
        )
    return found


def _require_images(path: Path, ids: tuple[str, ...]) -> tuple[Path, ...]:
    images = tuple(path.parent / name for name in ids)
    absent = [name for name, image in zip(ids, images, strict=True) if not image.is_file()]
    if absent:
        raise DataError(
            f"{path.name}: files {first_three(absent)} do not exist below {path.parent}; "
            "paths are relative to the manifest's folder"
        )
    no_images = [n for n in ids if PurePosixPath(n).suffix.lower() not in IMAGE_SUFFIXES]
    if no_images:
        raise DataError(
            f"{path.name}: files {first_three(no_images)} are no images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return images
