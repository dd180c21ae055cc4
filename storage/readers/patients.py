"""Patients of a listing: from its source, from a pattern, from a known scheme, or guessed."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outerfold.storage.audit.suspected_patients import find_joined, join_groups, long_chain_question
from outerfold.storage.errors import Question, first_three
from outerfold.storage.images.read import read_patient_ids
from outerfold.storage.names import normalise
from outerfold.storage.readers._base import (
    DEFAULTS,
    Listing,
    ReadOptions,
    patients_by_default,
    patients_by_regex,
)
from outerfold.storage.records import DataError
from outerfold.storage.words.patient_ids import group_spellings, is_no_patient
from outerfold.storage.words.sheets import TextTable
from outerfold.storage.words.texts import clean

GROUPS_A_FOLD, LARGEST_SHARE = 3, 0.25
"""A pattern is asked about where it gives so many groups, and none has more of the images."""

MOST_HEADERS = 20_000
"""DICOM files at most whose ``PatientID`` is compared with the patients that are named."""

_ID_WORDS = re.compile(
    r"(?:^|_)(?:id|ids|uid|no|nr|num|number|code|key|anon|patients?|pat|subject|person|woman|women|"
    r"client|participant|case|study|exam|accession|acc|visit|mrn|nhs|hospital)(?:_|$)"
)
"""Normalised names of columns that may hold ids of patients or of their examinations."""
_OTHER_IDS = re.compile(
    r"(?:^|_)(?:images?|img|pictures?|files?|frames?|slices?|series|views?|lesions?|rois?|findings?|"
    r"devices?|scanners?|machines?|sites?|cent(?:re|er)s?|readers?|radiologists?|operators?)(?:_|$)"
)
"""Normalised names of columns that number something else."""
_YEAR = re.compile(r"(?:19[5-9]\d|20[0-4]\d)")
_TOKENS = re.compile(r"[^_\-. ()\[\]]+")
_NO_SEPARATOR = r"[^_\-. ()\[\]/]+"


@dataclass(frozen=True)
class Patients:
    """Patients and groups of n rows.

    Attributes:
        names: n patients.
        groups: n groups of suspected patients; the patients where nothing is suspected.
        known: whether the source, a pattern or a scheme names them.
        notes: sentences on how they were found.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    known: bool
    notes: tuple[str, ...] = ()


def find_patients(listing: Listing, options: ReadOptions, questions: list[Question]) -> Patients:
    """Patients of the n rows, grouped where two may be one.

    They come from the source, else from the pattern, else from a known naming scheme, else from the
    DICOM tag ``PatientID``. Else a pattern is proposed, and asked about if it gives enough groups;
    without one, near-duplicate images are grouped.

    Raises:
        DataError: the pattern does not fit or has no effect.
    """
    found = _named(listing, options)
    tagged = _by_tag(listing) if found is None and not options.patients_unknown else None
    people = tagged if found is None else found
    if people is None:
        return _unnamed(listing, options, questions)
    if options.distinct_patients:
        return people
    people = _group(people, set(listing.labels), questions)
    return people if found is None else _join_by_tag(people, listing, questions)


def drop_nameless(listing: Listing, options: ReadOptions = DEFAULTS) -> Listing:
    """The listing without rows whose source names no patient, such as ``nan`` or ``1.2E+12``.

    A column that names hardly any is as good as none where a pattern, or ``patients_unknown``, is
    given.

    Raises:
        Question: half of the rows or more have no patient, and neither is given.
    """
    if listing.patients is None:
        return listing
    texts = [clean(name) for name in listing.patients]
    few = _few_named(texts, listing.source)
    if few is not None:
        if options.patient_regex is None and not options.patients_unknown:
            raise few
        note = f"{listing.source}: the column of patients names hardly any, and was not used"
        return replace(listing, patients=None, assumptions=(*listing.assumptions, note))
    why = {
        row: f"no patient ({text or 'empty'})"
        for row, text in enumerate(texts)
        if is_no_patient(text)
    }
    return replace(listing, patients=tuple(texts)).put_aside(why)


def _few_named(texts: Sequence[str], source: str) -> Question | None:
    """Question on a column of patients of which half of the rows or more name none."""
    nameless = [text for text in texts if is_no_patient(text)]
    if not nameless or 2 * len(nameless) < len(texts):
        return None
    return Question(
        f"{source}: {len(nameless)} of {len(texts)} images have no patient (found "
        f"{first_three(sorted(set(nameless)))}); fill the column in, name another with "
        "--patient-column, give a --patient-regex for the file paths, or --patients-unknown to go "
        "on, since all images of a patient must be on one side of every split"
    )


