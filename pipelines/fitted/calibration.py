"""Calibration and decision: temperature, shift and threshold, fitted on out-of-fold rows.

Class weights, samplers and focal loss move the probabilities of two classes to one side. A
temperature cannot undo this, since it leaves 1/2 unchanged. So with two classes a shift of the
log-odds is fitted together with the temperature. The shift keeps the order of rows, so it changes
no ranking.

With several classes a shift would change decisions: after calibration the largest probability is
rarely that of a rare class, and weights and samplers are searched to prevent just this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from outerfold.pipelines.fitted.scaling import TINY, Scaling, fit_scaling, scale_logs
from outerfold.storage.records import FloatArray, IntArray

Rule = Literal["prevalence", "youden", "sensitivity", "specificity"]

_SIGNAL = 1.645
"""A slope below this many standard errors is not told apart from none, at 5 % on one side."""
_NARROW = 0.1
"""Standard deviation of log-odds below which networks have hardly moved from their start."""


@dataclass(frozen=True)
class Decision:
    """Rule by which the models of one study turn probabilities into a class.

    Attributes:
        temperature: divisor of the log-probabilities; a value above 1 softens the probabilities.
        threshold: calibrated probability of the second of two classes from which the decision is
            for it; None for several classes, where the largest probability decides.
        shift: with two classes, addend to the log-odds of the second class after that division; 0
            with several classes.
        note: warning about the fit for the reader of a report; empty where there is none.

    Example:
        >>> rule = Decision(temperature=1.0, threshold=0.4)
        >>> rule.decide(np.array([[0.7, 0.3], [0.6, 0.4]])).tolist()
        [0, 1]
    """

    temperature: float
    threshold: float | None
    shift: float = 0.0
    note: str = field(default="", compare=False)

    @classmethod
    def fit(
        cls,
        labels: IntArray,
        probabilities: FloatArray,
        *,
        rule: Rule = "prevalence",
        target: float = 0.9,
    ) -> Decision:
        """Fit the rule on rows scored by models that did not train on them.

        Args:
            labels: (n,) class indices.
            probabilities: (n, classes), uncalibrated.
            rule: choice of the threshold for two classes, see ``fit_threshold``.
            target: sensitivity or specificity to reach, in (0, 1).
        """
        scaling = fit_scaling(labels, probabilities)
        two = probabilities.shape[1] == 2
        threshold = None
        if two:
            score = scale_logs(probabilities, scaling.temperature, scaling.shift)[:, 1]
            threshold = fit_threshold(labels == 1, score, rule, target)
        note = _note_fit(labels, probabilities, scaling)
        return cls(scaling.temperature, threshold, scaling.shift, note)

    def calibrate(self, probabilities: FloatArray) -> FloatArray:
        """Return calibrated probabilities (n, classes) of uncalibrated ones (n, classes).

        With two classes the order of the rows stays the same.
        """
        return scale_logs(probabilities, self.temperature, self.shift)

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
    near = np.clip(np.array(thresholds), TINY, 1 - TINY)
    return float(1 / (1 + np.exp(-np.median(np.log(near / (1 - near))))))


def fit_threshold(
    positive: np.ndarray[tuple[int], np.dtype[np.bool_]],
    score: FloatArray,
    rule: Rule,
    target: float,
) -> float:
    """Return a threshold on ``score``.

    Args:
        positive: (n,) True for a row of the second class.
        score: (n,) calibrated probability of the second class.
        rule: ``prevalence`` is the share of positive rows. On calibrated scores it has the largest
            expected sensitivity + specificity, as Youden's has in the sample, and it moves less
            from sample to sample. ``youden`` takes the largest sensitivity + specificity of these
            rows; ``sensitivity`` takes the highest and ``specificity`` the lowest threshold that
            still reaches ``target``.
        target: sensitivity or specificity to reach, in (0, 1).

    Reference: Youden (1950), Index for rating diagnostic tests.
    """
    if rule == "prevalence":
        return float(positive.mean())
    cuts = _cuts(score)
    ranks = np.sort(score[positive]), np.sort(score[~positive])
    sensitivity = 1 - np.searchsorted(ranks[0], cuts) / max(len(ranks[0]), 1)
    specificity = np.searchsorted(ranks[1], cuts) / max(len(ranks[1]), 1)
    if rule == "youden":
        return float(cuts[np.argmax(sensitivity + specificity)])
    if rule == "sensitivity":
        return float(cuts[np.flatnonzero(sensitivity >= target)[-1]])
    reached = np.flatnonzero(specificity >= target)
    return float(cuts[reached[0] if len(reached) else -1])  # empty only without negative rows


def _cuts(score: FloatArray) -> FloatArray:
    """All thresholds that decide differently, halfway between neighbouring scores.

    A threshold equal to a score would depend on its last digit. The last cut is above every score:
    where the rows with the top score are negative, no lower cut has specificity 1.
    """
    values = np.unique(score)
    above = np.nextafter(values[-1], np.inf)
    return np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [above]])


def _note_fit(labels: IntArray, probabilities: FloatArray, scaling: Scaling) -> str:
    """Say what is wrong with the scores, if anything: no signal, separation, too few steps."""
    if scaling.slope < _SIGNAL * scaling.error:
        return (
            "out-of-fold probabilities do not separate the classes measurably, so calibrated "
            "probabilities stay near the training prevalence and decisions are close to chance"
        )
    if _separates(labels, probabilities):
        return (
            "out-of-fold probabilities separate the classes perfectly, so these rows cannot tell "
            "how sure the model may be; a ridge keeps calibrated probabilities away from 0 and 1"
        )
    if scaling.spread < _NARROW:
        return (
            f"the log-odds of uncalibrated probabilities spread by {scaling.spread:.3f} alone: the "
            "networks made too few steps to move from their start, and calibration stretches what "
            "little they learnt"
        )
    return ""


def _separates(labels: IntArray, probabilities: FloatArray) -> bool:
    """Whether every row of the second of two classes scores above all rows of the first."""
    if probabilities.shape[1] != 2 or len(np.unique(labels)) < 2:
        return False
    score = probabilities[:, 1]
    return bool(score[labels == 1].min() > score[labels == 0].max())
