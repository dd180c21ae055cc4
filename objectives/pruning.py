"""Pruning, which stops a weak trial early: Optuna's pruners, set up for epochs from 1."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from optuna import Study
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from outerfold.objectives.choice import choose_trial, read_candidates
from outerfold.storage.records import FloatArray

FIRST_RUNG_SHARE = 20
"""Successive halving has its first rung after 1/20 of a trial's epochs. A first rung at 1/10
trained 1.4 to 1.5 times as many epochs, and its choice scored 0.0005 and 0.0025 higher on two data
sets, less than the errors (``benchmarks/search/pruners.md``)."""

WARM_UP_SHARE = 10
"""Hyperband has its first rung, and median pruning begins, after 1/10 of a trial's epochs."""

ERRORS_BEHIND, FIRST_EPOCH = 1.0, 3
"""Paired pruning stops a trial that is more than this number of standard errors behind, and not
before this epoch. On published curves of whole networks, the two were fixed in advance
(``benchmarks/search/published_curves.md``)."""

CURVE = "curve"
"""User attribute of a trial: its fold scores of every epoch, a list of lists (epochs, folds)."""


class PairedPruner(BasePruner):
    """Prune a trial that is behind the best complete trial by more than a paired standard error.

    Both trials are scored on the same inner folds, so the differences between their fold scores at
    the same epoch are paired, and what makes a fold easy or hard is in neither the mean difference
    nor its standard error. A complete trial that ended earlier is represented by its last epoch.
    A trial is never pruned while no trial is complete, with fewer than two folds (there is no
    standard error), or where a difference is not a number.

    It reads the fold scores from the user attribute ``CURVE`` of both trials. The idea of a race
    against the best candidate on the same blocks is that of Birattari et al. (2002), "A racing
    algorithm for configuring metaheuristics", GECCO.

    Args:
        errors: number of standard errors, at least 0.
        first_epoch: first epoch after which a trial may be pruned, from 1.
    """

    def __init__(self, *, errors: float = ERRORS_BEHIND, first_epoch: int = FIRST_EPOCH) -> None:
        self.errors, self.first_epoch = errors, first_epoch

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to be pruned after its last reported epoch.

        Raises:
            ValueError: the trials were scored on different numbers of folds.
        """
        curve = trial.user_attrs.get(CURVE, [])
        best = _best_complete(study)
        if best is None or CURVE not in best.user_attrs or len(curve) < max(1, self.first_epoch):
            return False
        other = best.user_attrs[CURVE]
        pairs = zip(other[min(len(curve), len(other)) - 1], curve[-1], strict=True)
        ahead = np.array([theirs - own for theirs, own in pairs])
        return self._is_ahead(ahead if _maximises(study) else -ahead)

    def _is_ahead(self, differences: FloatArray) -> bool:
        """Whether the mean of (folds,) differences exceeds 0 and the standard errors allowed."""
        if len(differences) < 2:
            return False
        error = float(differences.std(ddof=1)) / sqrt(len(differences))
        return float(differences.mean()) > self.errors * error  # False for NaN


class Unpruned(BasePruner):
    """Ask a pruner and never prune, so that what the pruner keeps of a trial is there for others.

    Args:
        pruner: the study's pruner. Halving keeps the rungs that a trial reached.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self.pruner = pruner

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return False."""
        self.pruner.prune(study, trial)
        return False


def compares_folds(pruner: BasePruner) -> bool:
    """Whether a pruner reads the fold scores of every epoch, which trials must then keep."""
    return isinstance(pruner.pruner if isinstance(pruner, Unpruned) else pruner, PairedPruner)


def _best_complete(study: Study) -> FrozenTrial | None:
    """Complete trial that a study would choose now; None if there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    chosen = choose_trial(read_candidates(complete), maximise=_maximises(study))
    return next((one for one in complete if chosen and one.number == chosen.number), None)


def _maximises(study: Study) -> bool:
    return study.direction == StudyDirection.MAXIMIZE


def _make_halving(epochs: int) -> BasePruner:
    return SuccessiveHalvingPruner(
        min_resource=max(1, epochs // FIRST_RUNG_SHARE), reduction_factor=3
    )


def _make_hyperband(epochs: int) -> BasePruner:
    first = max(1, epochs // WARM_UP_SHARE)
    return HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=3)


def _make_median(epochs: int) -> BasePruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // WARM_UP_SHARE))


def _make_paired(epochs: int) -> BasePruner:
    return PairedPruner()


def _make_none(epochs: int) -> BasePruner:
    return NopPruner()


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "halving": _make_halving,
    "hyperband": _make_hyperband,
    "median": _make_median,
    "none": _make_none,
    "paired": _make_paired,
}
"""Pruners by name; each function takes the largest number of epochs of a trial."""
