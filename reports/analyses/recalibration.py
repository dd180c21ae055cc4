"""Calibration of outer test rows of two classes, over all folds together.

A mean of the folds' slopes is ruled by one small fold, so the slope is that of one logistic model
of all rows, with an intercept for each fold. The intercepts show whether the probabilities of a
fold are too high or too low.

References: Cox (1958), Biometrika 45; Van Calster et al. (2019), BMC Medicine 17, 230; Steyerberg
et al. (2010), Epidemiology 21, for the scaled Brier score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from outerfold.objectives.measures.metric import POSITIVE, REAL, Metric, Sums
from outerfold.reports.analyses.calibration_slope import SEPARATED, TINY
from outerfold.reports.analyses.measure import LEVEL, measure, ratio
from outerfold.reports.intervals.bootstrap import CELLS
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of, jackknife_interval
from outerfold.reports.intervals.leave_out_record import LeaveOut, mean_over_folds
from outerfold.reports.intervals.support import metric_support
from outerfold.reports.intervals.variation import Variation
from outerfold.storage.records import BoolArray, FloatArray, IntArray, Predictions

_STEPS = 100
_LONGEST = 2.0  # step of Newton's method
_CLOSE = 1e-8
_STEPS_WITHOUT = 3
"""Steps from the solution of all rows to that without a patient. One leaves the standard error of
80 patients 6 % too small."""
MANY = 1000
"""Patients from which on one step is taken: the standard error is then 0.5 % too small at most,
and the steps that follow need every row for every patient."""


@dataclass(frozen=True)
class Recalibration:
    """Calibration over all folds, each number with its interval over patients.

    Attributes:
        slope: of one logistic model with an intercept for each fold; 1 is ideal.
        intercept: mean over folds of the intercept where the slope is 1; 0 is ideal, and above 0
            the probabilities are too low. Its ``by_fold`` has each fold's.
        ratio: observed divided by expected positives, O/E; 1 is ideal.
        scaled_brier: 1 - Brier score / (prevalence (1 - prevalence)); 1 is perfect, and 0 or less
            is no better than stating the prevalence.
        folds: names of the folds, in the order of ``by_fold``.
    """

    slope: ConfidenceInterval
    intercept: ConfidenceInterval
    ratio: ConfidenceInterval
    scaled_brier: ConfidenceInterval
    folds: tuple[str, ...]


def recalibration(predictions: Predictions, variation: Variation, of: Of) -> Recalibration:
    """Calibration of outer test rows of two classes.

    Args:
        predictions: outer test rows.
        variation: predictions by the models of inner folds, by outer fold.
        of: what the intervals are of.
    """
    rows = code_rows(predictions)
    odds = logit(np.clip(rows.probabilities[:, 1], TINY, 1 - TINY))
    found = measure(predictions, (_RATIO, _SCALED), variation, of)
    return Recalibration(
        _interval(rows, slope_leave_out(rows, odds), of, SEPARATED),
        _interval(rows, intercept_leave_out(rows, odds), of, "a fold lacks a class"),
        found[_RATIO.name],
        found[_SCALED.name],
        rows.fold_names,
    )


def slope_leave_out(rows: CodedRows, odds: FloatArray) -> LeaveOut:
    """Slope of one logistic model with an intercept a fold, and without each patient.

    NaN where the classes are separated in every fold.

    Args:
        rows: rows of two classes.
        odds: (n,) log-odds of their probabilities.
    """
    nothing = LeaveOut(float("nan"), np.full(rows.patients, np.nan), np.zeros(0), True)
    table = _mixed_table(rows, odds)
    if table is None:
        return nothing
    slope, shift = table.fit()
    if not np.isfinite(slope):
        return nothing
    return LeaveOut(slope, table.without(rows.patients, slope, shift), np.zeros(0), True)


def common_slope(predictions: Predictions) -> float:
    """Slope of one logistic model with an intercept a fold; NaN where there is none.

    Args:
        predictions: outer test rows of two classes.
    """
    rows = code_rows(predictions)
    table = _mixed_table(rows, logit(np.clip(rows.probabilities[:, 1], TINY, 1 - TINY)))
    return float("nan") if table is None else table.fit()[0]


def _mixed_table(rows: CodedRows, odds: FloatArray) -> _Table | None:
    """Rows of the folds with both classes; None without any, or where the classes are separated."""
    kept = _mixed_folds(rows)[rows.fold]
    if not kept.any() or _separated(rows, odds):
        return None
    return _Table.of(rows, odds, kept)


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows sorted by fold, for logistic models with one slope and an intercept a fold.

    Attributes:
        odds, positive: (n,) log-odds and labels.
        patient, fold: (n,) codes; those of folds have no gap.
        starts: (folds,) first row of each fold.
    """

    odds: FloatArray
    positive: FloatArray
    patient: IntArray
    fold: IntArray
    starts: IntArray

    @classmethod
    def of(cls, rows: CodedRows, odds: FloatArray, kept: BoolArray) -> _Table:
        at = np.flatnonzero(kept)
        at = at[np.argsort(rows.fold[at], kind="stable")]
        _, starts, fold = np.unique(rows.fold[at], return_index=True, return_inverse=True)
        return cls(odds[at], rows.labels[at].astype(np.float64), rows.patient[at], fold, starts)

    def fit(self) -> tuple[float, FloatArray]:
        """Slope, NaN where none is found, and intercepts (folds,), by Newton's method."""
        slope, shift = np.ones(1), np.zeros((1, len(self.starts)))
        everyone = np.ones((1, len(self.odds)))
        for _ in range(_STEPS):
            step, move = self._newton(slope, shift, everyone)
            longest = max(float(np.abs(step).max()), float(np.abs(move).max()), TINY)
            short = min(1.0, _LONGEST / longest)
            slope, shift = slope + short * step, shift + short * move
            if longest < _CLOSE:
                return float(slope[0]), shift[0]
        return float("nan"), shift[0]

    def without(self, patients: int, slope: float, shift: FloatArray) -> FloatArray:
        """Slope (patients,) without each patient, by steps from the solution of all rows."""
        if patients >= MANY:
            return self.after_one_step(patients, slope, shift)
        found = np.full(patients, slope)
        size = max(1, CELLS // max(len(self.odds), 1))
        for start in range(0, patients, size):
            left = np.arange(start, min(start + size, patients))
            others = (self.patient != left[:, None]).astype(np.float64)
            shifts = np.tile(shift, (len(left), 1))
            for _ in range(_STEPS_WITHOUT):
                step, move = self._newton(found[left], shifts, others)
                found[left] += np.clip(step, -_LONGEST, _LONGEST)
                shifts = shifts + np.clip(move, -_LONGEST, _LONGEST)
        return found

    def after_one_step(self, patients: int, slope: float, shift: FloatArray) -> FloatArray:
        """Slope (patients,) without each patient, one step from the solution of all rows."""
        folds = len(self.starts)
        p = expit(slope * self.odds + shift[self.fold])
        weight, gap = p * (1 - p), self.positive - p
        key = self.patient * folds + self.fold
        w, wz, wzz, own, along = (
            table.sum(0) - table
            for table in (
                np.bincount(key, terms, patients * folds).reshape(patients, folds)
                for terms in (
                    weight,
                    weight * self.odds,
                    weight * self.odds**2,
                    gap,
                    gap * self.odds,
                )
            )
        )
        mean = wz / np.maximum(w, TINY)
        curve = (wzz - mean * wz).sum(1)
        step = (along - mean * own).sum(1) / np.maximum(curve, TINY)
        return np.asarray(slope + np.clip(step, -_LONGEST, _LONGEST))

    def _newton(
        self, slope: FloatArray, shift: FloatArray, counted: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Newton's step of m models: of the slopes (m,) and of the intercepts (m, folds).

        Args:
            slope: (m,) present slopes.
            shift: (m, folds) present intercepts.
            counted: (m, n) 1 for rows that a model sees, else 0.
        """
        p = expit(slope[:, None] * self.odds + shift[:, self.fold])
        weight, gap = counted * p * (1 - p), counted * (self.positive - p)
        w, wz, own = (
            np.add.reduceat(terms, self.starts, axis=1)
            for terms in (weight, weight * self.odds, gap)
        )
        mean = wz / np.maximum(w, TINY)
        curve = weight @ self.odds**2 - (mean * wz).sum(1)
        step = (gap @ self.odds - (mean * own).sum(1)) / np.maximum(curve, TINY)
        return step, own / np.maximum(w, TINY) - mean * step[:, None]


def intercept_leave_out(rows: CodedRows, odds: FloatArray) -> LeaveOut:
    """Mean over folds of the intercept with slope 1, and without each patient.

    Args:
        rows: rows of two classes.
        odds: (n,) log-odds of their probabilities.
    """
    folds, positive = len(rows.fold_names), rows.labels.astype(np.float64)
    shift = np.zeros(folds)
    for _ in range(_STEPS):
        p = expit(odds + shift[rows.fold])
        own, w = (np.bincount(rows.fold, terms, folds) for terms in (positive - p, p * (1 - p)))
        step = np.clip(own / np.maximum(w, TINY), -_LONGEST, _LONGEST)
        shift = shift + step
        if np.abs(step[_mixed_folds(rows)]).max(initial=0.0) < TINY:
            break
    shift = np.where(_mixed_folds(rows), shift, np.nan)
    key, size = rows.patient * folds + rows.fold, rows.patients * folds
    gaps, weights = (
        np.bincount(key, terms, size).reshape(rows.patients, folds)
        for terms in (positive - p, p * (1 - p))
    )
    without = shift - gaps / np.maximum(weights.sum(0) - weights, TINY)
    estimate = float(mean_over_folds(shift, rows.fold_repeat))
    return LeaveOut(estimate, mean_over_folds(without, rows.fold_repeat), shift, False)


def _mixed_folds(rows: CodedRows) -> BoolArray:
    """Whether each fold (folds,) has rows of both classes."""
    counts = np.bincount(2 * rows.fold + rows.labels, minlength=2 * len(rows.fold_names))
    return np.asarray(counts.reshape(-1, 2).all(axis=1), dtype=np.bool_)


def _separated(rows: CodedRows, odds: FloatArray) -> bool:
    """Whether the classes are apart in every fold that has both, in the same direction."""
    gaps = []
    for fold in np.flatnonzero(_mixed_folds(rows)):
        one, other = (odds[(rows.fold == fold) & (rows.labels == c)] for c in (1, 0))
        gaps.append((one.min() >= other.max(), other.min() >= one.max()))
    return all(up for up, _ in gaps) or all(down for _, down in gaps)


def _interval(rows: CodedRows, leave: LeaveOut, of: Of, reason: str) -> ConfidenceInterval:
    found = jackknife_interval(leave, metric_support(rows, _LINEAR), tuned=True, level=LEVEL, of=of)
    if np.isfinite(leave.estimate):
        return found
    return ConfidenceInterval(
        float("nan"), None, None, LEVEL, found.method, found.by_fold, reason, of=of
    )


def _outcomes(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> FloatArray:
    """Terms (n, 3): observed, expected, squared error."""
    positive = (labels == 1).astype(np.float64)
    p = probabilities[:, 1]
    return np.stack([positive, p, (p - positive) ** 2], axis=1)


def _observed_ratio(sums: FloatArray, rows: FloatArray) -> FloatArray:
    return ratio(sums[..., 0], sums[..., 1])


def _scaled_error(sums: FloatArray, rows: FloatArray) -> FloatArray:
    share = sums[..., 0] / rows
    return 1 - ratio(sums[..., 2] / rows, share * (1 - share))


_RATIO = Metric(
    name="observed_expected",
    label="O/E",
    direction="maximize",
    needs="probabilities",
    how=Sums(_outcomes, _observed_ratio),
    scale=POSITIVE,
)
_SCALED = Metric(
    name="scaled_brier",
    label="Scaled Brier score",
    direction="maximize",
    needs="probabilities",
    how=Sums(_outcomes, _scaled_error),
    scale=REAL,
)
_LINEAR = Metric(
    name="recalibration",
    label="Recalibration",
    direction="maximize",
    needs="ranks",
    how=Sums(_outcomes),
    scale=REAL,
)
