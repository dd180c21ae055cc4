"""Pruners and settings of them that are compared, by the names in the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from optuna import Study
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from outerfold.objectives.pruning import PRUNERS, PairedPruner

TODAY = "halving, rung at 1/20, factor 3"
"""Default for frozen heads."""
ALONE = "no search: the default configuration"


def halving(share: int, factor: int) -> Callable[[int], BasePruner]:
    """Successive halving whose first rung is at one ``share``-th of the epochs."""
    return lambda epochs: SuccessiveHalvingPruner(
        min_resource=max(1, epochs // share), reduction_factor=factor
    )


def median(startup: int, share: int) -> Callable[[int], BasePruner]:
    """Median pruning after ``startup`` trials and one ``share``-th of the epochs."""
    return lambda epochs: MedianPruner(startup, n_warmup_steps=max(1, epochs // share))


def paired(errors: float, first_epoch: int) -> Callable[[int], BasePruner]:
    """Paired pruning with these two numbers."""
    return lambda epochs: PairedPruner(errors=errors, first_epoch=first_epoch)


class FirstAlone(BasePruner):
    """Prune every trial but the first at once, so that nothing is searched."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether another trial is complete."""
        return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


WAYS: Mapping[str, Callable[[int], BasePruner]] = {
    "none": PRUNERS["none"],
    TODAY: PRUNERS["halving"],
    "halving, rung at 1/10, factor 2": halving(10, 2),
    "halving, rung at 1/10, factor 3": halving(10, 3),
    "halving, rung at 1/10, factor 4": halving(10, 4),
    "halving, rung at 1/5, factor 2": halving(5, 2),
    "halving, rung at 1/5, factor 3": halving(5, 3),
    "halving, rung at 1/3, factor 3": halving(3, 3),
    "hyperband": PRUNERS["hyperband"],
    "median, after 5 trials and 1/10": PRUNERS["median"],
    "median, after 5 trials and 1/3": median(5, 3),
    "paired, 0.5 errors from epoch 3": paired(0.5, 3),
    "paired, 1 error from epoch 2": paired(1.0, 2),
    "paired, 1 error from epoch 3": PRUNERS["paired"],
    "paired, 1 error from epoch 5": paired(1.0, 5),
    "paired, 1.5 errors from epoch 3": paired(1.5, 3),
    ALONE: lambda epochs: FirstAlone(),
}
