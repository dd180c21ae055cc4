"""Reader of a CSV manifest: one row for each image, ``file,label,patient_id`` and other columns."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outerfold.storage.errors import Question, first_three, require_answers, suggest_name
from outerfold.storage.images.named import find_files
from outerfold.storage.images.read import IMAGE_SUFFIXES, is_image
from outerfold.storage.names import normalise, same_names
from outerfold.storage.readers._base import (
    DEFAULTS,
    Listing,
    ReadOptions,
    find_columns,
    pick_column,
)
from outerfold.storage.readers.patients import ask_of_table
from outerfold.storage.records import DataError
from outerfold.storage.words.class_names import severity
from outerfold.storage.words.headers import (
    FILE_NAMES,
    LABEL_NAMES,
    LESION_NAMES,
    PATIENT_NAMES,
)
from outerfold.storage.words.sheets import SHEET_SUFFIXES, TextTable, read_sheet, unread_sheets


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
    patient = pick_column(
        table, "--patient-column", options.patient_column, PATIENT_NAMES, path.name
    )
    try:
        label = _require_column(path, table, "label", options.label_column, LABEL_NAMES)
    except Question as question:
        more = ask_of_table(table, patient, path.name, options)
        require_answers([question, *([more] if more else [])])
        raise
    table, label, hot = _one_column(path, table, label, options)
    ids, found = find_files(path.parent, table[file])
    every = Listing(
        path.parent,
        ids,
        tuple(path.parent / name for name in ids),
        table[label],
        table[patient] if patient else None,
        table,
        path.name,
        label_column=label,
    )
    listing, merged = _merge_lesions(_without_absent(every))
    notes = (*hot, *found, *merged, *_left_out(path, listing.ids))
    return replace(listing, assumptions=notes)


def _one_column(
    path: Path, table: TextTable, label: str, options: ReadOptions
) -> tuple[TextTable, str, tuple[str, ...]]:
    """The table with one column of labels in place of several that hold 0 and 1, one a class.

    So ``Normal,Actionable,Benign,Cancer`` with one 1 in each row are labels. A column that the user
    names stays alone.
    """
    bits = {"0": False, "0.0": False, "1": True, "1.0": True, "false": False, "true": True}
    hot = {
        name: [bits.get(text.strip().lower()) for text in texts]
        for name, texts in table.items()
        if severity(name) is not None
    }
    hot = {name: found for name, found in hot.items() if None not in found}
    if options.label_column or label not in hot or len(hot) < 3:
        return table, label, ()
    rows = list(zip(*hot.values(), strict=True))
    if any(sum(map(bool, row)) != 1 for row in rows):
        return table, label, ()
    names = list(hot)
    labels = tuple(names[row.index(True)] for row in rows)
    note = f"{path.name}: the columns {names} hold 0 and 1, one a class, and were read as labels"
    kept = {name: texts for name, texts in table.items() if name not in hot}
    return {**kept, "label": labels}, "label", (note,)


def _merge_lesions(listing: Listing) -> tuple[Listing, tuple[str, ...]]:
    """One row for each image of a sheet that lists lesions; the gravest label stays.

    Raises:
        DataError: files are listed twice in a sheet without a column of lesions, or under labels
            that do not say which one is graver.
    """
    labels, source = listing.labels, listing.source
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(listing.ids):
        rows[name].append(row)
    twice = sorted(name for name, found in rows.items() if len(found) > 1)
    if not twice:
        return listing, ()
    if not find_columns(listing.table, LESION_NAMES):
        raise DataError(f"{source}: files {first_three(twice)} are listed twice; keep one row")
    unclear = [
        name
        for name in twice
        if len({labels[row] for row in rows[name]}) > 1
        and None in {severity(labels[row]) for row in rows[name]}
    ]
    if unclear:
        raise DataError(
            f"{source}: files {first_three(unclear)} have lesions under several labels, and "
            "their names do not say which is graver; keep one row a file, with its own label"
        )
    kept = [max(found, key=lambda row: severity(labels[row]) or 0) for found in rows.values()]
    note = (
        f"{source} lists lesions: {len(twice)} images have several rows, and the one with the "
        "gravest label was kept"
    )
    return listing.keep(kept), (note,)


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
    found = [name for one in wanted for name in same_names(table, one)]
    plain = {normalise(name) for name in found} & {"label", "labels", "class", "target"}
    return found if len(found) > 1 and not plain else []


def _without_absent(listing: Listing) -> Listing:
    """The rows whose file exists; those without one are set aside.

    Raises:
        DataError: half of the files or more do not exist, or a file is no image.
    """
    ids, images = listing.ids, listing.images
    absent = {row for row, name in enumerate(ids) if not name or not images[row].is_file()}
    if 2 * len(absent) >= len(ids):
        raise DataError(
            f"{listing.source}: files {first_three(ids[row] or '(no name)' for row in absent)} do "
            f"not exist below {listing.root}; paths are relative to the manifest's folder"
        )
    no_images = [
        name for row, name in enumerate(ids) if row not in absent and not is_image(images[row])
    ]
    if no_images:
        raise DataError(
            f"{listing.source}: files {first_three(no_images)} are no images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    classes = {label for row, label in enumerate(listing.labels) if row not in absent}
    return listing.put_aside(dict.fromkeys(absent, "no such file"), labels=classes)


def _left_out(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """Sentences on sheets of the file and on images beside the listed ones that are not read."""
    sheets = unread_sheets(path)
    notes = [f"{path.name}: sheets {first_three(sheets)} were not read"] if sheets else []
    listed = {Path(os.path.normpath(path.parent / name)) for name in ids}
    beside = [one for folder in {one.parent for one in listed} for one in folder.iterdir()]
    more = sorted(one.name for one in beside if one not in listed and is_image(one))
    if more:
        notes.append(
            f"{path.name} lists {len(listed)} images; {len(more)} others beside them were left out "
            f"({first_three(more)})"
        )
    return tuple(notes)
