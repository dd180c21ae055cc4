"""Reader of class folders: ``ROOT/CLASS/**/image``, with or without a ``metadata.csv``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from outerfold.storage.errors import first_three
from outerfold.storage.images.named import find_files
from outerfold.storage.images.read import IMAGE_SUFFIXES, is_image
from outerfold.storage.readers._base import (
    DEFAULTS,
    Listing,
    ReadOptions,
    find_columns,
    pick_column,
)
from outerfold.storage.readers.manifest import list_manifest
from outerfold.storage.records import DataError
from outerfold.storage.words.headers import FILE_NAMES, PATIENT_NAMES
from outerfold.storage.words.layouts import Layout, find_masks, is_junk, is_mask_folder, read_layout
from outerfold.storage.words.sheets import SHEET_SUFFIXES, TextTable, read_sheet

METADATA = "metadata.csv"
MOST_SHEETS = 3
"""Sheets that are named one by one."""

FOLDER_LABELS = ("label", "class")
"""Columns of a ``metadata.csv`` that repeat the class folder; others may differ."""


def list_class_folders(root: Path, options: ReadOptions = DEFAULTS) -> Listing:
    """Listing of every image below a class folder; its label is the folder's name.

    A ``metadata.csv`` whose labels are no folder names is read as a manifest instead.

    Raises:
        DataError: there are no class folders, one has no image, or ``metadata.csv`` does not fit.
    """
    table = read_sheet(root / METADATA) if (root / METADATA).is_file() else {}
    if table and not _folders_are_classes(root, table):
        return list_manifest(root / METADATA, options)
    listing = _list_folders(root)
    return _join_table(listing, table, options) if table else listing


def _folders_are_classes(root: Path, table: TextTable) -> bool:
    """Whether the table has no labels, or a label is the name of a folder in the root."""
    labels = find_columns(table, FOLDER_LABELS)
    if not labels:
        return True
    folders = {folder.name.lower() for folder in _class_folders(root)}
    return any(value.lower() in folders for label in labels for value in table[label])


def _class_folders(root: Path) -> list[Path]:
    return sorted(
        folder
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith((".", "__"))
    )


def _list_folders(root: Path) -> Listing:
    files = _walk(root)
    folders = _without_sheet_folders(root, files)
    _require_folders(root, folders, files)
    below = _below(folders, files)
    images = [name for name in below if is_image(root / name)]
    masks = find_masks(images)
    ids = sorted(set(images) - masks)
    for folder in folders:
        _require_images(root, folder.name, ids)
    layout = _read_layout(root, ids, files)
    stray = [name for name in files if "/" not in name and is_image(root / name)]
    notes = (
        _told(
            len(masks),
            "mask images, overlays or previews (x_mask, masks/x and the like) were left out",
        ),
        _told(sum(map(is_junk, files)), "hidden files or copies of machines were left out"),
        _others(set(below) - set(images)),
        _told(len(stray), "images directly in the data folder have no class and were left out"),
    )
    return Listing(
        root,
        tuple(ids),
        tuple(root / name for name in ids),
        layout.labels,
        layout.patients,
        source="the folders above the classes" if layout.patients else "",
        assumptions=(*filter(None, notes), *_unread_sheets(root, files), *layout.notes),
    )


def _below(folders: Sequence[Path], files: Sequence[str]) -> list[str]:
    tops = {folder.name for folder in folders}
    return [name for name in files if name.split("/")[0] in tops and not is_junk(name)]


def _without_sheet_folders(root: Path, files: Sequence[str]) -> list[Path]:
    """Folders of the root but those that hold sheets and no image."""
    below = [name for name in files if "/" in name]
    sheets = {name.split("/")[0] for name in below if _is_sheet(name)}
    shown = {name.split("/")[0] for name in below if is_image(root / name)}
    return [one for one in _class_folders(root) if one.name not in sheets - shown]


def _read_layout(root: Path, ids: Sequence[str], files: Sequence[str]) -> Layout:
    try:
        return read_layout(ids)
    except DataError as error:
        raise DataError("; ".join((str(error), *_unread_sheets(root, files)))) from error


def _require_folders(root: Path, folders: Sequence[Path], files: Sequence[str]) -> None:
    if not folders:
        images = [name for name in files if is_image(root / name)]
        found = (
            f"; found {len(images)} images beside each other, so the .csv needs the columns file, "
            f"label and patient_id, such as {images[0]},LABEL,PATIENT"
            if images
            else ""
        )
        raise DataError(
            f"{root}: no class folders; images are expected as ROOT/CLASS/**/*"
            f"{{{','.join(sorted(IMAGE_SUFFIXES))}}}, or name a .csv manifest as --data{found}"
        )


def _is_sheet(name: str) -> bool:
    return Path(name).suffix.lower() in SHEET_SUFFIXES


def _told(count: int, what: str) -> str:
    return f"{count} {what}" if count else ""


def _walk(root: Path) -> list[str]:
    """Paths of all files below the root; links to folders are followed once.

    Raises:
        DataError: a folder may not be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: the folder cannot be read ({error.strerror}); give yourself the "
            "right to read it, or move it away"
        )

    seen, found = set(), []
    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def _others(names: set[str]) -> str:
    """Sentence on files that are no images, by suffix; empty where there are none."""
    counts = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))
    return f"{len(names)} files below the folders are no images ({listed})" if names else ""


