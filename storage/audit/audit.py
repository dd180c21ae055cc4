"""Search for faults of a data set that would stop a study or make its scores too good."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from outerfold.storage.audit.cropped_copies import find_overlaps
from outerfold.storage.audit.leaking_columns import column_errors, column_warnings
from outerfold.storage.audit.near_duplicates import (
    FLAT,
    Pair,
    Signatures,
    compute_signatures,
    find_pairs,
)
from outerfold.storage.errors import first_three
from outerfold.storage.images.read import content_hash, find_identities
from outerfold.storage.records import SUSPECTED_PAIRS, DataError, Dataset, Float32, IntArray

CRUSHED_SHARE, WHOLE = 0.01, 3
"""Share of all images that may have lost most of their grey levels, and images of one folder from
which on they are a source of their own."""


@dataclass(frozen=True)
class Audit:
    """Findings of an audit, one sentence each; errors stop a run, warnings are reported."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def require(self) -> None:
        """Raise an error if the audit found errors.

        Raises:
            DataError: there are errors; the message holds all of them.
        """
        if self.errors:
            raise DataError("; ".join(self.errors))


def audit_dataset(data: Dataset, *, outer_folds: int, inner_folds: int) -> Audit:
    """Check images, patients, classes and columns; every image is decoded once.

    Returns:
        The errors and warnings. Each sentence gives the rule, what was found, the first three
        images, patients or columns concerned, and what to do.
    """
    signatures = _signatures(*_state(data))
    copies = _group_identical_files(data, signatures)
    errors = (
        *_image_errors(data, signatures),
        *(text for text, many in _crushed(data, signatures) if many),
        *_copy_errors(data, copies),
        *_class_errors(data, outer_folds, inner_folds),
        *column_errors(data),
    )
    warnings = (
        *_patient_warnings(data),
        *(text for text, many in _crushed(data, signatures) if not many),
        *_copy_warnings(data, copies),
        *_lookalike_warnings(data, signatures, copies),
        *_class_warnings(data, outer_folds, inner_folds),
        *column_warnings(data),
        *_identity_warnings(data),
    )
    return Audit(errors, warnings)


def find_unreadable(data: Dataset) -> dict[int, str]:
    """Return why images cannot be decoded, by row; an audit that follows decodes none anew."""
    return _signatures(*_state(data)).failures


def find_suspects(data: Dataset) -> list[tuple[int, int]]:
    """Rows of two near-identical images of different groups; no image is decoded anew."""
    signatures = _signatures(*_state(data))
    pairs = _pairs_across(data, signatures, _group_identical_files(data, signatures))
    return [(pair.first, pair.second) for pair in pairs]


def _state(data: Dataset) -> tuple[tuple[str, ...], tuple[tuple[int, int] | None, ...]]:
    """Image files, and their sizes and times; None for a file that is gone."""

    def look(path: str) -> tuple[int, int] | None:
        try:
            found = Path(path).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    images = tuple(data.features.images.tolist())
    return images, tuple(map(look, images))


@lru_cache(maxsize=1)
def _signatures(images: tuple[str, ...], _state: object) -> Signatures:
    # ``_state`` is part of the cache's key: a file that was changed is decoded again.
    return compute_signatures(images)


def audit_embeddings(
    data: Dataset, embeddings: Float32, tested: Sequence[frozenset[str]] = ()
) -> tuple[str, ...]:
    """Warnings about images that show part of an image of another patient.

    Args:
        data: n rows with image paths.
        embeddings: (n, dim) frozen embedding of each image.
        tested: groups that each outer fold tests, by which pairs that cross folds are named.
    """
    images = data.features.images.tolist()
    found = find_overlaps(embeddings, images, data.groups)
    if not found:
        return ()
    named = first_three(_name_pair(data, pair.first, pair.second) for pair in found)
    return (
        f"{SUSPECTED_PAIRS} that share a picture, as cropped copies do: {named}; "
        f"{_crossing(data, [(pair.first, pair.second) for pair in found], tested)}"
        "look at them, and give them one patient_id if they show one patient",
    )


