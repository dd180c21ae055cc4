"""Searches replayed from recorded learning curves, with any of Optuna's pruners and no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from outerfold.objectives.choice import choose_epoch
from outerfold.objectives.pruning import CURVE
from outerfold.storage.records import FloatArray, IntArray


@dataclass(frozen=True)
class Replayed:
    """Result of a replayed search.

    Attributes:
        epochs: number of epochs trained in all trials.
        complete: number of trials that were not pruned.
        chosen: index of the chosen configuration.
        place: place of the chosen configuration in the order, from 0.
        epoch: its best epoch, from 1.
    """

    epochs: int
    complete: int
    chosen: int
    place: int
    epoch: int


def as_they_are(curve: FloatArray) -> FloatArray:
    """Return the fold scores as they were measured."""
    return curve


def mean_of_last_three(curve: FloatArray) -> FloatArray:
    """Mean of each epoch and the two before it, (epochs, folds)."""
    return np.array([curve[max(0, i - 2) : i + 1].mean(0) for i in range(len(curve))])


def best_value(curve: FloatArray) -> tuple[int, float]:
    """Best epoch, from 1, and its smoothed fold mean.

    Args:
        curve: (epochs, folds) scores to maximise.
    """
    return choose_epoch(curve.mean(axis=1), maximise=True)


def replay_search(
    curves: Sequence[FloatArray],
    order: IntArray,
    pruner: BasePruner,
    *,
    shown: Callable[[FloatArray], FloatArray] = as_they_are,
) -> Replayed:
    """Replay a search with a pruner by the rules of ``InnerObjective``.

    The first trial is never pruned, so there is always a choice.

    Args:
        curves: for each configuration (epochs, folds) scores to maximise, up to the end that the
            number of epochs or the patience sets to a trial that is not pruned.
        order: (configurations,) order of the trials.
        pruner: the pruner.
        shown: what a pruner that compares folds is shown of the scores so far.
    """
    study = optuna.create_study(direction="maximize", pruner=pruner, study_name="outer-0")
    spent = complete = 0
    best = (-np.inf, 0, 0, 0)
    for place, number in enumerate(order.tolist()):
        length = _train(study, curves[number], shown(curves[number]))
        spent += length
        if length < len(curves[number]):
            continue
        complete += 1
        epoch, value = best_value(curves[number])
        if value > best[0]:
            best = value, number, place, epoch
    return Replayed(spent, complete, *best[1:])


def _train(study: optuna.Study, curve: FloatArray, seen: FloatArray) -> int:
    """Replay one trial and return the number of its epochs."""
    trial = study.ask()
    table = seen.tolist()
    for epoch, mean in enumerate(curve.mean(axis=1).tolist(), 1):
        trial.report(mean, epoch)
        trial.set_user_attr(CURVE, table[:epoch])
        if epoch < len(curve) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, best_value(curve)[1])
    return len(curve)
