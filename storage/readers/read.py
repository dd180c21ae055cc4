"""Reading of a data source of any layout: its classes, patients and columns."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outerfold.storage.audit.suspected_patients import (
    find_joined,
    join_groups,
    long_chain_question,
)
from outerfold.storage.errors import Question, first_three, require_answers
from outerfold.storage.images.read import content_hash
from outerfold.storage.readers._base import (
    DEFAULTS,
    SYNTHETIC_MARKER,
    Listing,
    ReadOptions,
    find_column,
    find_reader,
)
from outerfold.storage.readers.columns import (
    DEFAULT_COLUMNS,
    choose_columns,
    find_facts,
    parse_column,
)
from outerfold.storage.readers.labels import contradictions, read_labels
from outerfold.storage.readers.mini_ddsm import list_sheet_rows
from outerfold.storage.readers.patients import Patients, drop_nameless, find_patients
from outerfold.storage.readers.sides import find_sides
from outerfold.storage.readers.targets import class_order, target, wanted_classes
from outerfold.storage.records import Column, DataError, Dataset, Features, FloatArray
from outerfold.storage.registry import load_part
from outerfold.storage.set_aside import SetAside, require_few
from outerfold.storage.tasks import TASKS, Task
from outerfold.storage.words.texts import clean


@dataclass(frozen=True, eq=False)
class _Table:
    columns: tuple[Column, ...]
    values: FloatArray  # (n, k)
    assumptions: tuple[str, ...]


def read_dataset(
    source: Path,
    *,
    task: str,
    classes: Sequence[str] = (),
    positive: str | None = None,
    columns: Sequence[str] | None = None,
    patient_regex: str | None = None,
    name: str | None = None,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Rows of a class-folder root, a Mini-DDSM folder or a CSV manifest, sorted by id.

    Args:
        source: folder or ``.csv`` file.
        task: name of the task; ``multimodal`` makes the target binary, ``dbt`` keeps every class.
        classes: classes to keep; empty keeps all.
        positive: positive class; None takes the one that the names show, such as cancer.
        columns: tabular columns; None takes those of age, density and family_history that the
            source has for multimodal, and none for dbt.
        patient_regex: pattern whose one group is the patient, for sources that name no patients.
        name: name of the data in reports; None takes the name of the source.
        options: answers to what the source does not say.

    Raises:
        DataError: the source breaks a rule; the message gives the rule and what to do.
    """
    listing = _list_source(Path(source), options)
    _require_plain_names(listing.ids)
    listing = read_labels(
        listing, (*classes, *([positive, *positive.split(",")] if positive else ()))
    )
    options = replace(options, patient_regex=patient_regex or options.patient_regex)
    listing, hashes = _hash_images(drop_nameless(listing, options))
    return _build_dataset(
        listing,
        hashes,
        task=TASKS.named(task),
        classes=classes,
        positive=positive,
        columns=columns,
        name=name or _source_name(Path(source), listing.root),
        options=options,
    )


def read_sheet_only(
    source: Path, *, task: str = "multimodal", columns: Sequence[str] | None = None
) -> Dataset:
    """Rows of Mini-DDSM's sheets alone; the images need not exist and are not hashed.

    The result is for plans and scale tests; a model cannot be trained on it.

    Raises:
        DataError: a sheet is absent, cannot be read or breaks a rule.
    """
    listing = list_sheet_rows(Path(source)).by_id()
    return _build_dataset(
        listing,
        list(listing.ids),
        task=TASKS.named(task),
        classes=(),
        positive=None,
        columns=columns,
        name=f"{Path(source).name} (metadata only)",
        options=DEFAULTS,
    )


