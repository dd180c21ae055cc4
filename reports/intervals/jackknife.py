"""Confidence intervals from the patient jackknife.

A jackknife over patients with the models fixed measures the effect of which patients were sampled,
but not that other patients would have given other models. Where the models of inner folds scored
the test rows, that variation is measured (``variation.py``), and ``WIDENINGS`` says which shares of
it are added to the patients' variance. The shares were tuned once, on real and simulated studies,
and they differ for the one model that is delivered and for the mean over models made in this way
(``benchmarks/coverage/real_coverage.py``).

Where only predictions are known, the standard error is multiplied instead by 1.25 for a fixed
configuration, and by 1.4 if an inner loop chose anything. Both are empirical constants
(``benchmarks/coverage/coverage.py``); nested cross-validation finds 1.20-1.29 for the same
inflation (Bates, Hastie & Tibshirani 2024, arXiv 2104.00673). No constant covers a learnt
threshold, which may change specificity by more than all patients do. So every fold's threshold is
applied to all rows, and the variance of the metric over these thresholds is added. Without it the
intervals of specificity covered in 53 % of 300 replicates (400 patients, prevalence 0.1, Youden's
threshold), with it in 93-95 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from outerfold.objectives.measures.metric import Scale
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import Support
from outerfold.reports.intervals.variation import variance_between, variance_within
from outerfold.reports.wording import plural
from outerfold.storage.records import FloatArray

STRETCH_FIXED = 1.25
STRETCH_TUNED = 1.4
Of = Literal["model", "procedure"]
"""What an interval is of: the one delivered model, or the mean over models made in this way."""


@dataclass(frozen=True)
class Widening:
    """Shares of the two measured variances in the variance of an estimate.

    Attributes:
        patients: factor of the patients' standard error.
        probabilities: the same factor for scores of probabilities (Brier score, calibration
            error). Rows that are easy by chance sharpen the calibration that is learnt from them,
            so such a score is better here and worse elsewhere; no variance shows that.
        within, between: shares of the variance of models within and between outer folds, see
            ``variation.py``.
    """

    patients: float
    probabilities: float
    within: float
    between: float


WIDENINGS: dict[Of, Widening] = {
    "model": Widening(1.15, 1.4, 0.4, 0.1),
    "procedure": Widening(1.15, 1.2, 0.15, 0.1),
}
"""Empirical constants, tuned on half of the patients of one data set and on simulated studies, and
counted on the other half; see
``benchmarks/coverage/real_coverage.py``."""
FEWEST = 5
CAUTION_BELOW = 15
LEAST_UNSTABLE = 0.05
"""Standard deviation of models below which none is called unstable, however small the patients'."""
NO_LOGARITHM = "the estimate is 0, of which there is no logarithm"
NO_SPREAD = 1e-12
"""A standard error below this is a rounding error."""


@dataclass(frozen=True)
class ConfidenceInterval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: in the metric's own unit; NaN if it is undefined.
        low, high: bounds; None if there is no interval, and ``reason`` then gives the cause.
        procedure: bounds for the mean over models made in this way; None if there is no interval.
        of: what ``low`` and ``high`` are of, see ``Of``.
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
    procedure: tuple[float, float] | None = None
    of: Of = "model"


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


@dataclass(frozen=True)
class TotalError:
    """Standard error of an estimate for patients and training together.

    Attributes:
        size: the standard error, in units of the length of the metric's range.
        df: degrees of freedom of the sum of variances, after Satterthwaite (1946).
        models: part of the standard error that models or thresholds add; 0 if none.
        words: how the patients' standard error was widened.
        ahead: addend to the upper bound, or, if it is negative, to the lower one.
    """

    size: float
    df: float
    models: float
    words: str
    ahead: float = 0.0


