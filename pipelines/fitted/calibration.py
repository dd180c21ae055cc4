"""Calibration and decision: temperature, shift and threshold, fitted on out-of-fold rows.

Class weights, samplers and focal loss move the probabilities of two classes to one side. A
temperature cannot undo this, since it leaves 1/2 unchanged. So with two classes a shift of the
log-odds is fitted together with the temperature (Platt scaling). The shift keeps the order of rows,
so it changes no ranking; it changes no decision either, since the threshold is fitted after it.

With several classes a shift would change decisions: after calibration the largest probability is
rarely that of a rare class, and weights and samplers are searched to prevent just this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from outerfold.storage.records import FloatArray, IntArray

Rule = Literal["youden", "sensitivity", "specificity"]

_LOG_RANGE = (np.log(0.05), np.log(20.0))
"""Bounds of the logarithm of the temperature."""
_NEAR = 0.01  # distance from a bound that counts as reached; the search stops before the bound
_TINY = 1e-12
"""Smallest probability whose logarithm is taken; smaller ones are raised to it."""
_RIDGE = 1e-4
"""Penalty on the square of the shift, added to the mean log loss; without it rows of a single class
would drive the shift to infinity."""


@dataclass(frozen=True)
class Decision:
    """Rule by which the models of one study turn probabilities into a class.

    Attributes:
        temperature: divisor of the log-probabilities; a value above 1 softens the probabilities.
        threshold: calibrated probability of the second of two classes from which the decision is
            for it; None for several classes, where the largest probability decides.
        shift: with two classes, addend to the log-odds of the second class after that division; 0
            with several classes.

    Example:
        >>> rule = Decision(temperature=1.0, threshold=0.4)
        >>> rule.decide(np.array([[0.7, 0.3], [0.6, 0.4]])).tolist()
        [0, 1]
    """

    temperature: float
    threshold: float | None
    shift: float = 0.0

    @classmethod
    def fit(
        cls,
        labels: IntArray,
        probabilities: FloatArray,
        *,
        rule: Rule = "youden",
        target: float = 0.9,
    ) -> Decision:
        """Fit the rule on rows scored by models that did not train on them.

        Args:
            labels: (n,) class indices.
            probabilities: (n, classes), uncalibrated.
            rule: choice of the threshold for two classes: ``youden`` takes the largest sensitivity
                + specificity (Youden 1950); ``sensitivity`` takes the highest and ``specificity``
                the lowest threshold that still reaches ``target``.
            target: sensitivity or specificity to reach, in (0, 1).

        Reference: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2; for two
        classes Platt (1999), Probabilistic outputs for support vector machines.
        """
        if probabilities.shape[1] != 2:
            return cls(fit_temperature(labels, probabilities), None)
        temperature, shift = _temperature_and_shift(labels, probabilities)
        score = cls(temperature, None, shift).calibrate(probabilities)[:, 1]
        return cls(temperature, fit_threshold(labels == 1, score, rule, target), shift)

    @property
    def note(self) -> str:
        """Warning about the fit for the reader of a report; empty where there is none."""
        if np.log(self.temperature) < _LOG_RANGE[1] - _NEAR:
            return ""
        return (
            f"the temperature reached its bound of {np.exp(_LOG_RANGE[1]):.0f}: out-of-fold "
            "probabilities hardly separate the classes, so neither they nor a threshold on them "
            "carry over to the refitted model"
        )

    def calibrate(self, probabilities: FloatArray) -> FloatArray:
        """Return calibrated probabilities (n, classes) of uncalibrated ones (n, classes).

        With two classes the order of the rows stays the same.
        """
        scaled = np.log(np.clip(probabilities, _TINY, None)) / self.temperature
        scaled[:, 1] += self.shift
        scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        calibrated: FloatArray = scaled / scaled.sum(axis=1, keepdims=True)
        return calibrated

    def decide(self, calibrated: FloatArray) -> IntArray:
        """Return class indices (n,) for calibrated probabilities (n, classes)."""
        return decide(calibrated, self.threshold)


def decide(calibrated: FloatArray, threshold: float | None) -> IntArray:
    """Return class indices (n,) for calibrated probabilities (n, classes).

    Args:
        calibrated: (n, classes).
        threshold: probability from which the second of two classes is decided; None decides for
            the most probable class.
    """
    if threshold is None:
        return np.asarray(calibrated.argmax(axis=1), dtype=np.int64)
    return np.asarray(calibrated[:, 1] >= threshold, dtype=np.int64)


def middle_threshold(thresholds: Sequence[float]) -> float:
    """Median of several models' thresholds, used as threshold on the mean of their probabilities.

    With an even number of models it is the midpoint of the middle two on the logit scale. The
    models of an ensemble were measured with these same thresholds, each fitted without its test
    rows; a threshold fitted on the outer test rows would let the rows that measure also choose.
    The median is used because a threshold by Youden's rule is at a flat maximum: one model's
    threshold may be at the edge of its scores and would move a mean. The mean of several models'
    probabilities varies a little less than one model's; the threshold does not correct for this.
    """
    near = np.clip(np.array(thresholds), _TINY, 1 - _TINY)
    return float(1 / (1 + np.exp(-np.median(np.log(near / (1 - near))))))


def fit_temperature(labels: IntArray, probabilities: FloatArray) -> float:
    """Return the temperature with the smallest log loss, in 0.05..20.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes), uncalibrated.
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        calibrated = Decision(float(np.exp(log_temperature)), None).calibrate(probabilities)
        return float(-np.log(np.clip(calibrated[rows, labels], _TINY, None)).mean())

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def _temperature_and_shift(labels: IntArray, probabilities: FloatArray) -> tuple[float, float]:
    """Return the temperature and shift with the smallest penalised log loss, for two classes.

    The loss is convex in 1 / temperature and the shift, so its minimum is unique.
    """
    logs = np.log(np.clip(probabilities, _TINY, None))
    odds = logs[:, 1] - logs[:, 0]

    def loss(sought: FloatArray) -> tuple[float, FloatArray]:
        scaled = sought[0] * odds + sought[1]
        wrong = 1 / (1 + np.exp(-scaled)) - labels
        value = (np.logaddexp(0, scaled) - labels * scaled).mean() + _RIDGE * sought[1] ** 2
        slope = np.array([(wrong * odds).mean(), wrong.mean() + 2 * _RIDGE * sought[1]])
        return float(value), slope

    sharpness = 1 / np.exp(np.array(_LOG_RANGE[::-1]))
    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[tuple(sharpness), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    return float(1 / found.x[0]), float(found.x[1])


def fit_threshold(
    positive: np.ndarray[tuple[int], np.dtype[np.bool_]],
    score: FloatArray,
    rule: Rule,
    target: float,
) -> float:
    """Return the threshold on ``score`` that a rule of ``Decision.fit`` chooses.

    Args:
        positive: (n,) True for a row of the second class.
        score: (n,) calibrated probability of the second class.
        rule: see ``Decision.fit``.
        target: see ``Decision.fit``.
    """
    values = np.unique(score)
    # Cuts lie halfway between neighbouring scores: a threshold equal to a score would depend on its
    # last digit. The last cut is above every score: where the rows with the top score are negative,
    # no lower cut has specificity 1.
    above = np.nextafter(values[-1], np.inf)
    cuts = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [above]])
    ranks = np.sort(score[positive]), np.sort(score[~positive])
    sensitivity = 1 - np.searchsorted(ranks[0], cuts) / max(len(ranks[0]), 1)
    specificity = np.searchsorted(ranks[1], cuts) / max(len(ranks[1]), 1)
    if rule == "youden":
        return float(cuts[np.argmax(sensitivity + specificity)])
    if rule == "sensitivity":
        return float(cuts[np.flatnonzero(sensitivity >= target)[-1]])
    reached = np.flatnonzero(specificity >= target)
    return float(cuts[reached[0] if len(reached) else -1])  # empty only without negative rows
