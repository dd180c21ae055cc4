"""Patients and images that each metric is based on, and the remarks to print beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.objectives.measures.metric import ClassColumn, Metric, Ranks, Scale
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.leave_out_record import LeaveOut


@dataclass(frozen=True)
class Support:
    """Patients and images that one estimate is based on.

    Attributes:
        scale: range of the metric, and the scale of its interval.
        patients, images: numbers that count, e.g. the positive ones for sensitivity.
        fewest: number of patients of the class that limits the estimate.
        who: that class in words, e.g. ``with 'cancer'``.
        probabilities: whether the metric scores probabilities, not only their order.
    """

    scale: Scale
    patients: int
    images: int
    fewest: int
    who: str
    probabilities: bool = False


def overall_support(rows: CodedRows, name: str) -> Support:
    """Support of an overall metric.

    The rarest class limits every overall metric, accuracy included, because the model and the
    threshold were learnt from it.
    """
    return metric_support(rows, METRICS[name])


def metric_support(rows: CodedRows, metric: Metric) -> Support:
    """Support of any metric of all classes, see ``overall_support``."""
    counts = [_distinct(rows, rows.labels == c) for c in range(len(rows.classes))]
    rarest = min(reversed(range(len(counts))), key=lambda c: counts[c][0])
    fewest, every = counts[rarest][0], (rows.patients, int(rows.image.max()) + 1)
    patients, images = {
        "all": every,
        "positive": counts[-1],
        "negative": counts[0],
        "rarest": (fewest, every[1]),
    }[metric.rows]
    scale, who = metric.scale_of(len(rows.classes)), f"with '{rows.classes[rarest]}'"
    return Support(scale, patients, images, fewest, who, metric.needs == "probabilities")


def class_support(rows: CodedRows, index: int, name: str) -> Support:
    """Support of a metric of class ``index`` against the rest."""
    column = METRICS[name].column or ClassColumn(0)
    own, rest = rows.labels == index, rows.labels != index
    inside, outside = _distinct(rows, own), _distinct(rows, rest)
    fewest, side = min((inside[0], "with"), (outside[0], "without"), key=lambda pair: pair[0])
    patients, images = {
        "inside": inside,
        "outside": outside,
        "predicted": _distinct(rows, rows.predicted == index),
        "rarer": (fewest, inside[1]),
    }[column.rows]
    return Support(column.scale, patients, images, fewest, f"{side} '{rows.classes[index]}'")


def remarks(
    rows: CodedRows, name: str, leave: LeaveOut, classes: tuple[int, ...]
) -> tuple[str, ...]:
    """Remarks on folds that are left out, on pooling, and on classes that are never predicted.

    Args:
        classes: indices of the classes that the metric covers.
    """
    found, metric = [], METRICS[name]
    if not leave.pooled:
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
    if isinstance(metric.how, Ranks) and leave.pooled:
        found.append(
            f"folds are pooled, because one has fewer than {metric.how.pool_below} patients with "
            "the class"
        )
    if metric.never_predicted:
        called = np.zeros((rows.repeats, len(rows.classes)), dtype=bool)
        called[rows.repeat, rows.predicted] = True
        never = [rows.classes[c] for c in classes if not called[:, c].all()]
        found += [f"'{one}' is never predicted: {metric.never_predicted}" for one in never]
    return tuple(found)


def _distinct(rows: CodedRows, at: np.ndarray) -> tuple[int, int]:
    """Numbers of distinct patients and images among the marked rows."""
    return len(np.unique(rows.patient[at])), len(np.unique(rows.image[at]))
