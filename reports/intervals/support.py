"""Which patients and images each metric rests on, and what must be said beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.leave_one_out import POOL_BELOW, LeaveOut

Scale = Literal["wilson", "logit", "linear"]
OVERALL_SCALE: dict[str, Scale] = {
    "accuracy": "wilson",
    "sensitivity": "wilson",
    "specificity": "wilson",
    "ece": "linear",
}
CLASS_SCALE: dict[str, Scale] = {"recall": "wilson", "specificity": "wilson"}


@dataclass(frozen=True)
class Support:
    """What one estimate rests on.

    Attributes:
        scale: ``wilson`` for a share of images, ``logit`` for another number between 0 and
            ``upper``, ``linear`` for one that is not bound to it.
        patients, images: those that count, e.g. the positive ones for sensitivity.
        fewest: patients of the class that limits the estimate.
        who: that class in words, e.g. ``with 'cancer'``.
        upper: largest value the metric can take.
    """

    scale: Scale
    patients: int
    images: int
    fewest: int
    who: str
    upper: float = 1.0


def overall_basis(rows: CodedRows, name: str) -> Support:
    """Of a metric of all classes.

    The rarest class limits each of them, accuracy too: model and threshold were learnt from it.
    """
    counts = [_distinct(rows, rows.labels == c) for c in range(len(rows.classes))]
    rarest = min(reversed(range(len(counts))), key=lambda c: counts[c][0])
    fewest, every = counts[rarest][0], (rows.patients, int(rows.image.max()) + 1)
    patients, images = {
        "accuracy": every,
        "brier": every,
        "ece": every,
        "sensitivity": counts[-1],
        "specificity": counts[0],
    }.get(name, (fewest, every[1]))
    scale, who = OVERALL_SCALE.get(name, "logit"), f"with '{rows.classes[rarest]}'"
    return Support(scale, patients, images, fewest, who, upper(rows, name))


def class_basis(rows: CodedRows, index: int, name: str) -> Support:
    """Of a metric of one class against the rest."""
    own, rest = rows.labels == index, rows.labels != index
    inside, outside = _distinct(rows, own), _distinct(rows, rest)
    fewest, side = min((inside[0], "with"), (outside[0], "without"), key=lambda pair: pair[0])
    patients, images = {
        "recall": inside,
        "specificity": outside,
        "precision": _distinct(rows, rows.predicted == index),
    }.get(name, (fewest, inside[1]))
    scale, who = CLASS_SCALE.get(name, "logit"), f"{side} '{rows.classes[index]}'"
    return Support(scale, patients, images, fewest, who)


def upper(rows: CodedRows, name: str) -> float:
    """Largest value: 2 for the Brier score of several classes, else 1."""
    return 2.0 if name == "brier" and not rows.two else 1.0


def remarks(
    rows: CodedRows, name: str, leave: LeaveOut, classes: tuple[int, ...]
) -> tuple[str, ...]:
    """Sentences on folds that drop out, pooling, and classes never predicted."""
    found = []
    if name in ("roc_auc", "average_precision") and not leave.pooled:
        gone = [
            fold
            for fold, value in zip(rows.fold_names, leave.by_fold, strict=True)
            if not np.isfinite(value)
        ]
        if gone:
            found.append(f"{', '.join(gone)} lacks a class and drops out of the mean over folds")
    if name == "average_precision" and leave.pooled:
        found.append(f"folds pooled: one has fewer than {POOL_BELOW} patients with the class")
    if name == "precision":
        called = np.zeros((rows.repeats, len(rows.classes)), dtype=bool)
        called[rows.repeat, rows.predicted] = True
        never = [rows.classes[c] for c in classes if not called[:, c].all()]
        found += [f"'{one}' is never predicted: its precision counts as 0" for one in never]
    return tuple(found)


def _distinct(rows: CodedRows, at: np.ndarray) -> tuple[int, int]:
    """Patients and images among the rows marked."""
    return len(np.unique(rows.patient[at])), len(np.unique(rows.image[at]))
