"""Choice of the outer test rows to explain, from the predictions alone.

They are the most confident right predictions, the most confident wrong ones, and the borderline
ones.
"""

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
    """One outer test row to explain.

    Attributes:
        kind: why it was chosen.
        id, patient: the image and its patient.
        fold: the outer fold that tested it.
        label, predicted: class indices; ``predicted`` is the decision of its fold.
        probabilities: (classes,) calibrated, from the fold's models, which did not train on it.
        threshold: threshold of that fold; None where the largest probability decides.
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
    """Choose at most ``count`` cases per class and kind, sorted by class, kind and rank.

    *Right* and *wrong* cases have the largest probability of their predicted class. *Borderline*
    cases are nearest to their fold's threshold or, for several classes, have the smallest gap
    between the two largest probabilities; they are none of the right or wrong cases. No kind shows
    a patient twice. Ties are sorted by image id.

    Args:
        rows: rows of one repeat, so that an image occurs once.
        thresholds: threshold by fold; None where the largest probability decides.
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
            at = _pick_rows(rows, np.flatnonzero(among & ~taken), key, count)
            taken[at] = True
            cases += [_make_case(rows, i, kind, thresholds) for i in at]  # type: ignore[arg-type]
    return cases


def by_kind(cases: list[Case], label: int) -> Iterator[tuple[Kind, list[Case]]]:
    """Yield each kind with its cases of one class; the list may be empty."""
    for kind in KINDS:
        yield kind, [case for case in cases if (case.label, case.kind) == (label, kind)]


def _margins(rows: Predictions, thresholds: Mapping[str, float | None]) -> FloatArray:
    cuts = [thresholds[str(fold)] for fold in rows.fold]
    if len(rows.classes) == 2 and None not in cuts:
        return np.abs(rows.probabilities[:, 1] - np.array(cuts, dtype=np.float64))
    largest = np.sort(rows.probabilities, axis=1)
    return np.asarray(largest[:, -1] - largest[:, -2], dtype=np.float64)


def _pick_rows(rows: Predictions, at: IntArray, key: FloatArray, count: int) -> list[int]:
    found: list[int] = []
    patients: set[str] = set()
    for i in at[np.lexsort((rows.ids[at], key[at]))].tolist():
        if len(found) < count and rows.patients[i] not in patients:
            found.append(i)
            patients.add(str(rows.patients[i]))
    return found


def _make_case(
    rows: Predictions, at: int, kind: Kind, thresholds: Mapping[str, float | None]
) -> Case:
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