def ask_of_table(
    table: TextTable, column: str | None, source: str, options: ReadOptions
) -> Question | None:
    """Question on the patients of a table alone, before its labels and files are known.

    Args:
        column: its column of patients; None where it has none.
        source: name of the table in messages.
    """
    if options.patient_regex is not None or options.patients_unknown:
        return None
    if column is not None:
        return _few_named([clean(text) for text in table[column]], source)
    return _propose_column(table, source, options)


def _named(listing: Listing, options: ReadOptions) -> Patients | None:
    regex = options.patient_regex
    if listing.patients is not None:
        if regex is not None:
            raise DataError(
                f"--patient-regex has no effect: {listing.source} names the patients; "
                "leave one of the two out"
            )
        return Patients(listing.patients, listing.patients, True)
    if regex is not None:
        names = patients_by_regex(listing.ids, regex)
        return Patients(names, names, True)
    names_or_none = patients_by_default(listing.ids)
    if names_or_none is None or all(map(_is_year_folder, names_or_none)):
        return None
    note = "patients were read from file names, by a known naming scheme"
    return Patients(names_or_none, names_or_none, True, (note,))


def _by_tag(listing: Listing) -> Patients | None:
    """Patients by the DICOM tag ``PatientID``; None unless every file has one, and two differ."""
    names = tuple(map(clean, read_patient_ids(listing.images)))
    if len(set(names)) < 2 or any(map(is_no_patient, names)):
        return None
    note = (
        f"patients were read from the DICOM tag PatientID ({len(set(names))} patients, "
        f"{len(names)} images); --patients-unknown passes over it"
    )
    return Patients(names, names, True, (note,))


def _pairs_by_tag(listing: Listing) -> list[tuple[int, int]]:
    """Pairs of rows with one ``PatientID``; none where all files share one, which is no patient."""
    if len(listing.images) > MOST_HEADERS:
        return []
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(map(clean, read_patient_ids(listing.images))):
        if not is_no_patient(text):
            rows_of[text].append(row)
    several = rows_of.values() if len(rows_of) > 1 else ()
    return [(rows[0], row) for rows in several for row in rows[1:]]


def _join_by_tag(found: Patients, listing: Listing, questions: list[Question]) -> Patients:
    """The patients, grouped where files of two have one ``PatientID``; it is not shown."""
    names, before = np.array(found.names), np.array(found.groups)
    groups = join_groups(before, _pairs_by_tag(listing))
    joined = find_joined(names, before, groups)
    if not joined:
        return found
    said = "have one PatientID in the tags of their DICOM files"
    note = _told_groups(joined, said, said, questions)
    return replace(found, groups=tuple(groups.tolist()), notes=(*found.notes, note))


def _told_groups(
    joined: Sequence[Sequence[str]], said: str, why: str, questions: list[Question]
) -> str:
    """Sentence on patients that were grouped; a question is added where too many were.

    Args:
        joined: groups of names.
        said: what is true of them.
        why: the same, in the words of the question.
        questions: questions so far.
    """
    chain = long_chain_question(joined, f"{why}; correct the names")
    questions += [chain] if chain is not None else []
    return (
        f"patients that {said} were grouped, so that no split parts them: "
        f"{first_three(' = '.join(each[:4]) for each in joined)}; --distinct-patients takes them "
        "for different ones"
    )


def _is_year_folder(name: str) -> bool:
    return "/" in name and bool(_YEAR.fullmatch(name.rsplit("/", 1)[1]))


def _group(found: Patients, classes: Collection[str], questions: list[Question]) -> Patients:
    """The patients with groups: spellings of one id, and equal folders under two classes."""
    parts = {name: name.rpartition("/") for name in set(found.names)}
    bare = {name: last if top in classes else name for name, (top, _, last) in parts.items()}
    group_of = {name: group for name, group in group_spellings(bare.values()).items()}
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(bare):
        members[group_of[bare[name]]].append(name)
    several = [names for names in members.values() if len(names) > 1]
    if not several:
        return found
    why = "may be one patient by their spelling"
    note = _told_groups(several, "may be one by their names", why, questions)
    groups = {name: names[0] for names in members.values() for name in names}
    return Patients(
        found.names, tuple(groups[name] for name in found.names), True, (*found.notes, note)
    )