def _list_source(source: Path, options: ReadOptions) -> Listing:
    if not source.exists():
        raise DataError(f"{source}: does not exist; --data needs a folder or a .csv manifest")
    reader = find_reader(source.resolve())
    if reader is None:
        raise DataError(
            f"{source}: a data source is a folder or a .csv or .xlsx manifest, "
            f"found a {source.suffix or 'nameless'} file"
        )
    found = load_part(reader.list_rows)(source.resolve(), options)
    if not isinstance(found, Listing):
        raise DataError(
            f"{source}: reader {reader.name!r} returned {type(found).__name__}, and a reader "
            "returns a Listing"
        )
    return found.by_id()


def _require_plain_names(ids: Sequence[str]) -> None:
    """Refuse paths that no report can show: control characters, and bytes that are no UTF-8."""
    wrong = [name for name in ids if clean(name) != name.strip()]
    if wrong:
        raise DataError(
            f"files {first_three(map(ascii, wrong))} have names with control characters or bytes "
            "that are no UTF-8, which no report can show; rename them"
        )


def _told_set_aside(listing: Listing) -> tuple[str, ...]:
    rows = [f"{row.id}: {row.why}" for row in listing.set_aside]
    return (f"rows set aside: {first_three(rows)}",) if rows else ()


def _source_name(source: Path, root: Path) -> str:
    return source.resolve().stem if source.is_file() else root.name


def _hash_images(listing: Listing) -> tuple[Listing, list[str]]:
    """The rows whose files can be read, with the hashes of these; the others are set aside.

    Raises:
        DataError: no file can be read.
    """
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=8, prefer="threads")
    found = list(workers(delayed(_try_hash)(path) for path in listing.images))
    errors = {row: one for row, one in enumerate(found) if isinstance(one, DataError)}
    if errors and len(errors) == len(found):
        raise errors[0]
    why = {
        row: str(error).removeprefix(f"{listing.images[row]}: ") for row, error in errors.items()
    }
    return listing.put_aside(why), [one for one in found if isinstance(one, str)]


def _try_hash(path: Path) -> str | DataError:
    try:
        return content_hash(path)
    except DataError as error:
        return error


# Longer than 30 lines: a list of steps, each of which needs the one before it.
def _build_dataset(
    listing: Listing,
    hashes: Sequence[str],
    *,
    task: Task,
    classes: Sequence[str],
    positive: str | None,
    columns: Sequence[str] | None,
    name: str,
    options: ReadOptions,
) -> Dataset:
    names = class_order(listing.labels)
    wanted = wanted_classes(names, classes)
    rows = [row for row, label in enumerate(listing.labels) if label in wanted]
    listing = listing.keep(rows)
    questions: list[Question] = []
    labels, names, merged = _target(listing, wanted, task, positive, questions)
    few = _ask_few(listing, listing.set_aside, options)
    questions += few
    people = find_patients(listing, options, questions)
    if questions:
        questions = _with_images(listing, people, options, questions, few)
    require_answers(questions)
    table = _parse_columns(listing, task, columns)
    features = Features(
        np.array(listing.ids),
        np.array([str(path) for path in listing.images]),
        table.values,
        table.columns,
    )
    data = Dataset(
        features=features,
        labels=np.array([names.index(label) for label in labels], dtype=np.int64),
        patients=np.array(people.names),
        classes=names,
        fingerprint="",
        name=name,
        synthetic=(listing.root / SYNTHETIC_MARKER).is_file(),
        patients_known=people.known,
        assumptions=listing.assumptions
        + _told_set_aside(listing)
        + contradictions(listing.ids, listing.labels, listing.label_column, listing.table)
        + merged
        + people.notes
        + table.assumptions,
        sides=np.array(find_sides(listing.ids, listing.table, options.side_column), dtype=np.str_),
        groups=np.array(people.groups),
        set_aside=listing.set_aside,
        facts=find_facts(listing.table),
        originals=np.array(listing.labels if labels != listing.labels else (), dtype=np.str_),
    )
    return replace(data, fingerprint=fingerprint(data, [hashes[row] for row in rows]))


