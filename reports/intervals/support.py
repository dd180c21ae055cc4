"""Patients and images that each metric is based on, and the remarks to print beside it."""

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
    """Patients and images that one estimate is based on.

    Attributes:
        scale: ``wilson`` for a proportion of images, ``logit`` for another number between 0 and
            ``upper``, ``linear`` for a number that may leave this range.
        patients, images: numbers that count, e.g. the positive ones for sensitivity.
        fewest: number of patients of the class that limits the estimate.
        who: that class in words, e.g. ``with 'cancer'``.
        upper: largest value of the metric.
        probabilities: whether the metric scores probabilities, not only their order.
    """

    scale: Scale
    patients: int
    images: int
    fewest: int
    who: str
    upper: float = 1.0
    probabilities: bool = False


def overall_support(rows: CodedRows, name: str) -> Support:
    """Support of an overall metric.

    The rarest class limits every overall metric, accuracy included, because the model and the
    threshold were learnt from it.
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
    upper, scored = largest_value(rows, name), name in ("brier", "ece")
    return Support(scale, patients, images, fewest, who, upper, scored)


def class_support(rows: CodedRows, index: int, name: str) -> Support:
    """Support of a metric of class ``index`` against the rest."""
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


def largest_value(rows: CodedRows, name: str) -> float:
    """Largest value of a metric: 2 for the Brier score of several classes, else 1."""
    return 2.0 if name == "brier" and not rows.two else 1.0


def remarks(
    rows: CodedRows, name: str, leave: LeaveOut, classes: tuple[int, ...]
) -> tuple[str, ...]:
    """Remarks on folds that are left out, on pooling, and on classes that are never predicted.

    Args:
        classes: indices of the classes that the metric covers.
    """
    found = []
    if name in ("roc_auc", "average_precision") and not leave.pooled:
        gone = [
            fold
            for fold, value in zip(rows.fold_names, leave.by_fold, strict=True)
            if not np.isfinite(value)
        ]
        if gone:
            found.append(
                f"{', '.join(gone)} lack{'s' if len(gone) == 1 else ''} a class and "
                f"{'is' if len(gone) == 1 else 'are'} left out of the mean over folds"
            )
    if name == "average_precision" and leave.pooled:
        found.append(
            f"folds are pooled, because one has fewer than {POOL_BELOW} patients with the class"
        )
    if name == "precision":
        called = np.zeros((rows.repeats, len(rows.classes)), dtype=bool)
        called[rows.repeat, rows.predicted] = True
        never = [rows.classes[c] for c in classes if not called[:, c].all()]
        found += [f"'{one}' is never predicted: its precision counts as 0" for one in never]
    return tuple(found)


def _distinct(rows: CodedRows, at: np.ndarray) -> tuple[int, int]:
    """Numbers of distinct patients and images among the marked rows."""
    return len(np.unique(rows.patient[at])), len(np.unique(rows.image[at]))
