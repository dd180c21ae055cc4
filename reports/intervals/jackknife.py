"""Confidence intervals from the patient jackknife.

A jackknife over patients with the models fixed measures the effect of which patients were sampled,
but not that other patients would have given other models. The standard error is multiplied for
that by 1.25 for a fixed configuration, and by 1.4 if an inner loop chose anything. Both are
empirical constants (``benchmarks/coverage/coverage.py``); nested cross-validation finds 1.20-1.29
for the same inflation (Bates, Hastie & Tibshirani 2024, arXiv 2104.00673).

No constant covers a learnt threshold, which may change specificity by more than all patients do.
Its variance is measured: every fold's threshold is applied to all rows, and the variance of the
metric over these thresholds is added. Without it the intervals of specificity covered in 53 % of
300 replicates (400 patients, prevalence 0.1, Youden's threshold), with it in 93-95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from outerfold.reports.intervals.leave_one_out import LeaveOut
from outerfold.reports.intervals.support import Support
from outerfold.reports.wording import plural
from outerfold.storage.records import FloatArray

STRETCH_FIXED = 1.25
STRETCH_TUNED = 1.4
FEWEST = 5
CAUTION_BELOW = 15
THRESHOLDS_ADDED = ", variance of fold thresholds added"
NO_SPREAD = 1e-12
"""A standard error below this is a rounding error."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: in the metric's own unit; NaN if it is undefined.
        low, high: bounds; None if there is no interval, and ``reason`` then gives the cause.
        level: nominal coverage, 0.95 for 95 %.
        method: name of the method, for a reader of a table.
        by_fold: the metric of each fold alone, in order of repeat and fold; NaN where undefined.
            Its spread is not a confidence interval.
        reason: why there is no interval; None if there is one.
        notes: cautions to print beside the number.
    """

    estimate: float
    low: float | None
    high: float | None
    level: float
    method: str
    by_fold: tuple[float, ...]
    reason: str | None = None
    notes: tuple[str, ...] = ()


def jackknife_error(without: FloatArray) -> tuple[float, float]:
    """Jackknife standard error and degrees of freedom from leave-out estimates (patients,).

    SE^2 = (n-1)/n sum d^2, where d is a leave-out estimate minus their mean. The degrees of
    freedom, 2n / (kurtosis - 1) clipped to [1.5, n-1], are those of a chi-squared variance with
    the moments of d^2: they are low if a few patients decide the estimate.
    """
    n = len(without)
    gaps = without - without.mean()
    second = float(np.mean(gaps**2))
    if second < NO_SPREAD**2:
        return 0.0, n - 1.0
    heavy = float(np.mean(gaps**4)) / second**2 - 1
    df = 2 * n / heavy if heavy > 0 else np.inf
    return float(np.sqrt((n - 1) * second)), float(np.clip(df, min(1.5, n - 1), n - 1))


def total_error(leave: LeaveOut, stretch: float, upper: float) -> tuple[float, float]:
    """Standard error and degrees of freedom for patients, training and thresholds together.

    The degrees of freedom of a sum of variances follow Satterthwaite (1946).

    Args:
        stretch: factor of the patients' standard error, for the variation of training.
        upper: largest value of the metric; the standard error is in units of it.
    """
    se, df = jackknife_error(leave.without / upper)
    patients, moved = (stretch * se) ** 2, leave.moved / upper**2
    if moved == 0:
        return stretch * se, df
    of_folds = max(len(leave.by_fold) - 1, 1)
    joint = (patients + moved) ** 2 / (patients**2 / df + moved**2 / of_folds)
    return float(np.sqrt(patients + moved)), float(joint)


def t_quantile(df: float, level: float) -> float:
    """Two-sided t quantile; 2.78 for 4 degrees of freedom and level 0.95.

    Raises:
        ValueError: ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, found {level}")
    return float(stdtrit(df, (1 + level) / 2))