def total_error(
    leave: LeaveOut, support: Support, *, tuned: bool, unit: float, of: Of = "model"
) -> TotalError:
    """Standard error for patients and training together, measured where inner models are known.

    Args:
        support: basis of the metric, which says whether it scores probabilities.
        tuned: whether an inner loop chose anything; without inner models it sets the constant.
        unit: length of the metric's range; the standard error is in units of it.
        of: what the interval is of; without inner models it makes no difference.
    """
    se, df = jackknife_error(leave.without / unit)
    if leave.inner is None:
        factor = STRETCH_TUNED if tuned else STRETCH_FIXED
        added, added_df = leave.moved / unit**2, float(max(len(leave.by_fold) - 1, 1))
        tail = ", variance of fold thresholds added" if added else ""
    else:
        wide = WIDENINGS[of]
        factor = wide.probabilities if support.probabilities else wide.patients
        added = model_variance(leave, wide) / unit**2
        added_df = float(len(leave.inner) * (leave.inner.shape[1] - 1))
        tail = ", measured variation of models added"
        tail += ", lengthened for the gain from more patients" if leave.ahead else ""
    words = f"standard error × {factor:g}{tail}"
    patients = (factor * se) ** 2
    size, joint = add_variances(patients, df, added, added_df)
    return TotalError(size, joint, float(np.sqrt(added)), words, leave.ahead / unit)


def add_variances(one: float, one_df: float, other: float, other_df: float) -> tuple[float, float]:
    """Standard error from the sum of two variances, and its degrees of freedom.

    Source: Satterthwaite (1946), Biometrics Bulletin 2.
    """
    if one + other == 0:
        return 0.0, one_df
    joint = (one + other) ** 2 / (one**2 / one_df + other**2 / other_df)
    return float(np.sqrt(one + other)), float(joint)


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


def unbounded_interval(estimate: float, half: float, scale: Scale) -> tuple[float, float]:
    """Interval on an unbounded scale, of logarithms or of the metric itself; nothing is clipped.

    Args:
        estimate: positive on a scale of logarithms.
        half: half the length, in the metric's own unit, before it is moved to logarithms.
    """
    if scale.name == "log":
        reach = half / estimate
        return float(estimate * np.exp(-reach)), float(estimate * np.exp(reach))
    return estimate - half, estimate + half


def jackknife_interval(
    leave: LeaveOut,
    support: Support,
    *,
    tuned: bool,
    level: float,
    of: Of = "model",
    notes: tuple[str, ...] = (),
) -> ConfidenceInterval:
    """Patient-jackknife interval of one metric, or the reason why there is none.

    Args:
        tuned: whether an inner loop chose the configuration, the epochs or the threshold.
        level: nominal coverage.
        of: what ``low`` and ``high`` are of.
        notes: cautions to print before those that this function adds.
    """
    by_fold = tuple(float(value) for value in leave.by_fold)
    method = "patient jackknife"
    reason = _refusal(leave, support) or _refusal_of_unbounded(leave, support.scale)
    low = high = procedure = None
    if reason is None:
        error = total_error(leave, support, tuned=tuned, unit=support.scale.unit, of=of)
        low, high, method = interval_bounds(leave, support, error, level)
        whole = total_error(leave, support, tuned=tuned, unit=support.scale.unit, of="procedure")
        procedure = interval_bounds(leave, support, whole, level)[:2]
        # Fewer degrees of freedom may make the smaller error's interval the longer one.
        low, high = min(low, procedure[0]), max(high, procedure[1])
        notes = (*notes, *_caution(support), *_instability(leave, error))
    linear = support.scale.name == "linear"
    estimate = max(support.scale.low, leave.estimate) if linear else leave.estimate
    return ConfidenceInterval(
        estimate, low, high, level, method, by_fold, reason, notes, procedure, of
    )


def fixed_model_interval(leave: LeaveOut, support: Support, *, level: float) -> ConfidenceInterval:
    """Patient-jackknife interval of one given model: nothing is added for other models.

    Args:
        leave: rows of one model alone, such as those of one outer fold.
        support: basis of the metric among these rows.
        level: nominal coverage.
    """
    by_fold = tuple(float(value) for value in leave.by_fold)
    reason = _refusal(leave, support) or _refusal_of_unbounded(leave, support.scale)
    if reason is not None:
        method = "patient jackknife"
        return ConfidenceInterval(leave.estimate, None, None, level, method, by_fold, reason)
    size, df = jackknife_error(leave.without / support.scale.unit)
    error = TotalError(size, df, 0.0, "model fixed")
    low, high, method = interval_bounds(leave, support, error, level)
    return ConfidenceInterval(leave.estimate, low, high, level, method, by_fold)