def _name_pair(data: Dataset, first: int, second: int) -> str:
    return f"{data.ids[first]} ~ {data.ids[second]}"


def _crossing(
    data: Dataset, pairs: Sequence[tuple[int, int]], tested: Sequence[frozenset[str]]
) -> str:
    """Phrase on the pairs of which an outer fold tests one image and trains on the other."""
    if not tested:
        return ""
    groups = data.groups
    apart = [
        _name_pair(data, a, b)
        for a, b in pairs
        if any((groups[a] in fold) != (groups[b] in fold) for fold in tested)
    ]
    return f"{first_three(apart)} cross outer folds; " if apart else "none crosses an outer fold; "


def _group_identical_files(data: Dataset, signatures: Signatures) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more rows whose image files are identical; unreadable files are left out."""
    from joblib import Parallel, delayed

    rows = [row for row in range(len(data)) if row not in signatures.failures]
    images = data.features.images
    hashes = Parallel(n_jobs=4, prefer="threads")(delayed(content_hash)(images[r]) for r in rows)
    groups: dict[str, list[int]] = defaultdict(list)
    for at, content in enumerate(hashes):
        groups[content].append(rows[at])
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _name_groups(data: Dataset, groups: Sequence[Sequence[int]]) -> str:
    return first_three(" = ".join(str(data.ids[row]) for row in group[:3]) for group in groups)


def _differ(values: IntArray | np.ndarray, group: Sequence[int]) -> bool:
    return len(set(values[list(group)].tolist())) > 1


def _image_errors(data: Dataset, signatures: Signatures) -> Iterator[str]:
    if signatures.failures:
        broken = [str(data.ids[row]) for row in signatures.failures]
        reason = next(iter(signatures.failures.values()))
        yield (
            f"images must be readable: {first_three(broken)} are not; "
            f"replace or remove them (the first: {reason})"
        )
    flat = np.flatnonzero((signatures.spread >= 0) & (signatures.spread <= FLAT))
    if len(flat):
        yield (
            f"images must show something: {first_three(str(i) for i in data.ids[flat])} have only "
            "one grey level; replace or remove them"
        )


def _identity_warnings(data: Dataset) -> Iterator[str]:
    """One sentence on DICOM files that tell who is shown, by their tags or in the picture."""
    found = [find_identities(path) for path in data.features.images.tolist()]
    counts = Counter(tag for tags in found for tag in tags)
    if counts:
        held = ", ".join(f"{tag} in {count}" for tag, count in sorted(counts.items()))
        rows = [str(data.ids[row]) for row, tags in enumerate(found) if tags]
        yield (
            f"DICOM files name patients or have text burned into the picture ({held}): "
            f"{first_three(rows)}; these tags are not read, but pictures of explain show what is "
            "burned in; remove both before the files or pictures are shared"
        )


def _crushed(data: Dataset, signatures: Signatures) -> Iterator[tuple[str, bool]]:
    """Sentence on images whose levels are lost, and whether they are many or a whole source."""
    if not signatures.crushed.any():
        return
    folders = Counter(str(Path(path).parent) for path in data.features.images)
    lost = Counter(str(Path(path).parent) for path in data.features.images[signatures.crushed])
    whole = any(lost[name] == folders[name] >= WHOLE for name in lost)
    yield (
        f"images must keep their grey levels: {first_three(data.ids[signatures.crushed].tolist())} "
        "show fewer than 32 of 256 where their files have more, by a window or a table that does "
        "not fit; export them with the right one, or leave them out",
        whole or signatures.crushed.mean() >= CRUSHED_SHARE,
    )


def _copy_errors(data: Dataset, copies: Sequence[Sequence[int]]) -> Iterator[str]:
    labels = [group for group in copies if _differ(data.labels, group)]
    if labels:
        yield (
            f"one image must have one label: {_name_groups(data, labels)} are identical files in "
            "different classes; decide which is right and remove the other"
        )
    across = [group for group in copies if _differ(data.patients, group)]
    if across:
        yield (
            f"one image must have one patient: {_name_groups(data, across)} are identical files of "
            "different patients, so a split could put them on both sides; remove the copies or "
            "correct patient_id"
        )


def _copy_warnings(data: Dataset, copies: Sequence[Sequence[int]]) -> Iterator[str]:
    within = [g for g in copies if not _differ(data.patients, g) and not _differ(data.labels, g)]
    if within:
        yield (
            f"identical files within a patient: {_name_groups(data, within)}; "
            "they would count twice; remove the copies"
        )


def _pairs_across(
    data: Dataset, signatures: Signatures, copies: Sequence[Sequence[int]]
) -> list[Pair]:
    """Near-identical images of different groups; identical files are errors of their own."""
    identical = {frozenset((a, b)) for group in copies for a in group for b in group if a != b}
    return [
        pair
        for pair in find_pairs(signatures)
        if data.groups[pair.first] != data.groups[pair.second]
        and frozenset((pair.first, pair.second)) not in identical
    ]


def _lookalike_warnings(
    data: Dataset, signatures: Signatures, copies: Sequence[Sequence[int]]
) -> Iterator[str]:
    across = _pairs_across(data, signatures, copies)
    if across:
        named = first_three(
            f"{data.ids[p.first]} ~ {data.ids[p.second]}{' (mirrored)' if p.mirrored else ''}"
            for p in across
        )
        yield (
            f"near-identical {SUSPECTED_PAIRS}: {named}; look at them, and give them "
            "one patient_id if they show one patient"
        )


def _patients_of(data: Dataset, label: int) -> set[str]:
    return set(data.patients[data.labels == label].tolist())


def _class_errors(data: Dataset, outer_folds: int, inner_folds: int) -> Iterator[str]:
    for label, name in enumerate(data.classes):
        images = int((data.labels == label).sum())
        patients = len(_patients_of(data, label))
        if images <= 1:
            yield (
                f"class {name!r} has {images} image; a class needs images of at least "
                f"{outer_folds} patients: add some, or leave it out with --classes"
            )
        elif patients < outer_folds:
            # One patient of the class is tested; each inner fold needs one of the other patients,
            # and there must be two inner folds or more.
            fewer = f"--outer-folds {patients} --inner-folds {min(inner_folds, patients - 1)}"
            use = f"use {fewer}" if patients >= 3 else "find more patients"
            yield (
                f"class {name!r} has {patients} patients ({images} images) for {outer_folds} outer "
                f"folds, and every test fold needs one patient; {use}, or leave the class out with "
                "--classes"
            )


def _class_warnings(data: Dataset, outer_folds: int, inner_folds: int) -> Iterator[str]:
    need = outer_folds * inner_folds
    for label, name in enumerate(data.classes):
        patients = len(_patients_of(data, label))
        if outer_folds <= patients < need:
            yield (
                f"class {name!r} has {patients} patients for {outer_folds} outer x {inner_folds} "
                f"inner folds; below {need} patients its scores depend on very few patients a fold"
            )


def _patient_warnings(data: Dataset) -> Iterator[str]:
    if not data.patients_known:
        yield (
            "patients are not known: near-duplicate images were grouped instead, so it could not "
            "be verified that no patient is on both sides of a split; give --patient-regex or a "
            "patient_id column"
        )
    elif len(set(data.patients.tolist())) == len(data) > 1:
        yield (
            f"each of the {len(data)} images has a different patient; if patients have several "
            "images, patient_id is wrong and the results will be too good"
        )
    pairs = set(zip(data.patients.tolist(), data.labels.tolist(), strict=True))
    seen: dict[str, int] = defaultdict(int)
    for patient, _ in pairs:
        seen[patient] += 1
    mixed = sorted(patient for patient, count in seen.items() if count > 1)
    if mixed:
        yield (
            f"patients {first_three(mixed)} have images of more than one class; all images of a "
            "patient stay on one side of a split, so class shares differ a little between folds"
        )