def wilson_interval(share: float, images: float, z: float) -> tuple[float, float]:
    """Score interval of a proportion ``share`` of ``images`` (Wilson 1927).

    Args:
        images: sample size; an effective size need not be a whole number.
        z: quantile, 1.96 for 95 %.
    """
    shrink = 1 + z**2 / images
    centre = (share + z**2 / (2 * images)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def logit_interval(share: float, half: float) -> tuple[float, float]:
    """Interval ``share`` +/- ``half`` computed on the logit scale, so that it stays in 0..1."""
    reach = half / (share * (1 - share))
    return float(expit(logit(share) - reach)), float(expit(logit(share) + reach))


def jackknife_interval(
    leave: LeaveOut, support: Support, *, tuned: bool, level: float, notes: tuple[str, ...] = ()
) -> ConfidenceInterval:
    """Patient-jackknife interval of one metric, or the reason why there is none.

    Args:
        tuned: whether an inner loop chose the configuration, the epochs or the threshold.
        level: nominal coverage.
        notes: cautions to print before those that this function adds.
    """
    by_fold = tuple(float(value) for value in leave.by_fold)
    method = "patient jackknife"
    reason = _refusal(leave, support)
    low = high = None
    if reason is None:
        low, high, method = _bounds(
            leave, support, STRETCH_TUNED if tuned else STRETCH_FIXED, level
        )
        notes = (*notes, *_caution(support), *_instability(leave, method))
    estimate = max(0.0, leave.estimate) if support.scale == "linear" else leave.estimate
    return ConfidenceInterval(estimate, low, high, level, method, by_fold, reason, notes)


def paired_interval(
    change: LeaveOut, support: Support, *, tuned: bool, level: float
) -> ConfidenceInterval:
    """Patient-jackknife interval of one metric's difference between two models of the same rows.

    Args:
        change: the first minus the second, for all rows and without each patient.
        tuned: whether an inner loop chose the configuration, the epochs or the threshold.
        level: nominal coverage.
    """
    by_fold = tuple(float(value) for value in change.by_fold)
    stretch = STRETCH_TUNED if tuned else STRETCH_FIXED
    method = f"paired patient jackknife, linear, standard error × {stretch}"
    reason = _refusal(change, support)
    if reason is None and jackknife_error(change.without)[0] == 0:
        reason = "the difference is the same without each patient, so there is no spread"
    if reason is not None:
        return ConfidenceInterval(change.estimate, None, None, level, method, by_fold, reason)
    error, df = total_error(change, stretch, 1.0)
    half = error * t_quantile(df, level)
    low, high = (
        max(-support.upper, change.estimate - half),
        min(support.upper, change.estimate + half),
    )
    return ConfidenceInterval(
        change.estimate, low, high, level, method, by_fold, None, _caution(support)
    )


def _caution(support: Support) -> tuple[str, ...]:
    if support.fewest >= CAUTION_BELOW:
        return ()
    return (f"caution: only {plural(support.fewest, 'patient')} {support.who}",)


def _refusal(leave: LeaveOut, support: Support) -> str | None:
    if support.fewest < FEWEST:
        return f"{plural(support.fewest, 'patient')} {support.who}, but an interval needs {FEWEST}"
    if not support.patients:
        return "no image is predicted as this class"
    if not np.isfinite(leave.estimate):
        return "the metric is undefined, because a class is missing"
    if not np.isfinite(leave.without).all():
        return "the estimate is undefined without one of the patients"
    return None


def _instability(leave: LeaveOut, method: str) -> tuple[str, ...]:
    moved = float(np.sqrt(leave.moved))
    if not method.endswith(THRESHOLDS_ADDED) or moved <= jackknife_error(leave.without)[0]:
        return ()
    return (f"unstable: standard deviation of {moved:.3f} from the folds' thresholds alone",)


def _bounds(
    leave: LeaveOut, support: Support, stretch: float, level: float
) -> tuple[float, float, str]:
    error, df = total_error(leave, stretch, support.upper)
    share, q = leave.estimate / support.upper, t_quantile(df, level)
    added = THRESHOLDS_ADDED if leave.moved else ""
    words = f"patient jackknife, {{}}, standard error × {stretch}{added}"
    if error == 0 or (support.scale != "linear" and not 0 < share < 1):
        # No spread, or an estimate of 0 or 1: each patient counts as one independent row.
        low, high = wilson_interval(
            np.clip(share, 0, 1), support.patients, float(ndtri((1 + level) / 2))
        )
        words = f"Wilson, {support.patients} patients"
    elif support.scale == "wilson":
        # The sample size at which a binomial proportion has this standard error.
        effective = np.clip(share * (1 - share) / error**2, 1, support.images)
        low, high = wilson_interval(share, float(effective), q)
    elif support.scale == "logit":
        low, high = logit_interval(share, q * error)
    else:
        low, high = max(0.0, share - q * error), min(1.0, max(0.0, share + q * error))
    name = "Wilson" if support.scale == "wilson" else support.scale
    return low * support.upper, high * support.upper, words.format(name)
