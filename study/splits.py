"""Patient-grouped stratified folds, validated: the only place where rows are cut.

scikit-learn's ``StratifiedGroupKFold`` keeps groups whole but can return folds that are empty or
lack a class when patients are few. So many seeds are tried, what comes back is checked, and the
best-balanced division is taken. Balance is counted in labels and sizes; no score is looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from outerfold.storage.records import (
    FINAL,
    DataError,
    Dataset,
    FloatArray,
    Fold,
    IntArray,
    OuterFold,
)
from outerfold.storage.seeds import derive

SEEDS_TRIED = 40
ENOUGH_PATIENTS = 8000
"""Patients divided, over all attempts, after which the best found so far is taken.

Few patients divide unevenly and need many attempts; thousands divide evenly at once, and an attempt
on them takes seconds.
"""


@dataclass(frozen=True)
class Splits:
    """Every division of a run.

    Attributes:
        outer: repeats x folds; each row is tested once a repeat.
        final: all rows, with inner folds and no test rows: the study of the shipped model.
        attempts: which of the tried seeds each division took, by name.
    """

    outer: tuple[OuterFold, ...]
    final: OuterFold
    attempts: dict[str, int]

    @property
    def studies(self) -> tuple[OuterFold, ...]:
        """The outer folds, then the final study."""
        return (*self.outer, self.final)


def split(data: Dataset, *, outer_folds: int, inner_folds: int, repeats: int, seed: int) -> Splits:
    """Cut outer folds from all rows and inner folds from each outer training side alone.

    Every class is in every test fold and every inner validation fold, every patient on one side.

    Raises:
        DataError: a class has too few patients; says which, and how many folds would work.
    """
    _enough_patients(data, outer_folds, inner_folds)
    attempts: dict[str, int] = {}
    outer = []
    for repeat in range(repeats):
        parts, attempts[f"repeat-{repeat}"] = partition(
            data, outer_folds, seed=derive(seed, "outer", repeat), what="outer"
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
    """One study of all rows whose inner folds are the outer folds that ``split`` cuts.

    What searches is what scores, as is usual practice: its scores are biased, and exist to be
    compared with those of ``split``.

    Raises:
        DataError: a class has too few patients.
    """
    parts, attempt = partition(data, folds, seed=derive(seed, "outer", 0), what="outer")
    inner = tuple(inner_fold(data, f"outer-{k}", part) for k, part in enumerate(parts))
    everyone = frozenset(data.patients.tolist())
    final = OuterFold(FINAL, 0, _names(data.ids), (), everyone, frozenset(), inner)
    return Splits((), final, {"repeat-0": attempt})


def partition(data: Dataset, folds: int, *, seed: int, what: str) -> tuple[list[IntArray], int]:
    """Row positions of each of ``folds`` parts, and which attempt found them.

    The attempt with the smallest imbalance wins, the first of equals: the largest difference, over
    folds and classes, between a class's share of the fold and of the data, plus the largest
    difference of a fold's size from its fair share.

    Raises:
        DataError: no attempt put every class into every part.
    """
    patients = len(set(data.patients.tolist()))
    best: tuple[float, int, list[IntArray]] | None = None
    for attempt in range(SEEDS_TRIED if _conceivable(data, folds) else 0):
        parts = _attempt(data, folds, derive(seed, attempt) % 2**32)
        imbalance = _imbalance(data, parts)
        if imbalance is not None and (best is None or imbalance < best[0]):
            best = imbalance, attempt, parts
        if best is not None and (attempt + 1) * patients >= ENOUGH_PATIENTS:
            break
    if best is None:
        raise DataError(
            f"{what} folds: no division of {patients} patients into "
            f"{folds} folds puts every class into every fold ({_patients_by_class(data)}); "
            f"ask for fewer --{what}-folds"
        )
    return best[2], best[1]


def patients_by_class(data: Dataset) -> dict[str, int]:
    """Number of patients with at least one image of each class."""
    return {
        name: len(set(data.patients[data.labels == c].tolist()))
        for c, name in enumerate(data.classes)
    }


def _patients_by_class(data: Dataset) -> str:
    counts = patients_by_class(data)
    return ", ".join(f"{name}: {count} patients" for name, count in counts.items())


def _conceivable(data: Dataset, folds: int) -> bool:
    """Whether there are as many patients, and as many images of each class, as folds."""
    images = np.bincount(data.labels, minlength=len(data.classes))
    return len(set(data.patients.tolist())) >= folds and int(images.min()) >= folds


class _QuickGroupKFold(StratifiedGroupKFold):  # type: ignore[misc]
    """The same folds as ``StratifiedGroupKFold``'s, all places of a patient weighed at once.

    scikit-learn takes 75 us for each of the tens of thousands of weighings of a small study; a test
    holds the folds to its own.
    """

    def _find_best_fold(
        self, y_counts_per_fold: FloatArray, y_cnt: IntArray, group_y_counts: FloatArray
    ) -> int:
        folds = len(y_counts_per_fold)
        each = np.arange(folds)
        placed = np.repeat(y_counts_per_fold[None], folds, axis=0)  # (place, folds, classes)
        placed[each, each] += group_y_counts
        uneven = (placed / y_cnt).std(axis=1).mean(axis=-1).tolist()
        sizes = y_counts_per_fold.sum(axis=1).tolist()
        best = 0
        for fold in range(1, folds):
            alike = abs(uneven[fold] - uneven[best]) <= 1e-8 + 1e-5 * uneven[best]  # np.isclose
            if uneven[fold] < uneven[best] or (alike and sizes[fold] < sizes[best]):
                best = fold
        return best


def _attempt(data: Dataset, folds: int, seed: int) -> list[IntArray]:
    splitter = _QuickGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of classes smaller than the folds; they are counted below instead.
        warnings.simplefilter("ignore", UserWarning)
        return [test for _, test in splitter.split(data.ids, data.labels, data.patients)]


def _imbalance(data: Dataset, parts: Sequence[IntArray]) -> float | None:
    classes = len(data.classes)
    counts = np.stack([np.bincount(data.labels[part], minlength=classes) for part in parts])
    if (counts == 0).any():
        return None
    sizes: FloatArray = counts.sum(axis=1).astype(np.float64)
    shares = counts / sizes[:, None]
    overall = counts.sum(axis=0) / sizes.sum()
    uneven = np.abs(sizes * len(parts) / sizes.sum() - 1).max()
    return float(np.abs(shares - overall).max() + uneven)


def _enough_patients(data: Dataset, outer_folds: int, inner_folds: int) -> None:
    counts = patients_by_class(data)
    name = min(counts, key=lambda each: counts[each])  # what suffices for it suffices for all
    count = counts[name]
    if _are_enough(count, outer_folds, inner_folds):
        return
    ways = [(k, j) for k, j in _fewer(outer_folds, inner_folds) if _are_enough(count, k, j)]
    advice = (
        f"--outer-folds {ways[0][0]} --inner-folds {ways[0][1]} would work"
        if ways
        else "no number of folds would work; merge it, leave it out with --classes, "
        "or find more patients"
    )
    raise DataError(
        f"class {name!r} has {count} patients, too few for {outer_folds} outer folds with "
        f"{inner_folds} inner folds each (every fold needs one of its own); {advice}"
    )


def _are_enough(patients: int, outer_folds: int, inner_folds: int) -> bool:
    left = patients - -(-patients // outer_folds)
    return patients >= outer_folds and left >= inner_folds


def _fewer(outer_folds: int, inner_folds: int) -> Iterator[tuple[int, int]]:
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
    parts, attempt = partition(side, inner_folds, seed=derive(seed, name, "inner"), what="inner")
    inner = tuple(inner_fold(side, f"inner-{j}", part) for j, part in enumerate(parts))
    fold = OuterFold(
        name,
        repeat,
        _names(data.ids[train]),
        _names(data.ids[test]),
        frozenset(data.patients[train].tolist()),
        frozenset(data.patients[test].tolist()),
        inner,
    )
    return fold, attempt


def inner_fold(side: Dataset, name: str, val: IntArray) -> Fold:
    """The rows of ``side`` at positions ``val`` against all its others."""
    fit = np.setdiff1d(np.arange(len(side)), val)
    return Fold(
        name,
        _names(side.ids[fit]),
        _names(side.ids[val]),
        frozenset(side.patients[fit].tolist()),
        frozenset(side.patients[val].tolist()),
    )


def _names(ids: np.ndarray[tuple[int], np.dtype[np.str_]]) -> tuple[str, ...]:
    return tuple(ids.tolist())
