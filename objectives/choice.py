"""Choice of the epoch of a training, and of the trial of a study: the best mean over folds.

Every place that needs a winner asks here: the end of a study, its optimism, ``--patience`` and the
live display. Other rules were tried (``benchmarks/models/operating_point.py`` has them): the
smallest log loss, at all or among scores within a standard error of the best, more smoothing, the
median of folds. In sixteen studies, pooled over three data sets, none was told apart from this one
by the Brier score of the folds' mean on patients that no model saw, so the simplest one stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from outerfold.storage.records import FloatArray

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SMOOTHING = 3
"""Number of epochs averaged before the best epoch is chosen; the largest of many noisy values is
too high."""
REACH = SMOOTHING // 2
"""Number of epochs after an epoch that its smoothed mean waits for."""


class Candidate(NamedTuple):
    """Complete trial: its number and its value, in the metric's unit."""

    number: int
    value: float


def choose_epoch(means: FloatArray, *, maximise: bool) -> tuple[int, float]:
    """Best epoch, from 1, and its smoothed mean over folds; of equal ones the first.

    Args:
        means: (epochs,) mean over folds.
        maximise: whether a higher mean is better.

    Example:
        >>> epoch, value = choose_epoch(np.array([0.1, 0.9, 0.2, 0.6, 0.6, 0.6]), maximise=True)
        >>> epoch, round(value, 3)
        (5, 0.6)
    """
    smooth = smoothed(means)
    best = int(smooth.argmax() if maximise else smooth.argmin())
    return best + 1, float(smooth[best])


class OpenEpochs:
    """Epochs of a running training that ``choose_epoch`` may still choose when it ends.

    The smoothed mean of an epoch is settled once ``REACH`` more epochs are trained. So the open
    epochs are the best of the settled ones and the latest, which are not settled.

    Example:
        >>> epochs = OpenEpochs(maximise=True)
        >>> [sorted(epochs.add(mean)) for mean in (0.5, 0.6, 0.9, 0.8)]
        [[1], [1, 2], [2, 3], [3, 4]]
    """

    def __init__(self, *, maximise: bool) -> None:
        self._sign = 1 if maximise else -1
        self._means: list[float] = []
        self._best: tuple[int, float] | None = None

    def add(self, mean: float) -> set[int]:
        """Add the mean over folds of the next epoch; return the open epochs, from 1."""
        self._means.append(mean)
        settled = len(self._means) - REACH
        if settled > 0:
            value = _mean_around(np.array(self._means), settled - 1)
            if self._best is None or self._sign * value > self._sign * self._best[1]:
                self._best = settled, value
        open_epochs = set(range(max(0, settled) + 1, len(self._means) + 1))
        return open_epochs if self._best is None else open_epochs | {self._best[0]}


def choose_trial(candidates: Sequence[Candidate], *, maximise: bool) -> Candidate | None:
    """Trial with the best value; of equal ones the first; None without a complete trial.

    Example:
        >>> choose_trial([Candidate(0, 0.7), Candidate(3, 0.8), Candidate(5, 0.8)], maximise=True)
        Candidate(number=3, value=0.8)
    """
    sign = 1 if maximise else -1
    return max(candidates, key=lambda one: (sign * one.value, -one.number), default=None)


def best_candidate(study: Study) -> Candidate | None:
    """Trial that the end of a study would choose if it came now; None without a complete trial."""
    maximise = study.direction.name == "MAXIMIZE"
    return choose_trial(read_candidates(study.get_trials(deepcopy=False)), maximise=maximise)


def read_candidates(trials: Iterable[FrozenTrial]) -> list[Candidate]:
    """Complete trials among ``trials``."""
    return [
        Candidate(trial.number, trial.value)
        for trial in trials
        if trial.state.name == "COMPLETE" and trial.value is not None
    ]


def smoothed(curve: FloatArray) -> FloatArray:
    """Centred mean (epochs,) over ``SMOOTHING`` epochs, over fewer at both ends.

    Args:
        curve: (epochs,) mean over folds.
    """
    return np.array([_mean_around(curve, at) for at in range(len(curve))])


def _mean_around(curve: FloatArray, at: int) -> float:
    return float(curve[max(0, at - REACH) : at + REACH + 1].mean())
