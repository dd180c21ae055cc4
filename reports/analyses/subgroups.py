"""ROC-AUC within subgroups of rows, and how much subgroups differ.

A subgroup has few patients in a fold, so a mean over folds is unstable or undefined there. Instead
all (positive, negative) pairs of the subgroup within one fold are counted, and the share of those
in the right order, over all folds, is the ROC-AUC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from outerfold.objectives.measures.metric import UNIT
from outerfold.objectives.measures.rank_leave_one_out import auc_without
from outerfold.reports.analyses.measure import LEVEL
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import (
    FEWEST,
    STRETCH_TUNED,
    ConfidenceInterval,
    jackknife_error,
    jackknife_interval,
    t_quantile,
)
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import Support
from outerfold.storage.records import BoolArray, FloatArray, Predictions, StrArray


@dataclass(frozen=True)
class Subgroup:
    """One subgroup of the rows of two classes.

    Attributes:
        name: its value of the column, or its range.
        patients, rows: how many it has.
        positives: number of its positive rows.
        roc_auc: from the pairs within folds.
        difference: its ROC-AUC minus that of the first subgroup; None for the first.
    """

    name: str
    patients: int
    rows: int
    positives: int
    roc_auc: ConfidenceInterval
    difference: ConfidenceInterval | None


def subgroups(predictions: Predictions, values: StrArray, names: Sequence[str]) -> list[Subgroup]:
    """Subgroups of rows in this order; a row of another value, such as a missing one, is in none.

    Args:
        predictions: outer test rows of two classes.
        values: (n,) value of each row.
        names: values that are subgroups.
    """
    rows = code_rows(predictions)
    first = _pair_leave_out(rows, values == names[0]) if names else None
    found = []
    for name in names:
        at = values == name
        leave = _pair_leave_out(rows, at)
        other = None if first is None or name == names[0] else _difference(rows, leave, first)
        own = np.unique(rows.patient[at])
        found.append(
            Subgroup(
                name,
                len(own),
                int(at.sum()),
                int((rows.labels[at] == 1).sum()),
                _own_interval(rows, leave, at),
                other,
            )
        )
    return found


def _pair_leave_out(rows: CodedRows, at: BoolArray) -> LeaveOut:
    """ROC-AUC from the pairs of marked rows within folds; without a patient not in it, unchanged.

    ``without`` is NaN for patients that have no marked row.
    """
    won, pairs = np.zeros(rows.patients), np.zeros(rows.patients)
    total_won = total = 0.0
    for wins, count, own_wins, own_pairs, who in _folds(rows, at):
        total_won, total = total_won + wins, total + count
        won[who] += own_wins
        pairs[who] += own_pairs
    left = np.maximum(total - pairs, 1)
    without = np.where(total - pairs > 0, (total_won - won) / left, np.nan)
    inside = np.zeros(rows.patients, dtype=bool)
    inside[rows.patient[at]] = True
    estimate = total_won / total if total else float("nan")
    return LeaveOut(estimate, np.where(inside, without, np.nan), np.zeros(0), True)


def _folds(
    rows: CodedRows, marked: BoolArray
) -> Iterator[tuple[float, float, FloatArray, FloatArray, np.ndarray]]:
    """For each fold: wins, pairs, and those that each of its patients takes part in."""
    for fold in range(len(rows.fold_names)):
        at = np.flatnonzero(marked & (rows.fold == fold))
        if not len(at) or len(np.unique(rows.labels[at] == 1)) < 2:
            continue
        who, local = np.unique(rows.patient[at], return_inverse=True)
        positive = rows.labels[at] == 1
        whole, without = auc_without(positive, rows.probabilities[at, 1], local, len(who))
        up, down = np.bincount(local, positive), np.bincount(local, ~positive)
        pairs, left = up.sum() * down.sum(), (up.sum() - up) * (down.sum() - down)
        kept = np.where(left > 0, without, 0.0) * left
        yield whole * pairs, float(pairs), whole * pairs - kept, pairs - left, who


def _own_interval(rows: CodedRows, leave: LeaveOut, at: BoolArray) -> ConfidenceInterval:
    inside = np.isin(np.arange(rows.patients), rows.patient[at])
    own = LeaveOut(leave.estimate, leave.without[inside], leave.by_fold, True)
    fewest, who = min(
        (len(np.unique(rows.patient[at & (rows.labels == c)])), f"with '{rows.classes[c]}'")
        for c in (0, 1)
    )
    images = len(np.unique(rows.image[at]))
    support = Support(UNIT, int(inside.sum()), images, fewest, who)
    return jackknife_interval(own, support, tuned=True, level=LEVEL)


def _difference(rows: CodedRows, one: LeaveOut, first: LeaveOut) -> ConfidenceInterval:
    """Difference of two subgroups; a patient that has rows in both is left out of both."""
    estimate = one.estimate - first.estimate
    inside = np.isfinite(one.without) | np.isfinite(first.without)
    without = [
        np.where(np.isfinite(each.without), each.without, each.estimate)[inside]
        for each in (one, first)
    ]
    method = f"patient jackknife, linear, standard error × {STRETCH_TUNED:g}"
    error, df = jackknife_error(without[0] - without[1]) if inside.sum() > 1 else (0.0, 1.0)
    few = min(np.isfinite(one.without).sum(), np.isfinite(first.without).sum())
    if not np.isfinite(estimate) or few < FEWEST or error == 0:
        reason = "a subgroup has too few patients of a class"
        return ConfidenceInterval(estimate, None, None, LEVEL, method, (), reason)
    half = t_quantile(df, LEVEL) * STRETCH_TUNED * error
    low, high = max(-1.0, estimate - half), min(1.0, estimate + half)
    return ConfidenceInterval(estimate, low, high, LEVEL, method, ())