def _require_images(root: Path, folder: str, ids: Sequence[str]) -> None:
    left_out = is_junk(folder) or is_mask_folder(folder)
    if not left_out and not any(name.startswith(f"{folder}/") for name in ids):
        raise DataError(
            f"{root / folder}: the class folder holds no image "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}); fill or remove it"
        )


def _unread_sheets(root: Path, files: Sequence[str]) -> list[str]:
    """A sentence for each sheet beside or below the folders that is not read, and what reads it."""
    sheets = [
        name
        for name in files
        if _is_sheet(name) and name != METADATA and not is_junk(name) and "~" not in name
    ]
    told = [
        f"{name} was not read: a sheet of columns for these folders is called {METADATA}, and "
        f"--data {root.name}/{name} reads a sheet that names files and labels"
        for name in sheets[:MOST_SHEETS]
    ]
    more = len(sheets) - MOST_SHEETS
    return [*told, *([f"{more} more sheets were not read"] if more > 0 else [])]


# Longer than 30 lines: half of it is the texts of its refusals.
def _join_table(listing: Listing, table: TextTable, options: ReadOptions) -> Listing:
    """The listing with the patients and columns of its ``metadata.csv``."""
    file = pick_column(table, "--file-column", options.file_column, FILE_NAMES, METADATA)
    if file is None:
        raise DataError(
            f"{listing.root / METADATA}: has no column 'file' (the image's path below the data "
            f"folder), found {list(table)}"
        )
    names, found = find_files(listing.root, table[file])
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"{METADATA}: files {first_three(twice)} are listed twice; keep one row each"
        )
    listing = _without_unlisted(listing, row_of)
    rows = [row_of[name] for name in listing.ids]
    columns = {name: tuple(texts[row] for row in rows) for name, texts in table.items()}
    _check_labels(listing, columns)
    absent = len(names) - len(rows)
    notes = (f"{absent} rows of {METADATA} have no image and were left out",) if absent else ()
    patient = pick_column(
        columns, "--patient-column", options.patient_column, PATIENT_NAMES, METADATA
    )
    return Listing(
        listing.root,
        listing.ids,
        listing.images,
        listing.labels,
        columns[patient] if patient else listing.patients,
        columns,
        METADATA,
        (*listing.assumptions, *found, *notes),
        set_aside=listing.set_aside,
    )


def _without_unlisted(listing: Listing, listed: Collection[str]) -> Listing:
    """The images that ``metadata.csv`` lists; the others are set aside.

    Raises:
        DataError: half of the images or more have no row.
    """
    missing = [row for row, name in enumerate(listing.ids) if name not in listed]
    if 2 * len(missing) >= len(listing.ids):
        raise DataError(
            f"{METADATA}: images {first_three(listing.ids[row] for row in missing)} have no row; "
            "add them or remove the images"
        )
    return listing.put_aside(dict.fromkeys(missing, f"no row in {METADATA}"))


def _check_labels(listing: Listing, columns: TextTable) -> None:
    for label in find_columns(columns, FOLDER_LABELS):
        _check_label(listing, label, columns[label])


def _check_label(listing: Listing, label: str, values: Sequence[str]) -> None:
    wrong = [
        f"{name} has {value!r}"
        for name, folder, value in zip(listing.ids, listing.labels, values, strict=True)
        if value and value.lower() != folder.lower()
    ]
    if wrong:
        raise DataError(
            f"{METADATA}: column {label!r} contradicts the class folder: {first_three(wrong)}; "
            "correct the folder or the column, or remove the column"
        )
