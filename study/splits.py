"""Stratified folds grouped by patient; only this module divides rows into folds.

The algorithm keeps patients whole, but with few patients it can return folds that are empty or lack
a class. So several seeds are tried, each result is checked, and the
best-balanced division is taken. Balance is measured on labels and sizes, never on scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outerfold.storage.records import (
    FINAL,
    DataError,
    Dataset,
    FloatArray,
    Fold,
    IntArray,
    OuterFold,
    StrArray,
    TrainSide,
)
from outerfold.storage.seeds import derive_seed

SEEDS_TRIED = 40
ENOUGH_PATIENTS = 8000
"""Patients divided in all attempts together after which the best division so far is taken.

Few patients are hard to divide evenly and need many attempts. Thousands are divided evenly by the
first attempt, and an attempt on them takes seconds.
"""


@dataclass(frozen=True)
class Splits:
    """All folds of a run.

    Attributes:
        outer: outer folds of all repeats; each row is tested once in each repeat.
        final: study of all rows, with inner folds and no test rows; it makes the shipped model.
        attempts: number of the seed, from 0, that each division took, by name.
    """

    outer: tuple[OuterFold, ...]
    final: OuterFold
    attempts: dict[str, int]

    @property
    def studies(self) -> tuple[OuterFold, ...]:
        """All studies: the outer folds, then the final study."""
        return (*self.outer, self.final)


def split(data: Dataset, *, outer_folds: int, inner_folds: int, repeats: int, seed: int) -> Splits:
    """Divide all rows into outer folds, and the training rows of each into inner folds.

    Every test fold and every inner validation fold holds every class. All rows of a patient, and
    of a group of patients that may be one, are on one side of each fold.

    Args:
        data: n rows with labels and patients.
        outer_folds: number of outer folds in each repeat.
        inner_folds: number of inner folds of each study.
        repeats: number of repeats of the outer folds.
        seed: seed of the run.

    Raises:
        DataError: a class has too few patients; the message names the class and numbers of folds
            that would work.

    Example:
        >>> from outerfold.storage.records import Features
        >>> ids = np.array([f"{row:02}" for row in range(48)])
        >>> patients = np.array([f"P{row // 2:02}" for row in range(48)])  # two images a patient
        >>> rows = Features(ids, ids, np.zeros((48, 0)))
        >>> labels = np.arange(48) // 2 % 2
        >>> data = Dataset(rows, labels, patients, ("benign", "malignant"), "fingerprint")
        >>> folds = split(data, outer_folds=3, inner_folds=2, repeats=1, seed=0)
        >>> [(len(fold.train), len(fold.test)) for fold in folds.outer]
        [(32, 16), (32, 16), (32, 16)]
        >>> folds.outer[0].train_patients & folds.outer[0].test_patients
        frozenset()
    """
    _require_enough_patients(data, outer_folds, inner_folds)
    attempts: dict[str, int] = {}
    outer = []
    for repeat in range(repeats):
        parts, attempts[f"repeat-{repeat}"] = partition(
            data, outer_folds, seed=derive_seed(seed, "outer", repeat), what="outer"
        )
        for k, test in enumerate(parts):
            name = f"outer-{repeat * outer_folds + k}"
            train = np.setdiff1d(np.arange(len(data)), test)
            fold, attempts[name] = _outer_fold(data, name, repeat, train, test, inner_folds, seed)
            outer.append(fold)
    everything, nothing = np.arange(len(data)), np.array([], dtype=np.int64)
    final, attempts[FINAL] = _outer_fold(data, FINAL, 0, everything, nothing, inner_folds, seed)
    return Splits(tuple(outer), final, attempts)


def split_flat(data: Dataset, *, folds: int, seed: int) -> Splits:
    """One study of all rows whose inner folds are the outer folds that ``split`` makes.

    The same folds choose the configuration and score it, as in common practice. These scores are
    biased; they serve for comparison with those of ``split``.

    Raises:
        DataError: a class has too few patients.
    """
    parts, attempt = partition(data, folds, seed=derive_seed(seed, "outer", 0), what="outer")
    inner = tuple(inner_fold(data, f"outer-{k}", part) for k, part in enumerate(parts))
    everyone = frozenset(data.groups.tolist())
    final = OuterFold(FINAL, 0, _to_ids(data.ids), (), everyone, frozenset(), inner)
    return Splits((), final, {"repeat-0": attempt})


def divide_again(side: TrainSide, fold: OuterFold, seed: int) -> tuple[Fold, ...]:
    """Second division of a study's training rows, into as many folds as its inner folds are.

    Networks that train on it give every training row a second score by a network that has not seen
    the row. Nothing is searched on it.

    Args:
        side: training side of ``fold``.
        fold: the study.
        seed: seed of the run.

    Raises:
        DataError: a class has too few patients.
    """
    parts, _ = partition(
        side, len(fold.inner), seed=derive_seed(seed, fold.name, "second"), what="inner"
    )
    return tuple(inner_fold(side, f"second-{j}", part) for j, part in enumerate(parts))


def partition(data: Dataset, folds: int, *, seed: int, what: str) -> tuple[list[IntArray], int]:
    """Row positions of each of ``folds`` parts, and the number of the attempt that found them.

    The attempt with the smallest imbalance is taken, the first of equal ones. Imbalance is the
    sum of two numbers: the largest difference between a class's share of a part and of the data,
    and the largest relative difference of a part's size from the mean size.

    Args:
        data: n rows with labels and patients.
        folds: number of parts.
        seed: seed of all attempts.
        what: ``outer`` or ``inner``, for the message.

    Raises:
        DataError: no attempt put every class into every part.
    """
    patients = len(set(data.groups.tolist()))
    best: tuple[float, int, list[IntArray]] | None = None
    for attempt in range(SEEDS_TRIED if _may_be_possible(data, folds) else 0):
        parts = group_folds(data.labels, data.groups, folds, derive_seed(seed, attempt) % 2**32)
        imbalance = _imbalance(data, parts)
        if imbalance is not None and (best is None or imbalance < best[0]):
            best = imbalance, attempt, parts
        if best is not None and (attempt + 1) * patients >= ENOUGH_PATIENTS:
            break
    if best is None:
        raise DataError(
            f"{what} folds: no division of {patients} patients into "
            f"{folds} folds puts every class into every fold ({_describe_classes(data)}); "
            f"ask for fewer --{what}-folds"
        )
    return best[2], best[1]


def patients_by_class(data: Dataset) -> dict[str, int]:
    """Number of patients with at least one image of each class."""
    return {
        name: len(set(data.patients[data.labels == c].tolist()))
        for c, name in enumerate(data.classes)
    }


def _groups_by_class(data: Dataset) -> dict[str, int]:
    return patients_by_class(replace(data, patients=data.groups))


def _describe_classes(data: Dataset) -> str:
    counts = _groups_by_class(data)
    return ", ".join(f"{name}: {count} patients" for name, count in counts.items())


def _may_be_possible(data: Dataset, folds: int) -> bool:
    """Whether there are as many patients, and as many images of each class, as folds."""
    images = np.bincount(data.labels, minlength=len(data.classes))
    return len(set(data.groups.tolist())) >= folds and int(images.min()) >= folds


def group_folds(labels: IntArray, patients: StrArray, folds: int, seed: int) -> list[IntArray]:
    """Row positions of each fold: every patient in one fold, classes spread evenly over the folds.

    The patients are shuffled, and those with the most uneven classes come first. Each goes to the
    fold where it makes the classes' shares most even; of equal folds the one with fewest images
    takes it. The folds are those of scikit-learn's ``StratifiedGroupKFold(shuffle=True)``, which
    compares one fold at a time (75 us, tens of thousands of times in a small study); here all
    folds are compared at once.

    Args:
        labels: (n,) class indices.
        patients: (n,) patient names.

    Reference: scikit-learn's implementation, after "Stratified Group k-Fold Cross-Validation" by
    J. Wasikowski; a test compares the folds.
    """
    _, classes, images_by_class = np.unique(labels, return_inverse=True, return_counts=True)
    _, patient = np.unique(patients, return_inverse=True)
    order = np.arange(patient.max() + 1)
    np.random.RandomState(seed).shuffle(order)  # the generator that scikit-learn uses
    counts = np.zeros((len(order), len(images_by_class)))  # (patients, classes), shuffled
    np.add.at(counts, (np.argsort(order)[patient], classes), 1)
    placed = np.zeros((folds, len(images_by_class)))
    fold_of = np.empty(len(order), dtype=np.int64)
    for at in np.argsort(-np.std(counts, axis=1), kind="stable"):
        fold = _most_even_fold(placed, counts[at], images_by_class)
        placed[fold] += counts[at]
        fold_of[order[at]] = fold
    return [np.flatnonzero(fold_of[patient] == fold) for fold in range(folds)]


def _most_even_fold(placed: FloatArray, added: FloatArray, images_by_class: IntArray) -> int:
    """Fold that a patient joins.

    Args:
        placed: (folds, classes) images in each fold so far.
        added: (classes,) images of the patient.
        images_by_class: (classes,) images in all.
    """
    folds = len(placed)
    each = np.arange(folds)
    # (chosen fold, folds, classes): images of each class if the patient joins the chosen fold.
    joined = np.repeat(placed[None], folds, axis=0)
    joined[each, each] += added
    uneven = (joined / images_by_class).std(axis=1).mean(axis=-1).tolist()
    sizes = placed.sum(axis=1).tolist()
    best = 0
    for fold in range(1, folds):
        alike = abs(uneven[fold] - uneven[best]) <= 1e-8 + 1e-5 * uneven[best]  # np.isclose
        if uneven[fold] < uneven[best] or (alike and sizes[fold] < sizes[best]):
            best = fold
    return best


def _imbalance(data: Dataset, parts: Sequence[IntArray]) -> float | None:
    """Imbalance of a division, see ``partition``; None if a part lacks a class."""
    classes = len(data.classes)
    counts = np.stack([np.bincount(data.labels[part], minlength=classes) for part in parts])
    if (counts == 0).any():
        return None
    sizes: FloatArray = counts.sum(axis=1).astype(np.float64)
    shares = counts / sizes[:, None]
    overall = counts.sum(axis=0) / sizes.sum()
    uneven = np.abs(sizes * len(parts) / sizes.sum() - 1).max()
    return float(np.abs(shares - overall).max() + uneven)


def _require_enough_patients(data: Dataset, outer_folds: int, inner_folds: int) -> None:
    counts = _groups_by_class(data)
    name = min(counts, key=lambda each: counts[each])  # the rarest class decides for all
    count = counts[name]
    if _are_enough(count, outer_folds, inner_folds):
        return
    ways = [(k, j) for k, j in _fewer_folds(outer_folds, inner_folds) if _are_enough(count, k, j)]
    advice = (
        f"--outer-folds {ways[0][0]} --inner-folds {ways[0][1]} would work"
        if ways
        else "no number of folds would work; merge the class with another, leave it out with "
        "--classes, or find more patients"
    )
    raise DataError(
        f"class {name!r} has {count} patients, too few for {outer_folds} outer folds with "
        f"{inner_folds} inner folds each (every fold needs a different patient); {advice}"
    )


def _are_enough(patients: int, outer_folds: int, inner_folds: int) -> bool:
    left = patients - -(-patients // outer_folds)  # without the patients of the largest test fold
    return patients >= outer_folds and left >= inner_folds


def _fewer_folds(outer_folds: int, inner_folds: int) -> Iterator[tuple[int, int]]:
    """Pairs of numbers of outer and inner folds up to those given, most folds first."""
    pairs = [(k, j) for k in range(2, outer_folds + 1) for j in range(2, inner_folds + 1)]
    yield from sorted(pairs, key=lambda pair: (-sum(pair), -pair[0]))


def _outer_fold(
    data: Dataset,
    name: str,
    repeat: int,
    train: IntArray,
    test: IntArray,
    inner_folds: int,
    seed: int,
) -> tuple[OuterFold, int]:
    side = data.select(data.ids[train].tolist())
    parts, attempt = partition(
        side, inner_folds, seed=derive_seed(seed, name, "inner"), what="inner"
    )
    inner = tuple(inner_fold(side, f"inner-{j}", part) for j, part in enumerate(parts))
    fold = OuterFold(
        name,
        repeat,
        _to_ids(data.ids[train]),
        _to_ids(data.ids[test]),
        frozenset(data.groups[train].tolist()),
        frozenset(data.groups[test].tolist()),
        inner,
    )
    return fold, attempt


def inner_fold(side: Dataset, name: str, val: IntArray) -> Fold:
    """Inner fold whose validation rows are those of ``side`` at positions ``val``.

    All other rows of ``side`` are fit rows.
    """
    fit = np.setdiff1d(np.arange(len(side)), val)
    return Fold(
        name,
        _to_ids(side.ids[fit]),
        _to_ids(side.ids[val]),
        frozenset(side.groups[fit].tolist()),
        frozenset(side.groups[val].tolist()),
    )


def _to_ids(ids: np.ndarray[tuple[int], np.dtype[np.str_]]) -> tuple[str, ...]:
    return tuple(ids.tolist())
