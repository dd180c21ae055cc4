"""Reader of Mini-DDSM: ``Benign/ Cancer/ Normal/`` case folders described by Excel sheets.

Reference: Lekamlage et al. (2020), "Mini-DDSM: Mammography-based automatic age estimation"; the
images are from DDSM.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from outerfold.storage.errors import first_three
from outerfold.storage.readers._base import (
    DEFAULTS,
    MASK_PATTERN,
    Listing,
    ReadOptions,
    find_column,
)
from outerfold.storage.records import DataError
from outerfold.storage.words.sheets import TextTable, read_sheet
from outerfold.storage.words.texts import is_missing

SHEET = "DataWMask.xlsx"
LISTS = "List_*.xlsx"
LIST_NAME = re.compile(r"^List_(\w+)\.xlsx$", re.IGNORECASE)
CASE = re.compile(r"(?:^|/)([A-D]_\d+)_\d+\.")
"""Pattern of DDSM volume letter and case number; folder numbers alone repeat between classes."""

ZEROS = frozenset({"0", "0.0"})


def find_sheets(root: Path) -> list[Path]:
    """Paths of the Excel sheets that describe a Mini-DDSM folder; empty for any other folder."""
    return [root / SHEET] if (root / SHEET).is_file() else sorted(root.glob(LISTS))


def has_sheets(source: Path) -> bool:
    """Whether a source is a folder with the sheets of Mini-DDSM."""
    return source.is_dir() and bool(find_sheets(source))


def list_mini_ddsm(root: Path, options: ReadOptions = DEFAULTS) -> Listing:
    """Listing of the sheets' rows whose image exists; an assumption gives the number left out.

    The sheets say everything, so ``options`` change nothing.

    Raises:
        DataError: a sheet cannot be read, or no image exists.
    """
    every = list_sheet_rows(root)
    images = [_find_image(path) for path in every.images]
    rows = [row for row, path in enumerate(images) if path is not None]
    if not rows:
        raise DataError(
            f"{root}: none of the {len(images)} images of {every.source} exists, "
            f"for example {every.ids[0]}; unpack the images beside the sheet"
        )
    kept = every.keep(rows)
    found = tuple(path for path in images if path is not None)
    notes = kept.assumptions
    if len(rows) < len(images):
        notes += (
            f"{len(images) - len(rows)} of {len(images)} rows of {every.source} have no image "
            "and were left out",
        )
    return replace(kept, images=found, assumptions=notes)


def list_sheet_rows(root: Path) -> Listing:
    """Listing of every row of the sheets, with or without an image; density 0 becomes missing.

    Raises:
        DataError: there is no sheet, or a sheet cannot be read or has no file names.
    """
    sheets = find_sheets(root)
    if not sheets:
        raise DataError(f"{root}: holds neither {SHEET} nor {LISTS}, the sheets of Mini-DDSM")
    parts = [_list_sheet(root, sheet) for sheet in sheets]
    columns = [name for name in parts[0].table if all(name in part.table for part in parts)]
    table = {name: tuple(t for part in parts for t in part.table[name]) for name in columns}
    return Listing(
        root,
        tuple(name for part in parts for name in part.ids),
        tuple(path for part in parts for path in part.images),
        tuple(label for part in parts for label in part.labels),
        tuple(p for part in parts for p in part.patients or ()),
        table,
        ", ".join(sheet.name for sheet in sheets),
        _empty_zero_density(table),
        gaps={name: (0.0,) for name in table if find_column([name], ["density"])},
    )


def _list_sheet(root: Path, sheet: Path) -> Listing:
    table = read_sheet(sheet)
    ids = _row_paths(sheet, table)
    rows = [row for row, name in enumerate(ids) if not MASK_PATTERN.search(_stem(name))]
    named = [ids[row] for row in rows]
    kept = {name: tuple(texts[row] for row in rows) for name, texts in table.items()}
    return Listing(
        root,
        tuple(named),
        tuple(root / name for name in named),
        _labels(sheet, named, kept),
        tuple(_find_patient(name) for name in named),
        kept,
        sheet.name,
    )


def _empty_zero_density(table: TextTable) -> tuple[str, ...]:
    """Empty the zeros of the density column in ``table``; return a sentence if there were any."""
    density = find_column(table, ["density"])
    texts = table[density] if density is not None else ()
    zeros = sum(text in ZEROS for text in texts)
    if density is None or not zeros:
        return ()
    table[density] = tuple("" if text in ZEROS else text for text in texts)
    return (f"density 0 is no BI-RADS density and was read as missing ({zeros} rows)",)


def _row_paths(sheet: Path, table: TextTable) -> tuple[str, ...]:
    """Image path of each row below the root, with ``/``."""
    full = find_column(table, ["fullpath", "path", "file"])
    if full is None:
        raise DataError(
            f"{sheet.name}: has no column 'fullPath' (CLASS\\CASE\\image), found {list(table)}"
        )
    paths = tuple(text.replace("\\", "/").lstrip("./") for text in table[full])
    blank = [str(row + 2) for row, text in enumerate(paths) if not text or is_missing(text)]
    if blank:
        raise DataError(f"{sheet.name}: rows {first_three(blank)} have no fullPath")
    return paths


def _labels(sheet: Path, ids: list[str], table: TextTable) -> tuple[str, ...]:
    """Class names of the rows: Status, else CLASS of ``List_CLASS.xlsx``, else the top folder."""
    status = find_column(table, ["status"])
    if status is not None:
        return table[status]
    named = LIST_NAME.match(sheet.name)
    return tuple(named[1] if named else name.split("/")[0] for name in ids)


def _find_patient(name: str) -> str:
    found = CASE.search(name)
    return found[1] if found else name.rsplit("/", 1)[0]


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _find_image(path: Path) -> Path | None:
    """Path of the image, or of its 16-bit PNG edition (the sheet describes both); else None."""
    return next((p for p in (path, path.with_suffix(".png")) if p.is_file()), None)
