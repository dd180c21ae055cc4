"""Probabilities to decisions: temperature, shift and threshold learnt from out-of-fold rows.

Class weights, samplers and focal loss move the probabilities of two classes to one side, which a
temperature cannot undo: it keeps 1/2 where it is. So with two classes a shift of the log-odds is
fitted beside it (Platt scaling). It keeps the order of rows, and so changes no ranking and, since
the threshold is fitted after it, no decision.

With several classes it would: moved to where they are calibrated, the largest probability is rarely
that of a rare class, which is what weights and samplers were searched to prevent.
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
_NEAR = 0.01  # of a bound on the logarithm; the search stops short of the bound itself
_TINY = 1e-12
_RIDGE = 1e-4
"""On the square of the shift, beside a mean log loss: rows of one class would drive it off."""


@dataclass(frozen=True)
class Decision:
    """How one study's models turn probabilities into a class.

    Attributes:
        temperature: divides log-probabilities; above 1 softens.
        threshold: two classes decide for the second at or above it; None where several classes
            decide by the largest probability.
        shift: of two classes, added to the log-odds of the second after that division; 0 for
            several.
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
        """From rows scored by models that did not train on them.

        Args:
            labels: (n,).
            probabilities: (n, classes), uncalibrated.
            rule: how two classes are told apart: the threshold with the largest sensitivity +
                specificity (Youden 1950), or the most demanding one that still reaches a
                ``target`` sensitivity or specificity.
            target: of that rule, in (0, 1).

        Reference: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2; of two
        classes Platt (1999), Probabilistic outputs for support vector machines.
        """
        if probabilities.shape[1] != 2:
            return cls(least_temperature(labels, probabilities), None)
        temperature, shift = _temperature_and_shift(labels, probabilities)
        score = cls(temperature, None, shift).calibrate(probabilities)[:, 1]
        return cls(temperature, fit_threshold(labels == 1, score, rule, target), shift)

    @property
    def note(self) -> str:
        """What a reader must know of the fit; empty for nothing."""
        if np.log(self.temperature) < _LOG_RANGE[1] - _NEAR:
            return ""
        return (
            f"the temperature reached its bound of {np.exp(_LOG_RANGE[1]):.0f}: out-of-fold "
            "probabilities told the classes hardly apart, so neither they nor a threshold on them "
            "carry over to the refitted model"
        )

    def calibrate(self, probabilities: FloatArray) -> FloatArray:
        """(n, classes) softened or sharpened, and shifted; the order of rows is kept."""
        scaled = np.log(np.clip(probabilities, _TINY, None)) / self.temperature
        scaled[:, 1] += self.shift
        scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        calibrated: FloatArray = scaled / scaled.sum(axis=1, keepdims=True)
        return calibrated

    def decide(self, calibrated: FloatArray) -> IntArray:
        """(n,) class index from calibrated probabilities."""
        return decide(calibrated, self.threshold)


def decide(calibrated: FloatArray, threshold: float | None) -> IntArray:
    """(n,) class index: the second of two classes from ``threshold`` on, else the likeliest."""
    if threshold is None:
        return np.asarray(calibrated.argmax(axis=1), dtype=np.int64)
    return np.asarray(calibrated[:, 1] >= threshold, dtype=np.int64)


def middle_threshold(thresholds: Sequence[float]) -> float:
    """The median of several models' thresholds, for the mean of their probabilities.

    Where there is no middle one, the midpoint of the two on the logit scale. The models of an
    ensemble were measured with these very thresholds, each fitted without its test rows; a
    threshold fitted on the outer test rows instead would make the rows that measure choose. The
    median, since a threshold by Youden's rule is the place of a flat maximum: one model's may lie
    at the edge of its scores and would move a mean. That the mean of several models' probabilities
    spreads a little less than one model's is left out of account.
    """
    near = np.clip(np.array(thresholds), _TINY, 1 - _TINY)
    return float(1 / (1 + np.exp(-np.median(np.log(near / (1 - near))))))


def least_temperature(labels: IntArray, probabilities: FloatArray) -> float:
    """The temperature of least log loss."""
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        calibrated = Decision(float(np.exp(log_temperature)), None).calibrate(probabilities)
        return float(-np.log(np.clip(calibrated[rows, labels], _TINY, None)).mean())

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def _temperature_and_shift(labels: IntArray, probabilities: FloatArray) -> tuple[float, float]:
    """Of least log loss; the loss is convex in 1 / temperature and the shift."""
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
    """The threshold on ``score`` (n,) that the rule of ``Decision.fit`` asks for.

    Args:
        positive: (n,) whether a row is of the second class.
    """
    values = np.unique(score)
    # Halfway between neighbours: a threshold on a training score would hang on its last digit.
    # The last cut is above every score: where the top ones are negative, only it is specific.
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
    return float(cuts[reached[0] if len(reached) else -1])  # none only without negatives