def _unnamed(listing: Listing, options: ReadOptions, questions: list[Question]) -> Patients:
    asked = ask_of_table(listing.table, None, listing.source, options)
    if asked is not None:
        questions.append(asked)
        return Patients(listing.ids, listing.ids, False)
    proposal = None if options.patients_unknown else propose_regex(listing.ids)
    notes: tuple[str, ...] = ()
    if proposal is not None:
        sizes = Counter(patients_by_regex(listing.ids, proposal))
        text = (
            f"nothing names the patients, but --patient-regex {_quote(proposal)} finds "
            f"{len(sizes)} patients in the paths of {len(listing.ids)} images, at most "
            f"{max(sizes.values())} images each ({first_three(sorted(sizes))})"
        )
        if len(sizes) >= GROUPS_A_FOLD * options.folds:
            questions.append(
                Question(f"{text}; add it, another pattern, or --patients-unknown to go on")
            )
            return Patients(listing.ids, listing.ids, False)
        notes = (f"{text}; add it if these are the patients",)
    if questions:  # near-duplicates take long to find, and the answer will be read again
        return Patients(listing.ids, listing.ids, False)
    return _guess(listing, notes)


def _guess(listing: Listing, notes: tuple[str, ...]) -> Patients:
    from outerfold.storage.audit.near_duplicates import group_lookalikes

    groups = group_lookalikes(listing.ids, [str(path) for path in listing.images])
    note = (
        "there is no patient column or pattern: near-duplicate images were grouped "
        f"({len(listing.ids)} images, {len(set(groups))} groups); "
        "it could not be verified that no patient is on both sides of a split"
    )
    return Patients(tuple(groups), tuple(groups), False, (*notes, note))


def _quote(pattern: str) -> str:
    return f"'{pattern}'"


def propose_regex(ids: Sequence[str]) -> str | None:
    """Pattern that may name the patients in n paths; None where nothing in them looks like ids.

    The outermost folder below the class whose names hold digits is taken, else the first part of
    the file names that holds digits. Parts must repeat within a class, and no part may have more
    than ``LARGEST_SHARE`` of the images.

    Example:
        >>> propose_regex([f"{c}/P{p:03}/{s}.png" for p in range(6) for s in "lr" for c in ["a"]])
        '^[^/]+/([^/]+)/'
    """
    depth = min((name.count("/") for name in ids), default=0)
    folders = [rf"^{'[^/]+/' * level}([^/]+)/" for level in range(1, depth)]
    before = r"^(?:[^/]*/)*"
    parts = min((len(_TOKENS.findall(_stem(name))) for name in ids), default=0)
    apart = r"[_\-. ()\[\]]+"
    names = [
        rf"{before}[_\-. ()\[\]]*{(_NO_SEPARATOR + apart) * at}({_NO_SEPARATOR})(?=[^/]*$)"
        for at in range(parts)
    ]
    return next((p for p in (*folders, *names) if _looks_like_patients(ids, p)), None)


def _propose_column(table: TextTable, source: str, options: ReadOptions) -> Question | None:
    """Question whether a column of a table names the patients; None where none looks like ids.

    Its name holds a word of ``_ID_WORDS``, its values repeat, and they part the images as finely as
    ``_looks_like_patients`` asks of a pattern.
    """
    rows = len(next(iter(table.values()), ()))
    likely = {
        name: Counter(texts)
        for name, texts in table.items()
        if _ID_WORDS.search(normalise(name))
        and not _OTHER_IDS.search(normalise(name))
        and not any(map(is_no_patient, texts))
    }
    found = {
        name: sizes
        for name, sizes in likely.items()
        if GROUPS_A_FOLD * options.folds <= len(sizes) < rows
        and max(sizes.values()) <= LARGEST_SHARE * rows
    }
    if not found:
        return None
    name = min(found, key=lambda one: (len(found[one]), one))
    sizes = found[name]
    others = sorted(set(found) - {name})
    also = f" (so may {others[:3]})" if others else ""
    return Question(
        f"nothing names the patients, but column {name!r} of {source} may{also}: it has "
        f"{len(sizes)} values for {rows} images, at most {max(sizes.values())} images "
        f"each; add --patient-column {shlex.quote(name)}, or --patients-unknown to go on"
    )


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _looks_like_patients(ids: Sequence[str], pattern: str) -> bool:
    found = [re.search(pattern, name) for name in ids]
    if not all(found):
        return False
    groups = [match[1] for match in found if match]
    sizes = Counter(groups)
    repeats = Counter((name.split("/")[0], group) for name, group in zip(ids, groups, strict=True))
    return (
        len(sizes) >= 2 * GROUPS_A_FOLD
        and len(sizes) < len(ids)
        and max(sizes.values()) <= LARGEST_SHARE * len(ids)
        and sum(repeats.values()) >= 1.2 * len(repeats)
        and all(any(c.isdigit() for c in group) for group in sizes)
        and not all(_YEAR.fullmatch(group) for group in sizes)
    )
