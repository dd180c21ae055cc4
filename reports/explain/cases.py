"""Which outer test rows are looked at: the surest that are right, the surest that are wrong, the
closest calls; read off the predictions alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.storage.records import FloatArray, IntArray, Predictions

Kind = Literal["right", "wrong", "borderline"]
KINDS: tuple[Kind, ...] = ("right", "wrong", "borderline")


@dataclass(frozen=True)
class Case:
    """One outer test row.

    Attributes:
        kind: why it was chosen.
        label, predicted: class indices; ``predicted`` is what its fold decided.
        probabilities: (classes,) of the fold that did not train on it, calibrated.
        threshold: of that fold, where there are two classes.
    """

    kind: Kind
    id: str
    patient: str
    fold: str
    label: int
    predicted: int
    probabilities: tuple[float, ...]
    threshold: float | None


def choose_cases(
    rows: Predictions, thresholds: Mapping[str, float | None], count: int
) -> list[Case]:
    """At most ``count`` cases a class and kind, by class, kind and rank.

    *Right* and *wrong* have the largest probability of the class they were called. *Borderline*
    are nearest to their fold's threshold or, of several classes, have the smallest gap between
    the two largest probabilities; none is shown before as right or wrong. No kind shows a patient
    twice. Equals come in order of their ids.

    Args:
        rows: of one repeat, so that an image occurs once.
        thresholds: of each fold; None where the largest probability decides.
    """
    called = rows.probabilities[np.arange(len(rows)), rows.predicted]
    margin = _margins(rows, thresholds)
    cases = []
    for label in range(len(rows.classes)):
        own = rows.labels == label
        right, wrong = own & (rows.predicted == label), own & (rows.predicted != label)
        taken = np.zeros(len(rows), dtype=bool)
        for kind, among, key in (
            ("right", right, -called),
            ("wrong", wrong, -called),
            ("borderline", own, margin),
        ):
            at = _first(rows, np.flatnonzero(among & ~taken), key, count)
            taken[at] = True
            cases += [_case(rows, i, kind, thresholds) for i in at]  # type: ignore[arg-type]
    return cases


def by_kind(cases: list[Case], label: int) -> Iterator[tuple[Kind, list[Case]]]:
    """The cases of one class, kind by kind; an empty list where there are none."""
    for kind in KINDS:
        yield kind, [case for case in cases if (case.label, case.kind) == (label, kind)]


def _margins(rows: Predictions, thresholds: Mapping[str, float | None]) -> FloatArray:
    cuts = [thresholds[str(fold)] for fold in rows.fold]
    if len(rows.classes) == 2 and None not in cuts:
        return np.abs(rows.probabilities[:, 1] - np.array(cuts, dtype=np.float64))
    largest = np.sort(rows.probabilities, axis=1)
    return np.asarray(largest[:, -1] - largest[:, -2], dtype=np.float64)


def _first(rows: Predictions, at: IntArray, key: FloatArray, count: int) -> list[int]:
    found: list[int] = []
    patients: set[str] = set()
    for i in at[np.lexsort((rows.ids[at], key[at]))].tolist():
        if len(found) < count and rows.patients[i] not in patients:
            found.append(i)
            patients.add(str(rows.patients[i]))
    return found


def _case(rows: Predictions, at: int, kind: Kind, thresholds: Mapping[str, float | None]) -> Case:
    fold = str(rows.fold[at])
    return Case(
        kind,
        str(rows.ids[at]),
        str(rows.patients[at]),
        fold,
        int(rows.labels[at]),
        int(rows.predicted[at]),
        tuple(float(p) for p in rows.probabilities[at]),
        thresholds[fold],
    )