def paired_interval(
    change: LeaveOut, support: Support, *, tuned: bool, level: float, of: Of = "model"
) -> ConfidenceInterval:
    """Patient-jackknife interval of one metric's difference between two models of the same rows.

    Args:
        change: the first minus the second, for all rows, without each patient, and for each pair
            of inner folds' models.
        tuned: whether an inner loop chose the configuration, the epochs or the threshold.
        level: nominal coverage.
        of: what ``low`` and ``high`` are of.
    """
    by_fold = tuple(float(value) for value in change.by_fold)
    error = total_error(change, support, tuned=tuned, unit=1.0, of=of)
    method = f"paired patient jackknife, linear, {error.words}"
    reason = _refusal(change, support)
    if reason is None and jackknife_error(change.without)[0] == 0:
        reason = "the difference is the same without each patient, so there is no spread"
    if reason is not None:
        return ConfidenceInterval(change.estimate, None, None, level, method, by_fold, reason)

    def bounds(error: TotalError) -> tuple[float, float]:
        half = error.size * t_quantile(error.df, level)
        low, high = change.estimate - half, change.estimate + half
        most = support.scale.high - support.scale.low
        return max(-most, low), min(most, high)

    whole = total_error(change, support, tuned=tuned, unit=1.0, of="procedure")
    return ConfidenceInterval(
        change.estimate,
        *bounds(error),
        level,
        method,
        by_fold,
        None,
        _caution(support),
        bounds(whole),
        of,
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


def _refusal_of_unbounded(leave: LeaveOut, scale: Scale) -> str | None:
    """Why there is no interval where no range can stand in for the spread."""
    if scale.bounded:
        return None
    if jackknife_error(leave.without)[0] == 0:
        return "the estimate is the same without each patient, so there is no spread"
    return NO_LOGARITHM if scale.name == "log" and not leave.estimate > 0 else None


def _instability(leave: LeaveOut, error: TotalError) -> tuple[str, ...]:
    if error.models <= jackknife_error(leave.without)[0]:
        return ()
    if leave.inner is not None and error.models < LEAST_UNSTABLE:
        return ()
    if leave.inner is None:
        return (
            f"unstable: standard deviation of {error.models:.3f} over the folds' thresholds, each "
            "applied to the rows of all folds",
        )
    return (
        f"unstable: standard deviation of {error.models:.2f} from the variation of models alone",
    )


def fold_noise(leave: LeaveOut) -> FloatArray:
    """Squared standard error (folds,) of each fold's metric for the fold's own patients."""
    return np.array([jackknife_error(fold)[0] ** 2 for fold in leave.alone])


def model_variance(leave: LeaveOut, wide: Widening) -> float:
    """Part of the measured variance of models that an interval adds; never below 0."""
    assert leave.inner is not None
    within = wide.within * variance_within(leave.inner)
    return max(0.0, within + wide.between * variance_between(leave.by_fold, fold_noise(leave)))


def interval_bounds(
    leave: LeaveOut, support: Support, error: TotalError, level: float
) -> tuple[float, float, str]:
    """Lower and upper bound of one metric on its scale, and the method in words.

    Args:
        error: standard error for patients and training together.
        level: nominal coverage.
    """
    scale, q = support.scale, t_quantile(error.df, level)
    words = f"patient jackknife, {{}}, {error.words}"
    if not scale.bounded:
        low, high = unbounded_interval(leave.estimate, q * error.size, scale)
        low, high = low + min(0.0, error.ahead), high + max(0.0, error.ahead)
        return max(scale.low, low), high, words.format(scale.name)
    share = (leave.estimate - scale.origin) / scale.unit
    if error.size == 0 or (scale.name != "linear" and not 0 < share < 1):
        # No spread, or an estimate of 0 or 1: each patient counts as one independent row.
        low, high = wilson_interval(
            np.clip(share, 0, 1), support.patients, float(ndtri((1 + level) / 2))
        )
        words = f"Wilson, {support.patients} patients"
    elif scale.name == "Wilson":
        # The sample size at which a binomial proportion has this standard error.
        effective = np.clip(share * (1 - share) / error.size**2, 1, support.images)
        low, high = wilson_interval(share, float(effective), q)
    elif scale.name == "logit":
        low, high = logit_interval(share, q * error.size)
    else:
        half = q * error.size
        low, high = max(0.0, share - half), min(1.0, max(0.0, share + half))
    low, high = max(0.0, low + min(0.0, error.ahead)), min(1.0, high + max(0.0, error.ahead))
    low, high = low * scale.unit + scale.origin, high * scale.unit + scale.origin
    return low, high, words.format(scale.name)
