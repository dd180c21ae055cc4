"""From an estimate without each patient to an interval that covers.

A jackknife over patients with the models fixed sees which patients were sampled, not what the
models would have been with other patients. The standard error is stretched for that, by 1.25 for
a fixed configuration and 1.4 where an inner loop chose anything. Both are empirical constants
(``benchmarks/coverage/coverage.py``); nested cross-validation finds 1.20-1.29 for the same
inflation (Bates, Hastie & Tibshirani 2024, arXiv 2104.00673).

No constant stands for a learnt threshold, which may move specificity by more than all patients
do. Its variance is measured: every fold's threshold is applied to all rows, and the variance of
the metric over them is added. Without it specificity was covered 53 % of the time (400 patients,
prevalence 0.1, Youden's threshold; 300 replicates), with it 93-95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from outerfold.reports.intervals.leave_one_out import LeaveOut
from outerfold.reports.intervals.support import Support
from outerfold.storage.records import FloatArray

STRETCH_FIXED = 1.25
STRETCH_TUNED = 1.4
FEWEST = 5
CAUTION_BELOW = 15
BY_FOLDS = ", thresholds of folds"
NO_SPREAD = 1e-12
"""A standard error below this is rounding."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate and how far it can be trusted.

    Attributes:
        estimate: in the metric's own unit; NaN where it is undefined.
        low, high: None where no interval can be had, and then ``reason`` says why.
        level: nominal coverage, 0.95 for 95 %.
        method: in words a reader of a table understands.
        by_fold: the metric of each fold alone, in order of repeat and fold; NaN where undefined.
            Its spread is not a confidence interval.
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


def spread(without: FloatArray) -> tuple[float, float]:
    """Standard error and degrees of freedom of an estimate from (patients,) leave-outs.

    SE^2 = (n-1)/n sum d^2. The degrees of freedom, 2n / (kurtosis - 1) clipped to [1.5, n-1], are
    those of a chi-squared variance with the moments of d^2: a handful of patients that decide the
    estimate lower them without being told.
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
    """Standard error and degrees of freedom of patients, training and thresholds together.

    In units of ``upper``. Degrees of freedom of a sum of variances: Satterthwaite (1946).
    """
    se, df = spread(leave.without / upper)
    patients, moved = (stretch * se) ** 2, leave.moved / upper**2
    if moved == 0:
        return stretch * se, df
    of_folds = max(len(leave.by_fold) - 1, 1)
    joint = (patients + moved) ** 2 / (patients**2 / df + moved**2 / of_folds)
    return float(np.sqrt(patients + moved)), float(joint)


def quantile(df: float, level: float) -> float:
    """Two-sided t quantile; 2.78 for 4 degrees of freedom and level 0.95."""
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1 such as 0.95, found {level}")
    return float(stdtrit(df, (1 + level) / 2))


def wilson(share: float, images: float, z: float) -> tuple[float, float]:
    """Score interval of a share of ``images`` (Wilson 1927)."""
    shrink = 1 + z**2 / images
    centre = (share + z**2 / (2 * images)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def logit_interval(share: float, half: float) -> tuple[float, float]:
    """``share`` +/- ``half`` carried to the logit scale and back; stays inside 0..1."""
    reach = half / (share * (1 - share))
    return float(expit(logit(share) - reach)), float(expit(logit(share) + reach))


def jackknife_interval(
    leave: LeaveOut, support: Support, *, tuned: bool, level: float, notes: tuple[str, ...] = ()
) -> ConfidenceInterval:
    """The patient jackknife of one metric, with its fall-backs.

    Args:
        tuned: an inner loop chose configuration, epochs or threshold.
        notes: printed before those found here.
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
    """The patient jackknife of a difference of one metric between two models of the same rows."""
    by_fold = tuple(float(value) for value in change.by_fold)
    stretch = STRETCH_TUNED if tuned else STRETCH_FIXED
    method = f"paired patient jackknife, linear, stretch {stretch}"
    reason = _refusal(change, support)
    if reason is None and spread(change.without)[0] == 0:
        reason = "the two differ by the same without each patient, so patients show no spread"
    if reason is not None:
        return ConfidenceInterval(change.estimate, None, None, level, method, by_fold, reason)
    error, df = total_error(change, stretch, 1.0)
    half = error * quantile(df, level)
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
    return (f"caution, {support.fewest} patients {support.who}",)


def _refusal(leave: LeaveOut, support: Support) -> str | None:
    if support.fewest < FEWEST:
        return f"{support.fewest} patients {support.who}, an interval needs {FEWEST}"
    if not support.patients:
        return "never predicted as this class"
    if not np.isfinite(leave.estimate):
        return "undefined: a class is missing"
    if not np.isfinite(leave.without).all():
        return "the estimate hangs on a single patient"
    return None


def _instability(leave: LeaveOut, method: str) -> tuple[str, ...]:
    moved = float(np.sqrt(leave.moved))
    if not method.endswith(BY_FOLDS) or moved <= spread(leave.without)[0]:
        return ()
    return (f"unstable: the folds' thresholds alone spread it by {moved:.3f} (sd)",)


def _bounds(
    leave: LeaveOut, support: Support, stretch: float, level: float
) -> tuple[float, float, str]:
    error, df = total_error(leave, stretch, support.upper)
    share, q = leave.estimate / support.upper, quantile(df, level)
    words = f"patient jackknife, {{}}, stretch {stretch}{BY_FOLDS if leave.moved else ''}"
    if error == 0 or (support.scale != "linear" and not 0 < share < 1):
        low, high = wilson(np.clip(share, 0, 1), support.patients, float(ndtri((1 + level) / 2)))
        words = f"Wilson, {support.patients} patients"
    elif support.scale == "wilson":
        worth = np.clip(share * (1 - share) / error**2, 1, support.images)
        low, high = wilson(share, float(worth), q)
    elif support.scale == "logit":
        low, high = logit_interval(share, q * error)
    else:
        low, high = max(0.0, share - q * error), min(1.0, max(0.0, share + q * error))
    name = "Wilson" if support.scale == "wilson" else support.scale
    return low * support.upper, high * support.upper, words.format(name)