def _target(
    listing: Listing,
    names: tuple[str, ...],
    task: Task,
    positive: str | None,
    questions: list[Question],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    try:
        return target(listing.labels, names, task, positive, listing.label_column)
    except Question as question:
        questions.append(question)
        return listing.labels, names, ()


def _ask_few(
    listing: Listing, out: Sequence[SetAside], options: ReadOptions, unreadable: int = 0
) -> list[Question]:
    """Question on too many rows that cannot be used, if there is one.

    Args:
        listing: rows that can be used, or whose images alone cannot.
        out: rows that cannot be used.
        options: answers to what the source does not say.
        unreadable: number of rows of ``out`` that ``listing`` holds as well; they stand at its end.

    Raises:
        DataError: there are such rows, and ``strict`` refuses each.
    """
    before = out[: len(out) - unreadable]
    try:
        require_few(
            out,
            Counter([*listing.labels, *(row.label for row in before if row.label)]),
            allowed=options.set_aside,
            strict=options.strict,
        )
    except Question as question:
        return [question]
    return []


def _with_images(
    listing: Listing,
    people: Patients,
    options: ReadOptions,
    questions: list[Question],
    few: list[Question],
) -> list[Question]:
    """All questions of a message that is sent anyway, with those that the pictures raise.

    A user who answers them all is not asked again.
    """
    from outerfold.storage.audit.near_duplicates import compute_signatures, find_pairs

    signatures = compute_signatures([str(path) for path in listing.images])
    broken = [
        SetAside(
            listing.ids[row], why.removeprefix(f"{listing.images[row]}: "), listing.labels[row]
        )
        for row, why in sorted(signatures.failures.items())
    ]
    found = [one for one in questions if one not in few]
    found += _ask_few(listing, (*listing.set_aside, *broken), options, len(broken))
    if people.known and not options.distinct_patients:
        names, groups = np.array(people.names), np.array(people.groups)
        pairs = [(pair.first, pair.second) for pair in find_pairs(signatures)]
        joined = find_joined(names, groups, join_groups(groups, pairs))
        chain = long_chain_question(joined)
        found += [chain] if chain is not None else []
    return found


def _parse_columns(listing: Listing, task: Task, columns: Sequence[str] | None) -> _Table:
    notes: tuple[str, ...] = ()
    asked: Sequence[str] = columns or ()
    if columns is None and task.columns:
        asked = [n for n in DEFAULT_COLUMNS if find_column(listing.table, [n], "--columns")]
        absent = [n for n in DEFAULT_COLUMNS if n not in asked]
        notes = (
            f"tabular columns found: {', '.join(asked) or 'none'}"
            + (f"; absent: {', '.join(absent)}" if absent else ""),
        )
    chosen = choose_columns(list(listing.table), asked, listing.source)
    parsed = [
        parse_column(name, listing.table[found], listing.gaps.get(found, ()))
        for name, found in chosen
    ]
    notes += tuple(note for _, _, said in parsed for note in said)
    values = np.empty((len(listing.ids), len(parsed)))
    for at, (_, column, _) in enumerate(parsed):
        values[:, at] = column
    return _Table(tuple(column for column, _, _ in parsed), values, notes)


def fingerprint(data: Dataset, contents: Sequence[str]) -> str:
    """SHA-256 (64 hex digits) of ids, image contents, labels, patients, columns and their values.

    Args:
        data: n rows.
        contents: n content hashes of the images, in row order.
    """
    digest = hashlib.sha256()
    digest.update(repr((data.classes, data.features.columns)).encode())
    rows = zip(data.ids, contents, data.labels, data.patients, strict=True)
    if (data.groups != data.patients).any():
        digest.update(repr(data.groups.tolist()).encode())
    for row in rows:
        digest.update(repr(tuple(str(cell) for cell in row)).encode())
    digest.update(np.ascontiguousarray(data.features.tabular).tobytes())
    return digest.hexdigest()
