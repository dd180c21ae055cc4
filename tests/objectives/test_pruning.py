"""Pruners give up trials that are behind, at rungs counted in epochs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import sem

from outerfold.objectives.pruning import CURVE, PRUNERS, PairedPruner
from outerfold.storage.records import FloatArray
from outerfold.study.config.record import PRUNER_NAMES


def trained(
    name: str, epochs: int, levels: list[float], *, direction: str = "maximize"
) -> list[tuple[TrialState, int]]:
    """How trials with these constant scores ended, and after how many epochs."""
    study = optuna.create_study(
        study_name="outer-0",  # hyperband deals its brackets by the name
        direction=direction,
        pruner=PRUNERS[name](epochs),
    )
    for level in levels:
        study.optimize(constant(level, epochs), n_trials=1)
    return [(trial.state, trial.last_step or 0) for trial in study.trials]


def constant(level: float, epochs: int) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        for epoch in range(1, epochs + 1):
            trial.report(level, epoch)
            trial.set_user_attr(CURVE, [[level, level]] * epoch)
            if epoch < epochs and trial.should_prune():
                raise optuna.TrialPruned
        return level

    return objective


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_the_command_line_offers_the_pruners_there_are() -> None:
    assert set(PRUNER_NAMES) == set(PRUNERS)


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 30, 100])
def test_every_pruner_works_for_any_number_of_epochs(name: str, epochs: int) -> None:
    ends = trained(name, epochs, [0.9, 0.8, 0.7, 0.6, 0.5])
    assert ends[0] == (TrialState.COMPLETE, epochs)


@pytest.mark.parametrize("name", sorted(set(PRUNERS) - {"none"}))
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_trial_that_is_behind_is_given_up_and_one_ahead_never_is(
    name: str, direction: str
) -> None:
    good, bad = (0.9, 0.1) if direction == "maximize" else (0.1, 0.9)
    levels = [good + i * 1e-3 * (1 if direction == "maximize" else -1) for i in range(9)]
    ends = trained(name, 60, [*levels, *[bad] * 9], direction=direction)
    assert {state for state, _ in ends[:9]} == {TrialState.COMPLETE}
    late = [epochs for state, epochs in ends[9:] if state == TrialState.PRUNED]
    assert len(late) >= 6, "hyperband's longest bracket prunes nothing early"
    first = 3 if name in ("halving", "paired") else 6
    assert min(late) >= first, "before a share of the epochs a fold mean says little"


def test_none_gives_up_nothing() -> None:
    ends = trained("none", 20, [0.9] * 5 + [0.1] * 5)
    assert set(ends) == {(TrialState.COMPLETE, 20)}


def test_halving_looks_at_a_twentieth_and_then_at_three_times_as_many_epochs() -> None:
    ends = trained("halving", 100, [0.5, 0.6, 0.7, 0.4, 0.3])
    assert ends == [
        (TrialState.COMPLETE, 100),
        (TrialState.COMPLETE, 100),
        (TrialState.COMPLETE, 100),
        (TrialState.PRUNED, 5),
        (TrialState.PRUNED, 5),
    ]


# -- paired -----------------------------------------------------------------------------------

Curve = Sequence[Sequence[float]]


def race(
    curves: Sequence[Curve], pruner: PairedPruner, *, direction: str = "maximize"
) -> list[int]:
    """Epochs (trials,) after which trials with these fold scores (epochs, folds) were pruned.

    It is 0 for a trial that was not; its value is the best mean, without smoothing.
    """
    study = optuna.create_study(direction=direction, pruner=pruner)
    best = max if direction == "maximize" else min

    def objective(trial: optuna.Trial) -> float:
        curve = curves[trial.number]
        for epoch in range(1, len(curve) + 1):
            trial.report(float(np.mean(curve[epoch - 1])), epoch)
            trial.set_user_attr(CURVE, [list(row) for row in curve[:epoch]])
            if epoch < len(curve) and trial.should_prune():
                raise optuna.TrialPruned
        return best(float(np.mean(row)) for row in curve)

    study.optimize(objective, n_trials=len(curves))
    return [(t.last_step or 0) * (t.state == TrialState.PRUNED) for t in study.trials]


def by_hand(curves: Sequence[Curve], errors: float, first: int, sign: int) -> list[int]:
    """The same by the standard error of scipy, in loops of its own."""
    ended, best, value = [], None, -np.inf
    for curve in map(np.array, curves):
        at = 0
        for epoch in range(first, len(curve)):
            if best is None:
                break
            ahead = sign * (best[min(epoch, len(best)) - 1] - curve[epoch - 1])
            if ahead.mean() > errors * sem(ahead):
                at = epoch
                break
        ended.append(at)
        if not at and (sign * curve.mean(1)).max() > value:
            best, value = curve, (sign * curve.mean(1)).max()
    return ended


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("errors", "first"), [(1.0, 3), (0.0, 1), (2.0, 2), (0.5, 5)])
def test_paired_pruning_is_what_a_second_implementation_does(
    direction: str, errors: float, first: int
) -> None:
    rng = np.random.default_rng(7)
    curves = [
        (rng.normal() * 0.1 + rng.normal(size=(int(rng.integers(4, 12)), 4)) * 0.2 + 0.6).tolist()
        for _ in range(60)
    ]
    ends = race(curves, PairedPruner(errors=errors, first_epoch=first), direction=direction)
    assert ends == by_hand(curves, errors, first, 1 if direction == "maximize" else -1)
    assert 5 < np.count_nonzero(ends) < 60
    assert len(set(ends)) >= 3, "trials are pruned at several epochs"


def test_paired_pruning_compares_folds_and_not_means() -> None:
    """All means are the same; an easy and a hard fold hide nothing in pairs."""
    best = [[0.9, 0.5]] * 6
    behind_in_both, behind_in_one = [[0.88, 0.48]] * 6, [[0.96, 0.4]] * 6
    assert race([best, behind_in_both], PairedPruner()) == [0, 3]
    assert race([best, behind_in_one], PairedPruner()) == [0, 0]


def test_paired_pruning_spares_a_trial_that_is_as_good_and_one_that_catches_up_in_time() -> None:
    best = [[0.5 + 0.01 * epoch] * 3 for epoch in range(8)]
    late = [[0.1] * 3, [0.2] * 3, *best[2:]]
    assert race([best, best, late], PairedPruner()) == [0, 0, 0]
    assert race([best, late], PairedPruner(first_epoch=2)) == [0, 2]


def test_the_trial_to_beat_is_the_best_complete_one_and_it_may_change() -> None:
    low, middle, high = [[0.3, 0.3]] * 5, [[0.6, 0.6]] * 5, [[0.9, 0.9]] * 5
    assert race([middle, low, high, middle], PairedPruner()) == [0, 3, 0, 3]


def test_a_best_trial_that_ended_earlier_stands_for_its_last_epoch() -> None:
    best, rising = [[0.6, 0.6]] * 3, [[0.6, 0.6]] * 3 + [[0.5, 0.5]] + [[0.7, 0.7]] * 2
    assert race([best, rising], PairedPruner()) == [0, 4]


@pytest.mark.parametrize(
    ("best", "scores", "pruned"),
    [
        ([0.9, 0.9], [0.1, 0.1], True),
        ([0.9], [0.1], False),
        ([0.9, 0.9], [0.1, np.nan], False),
        ([0.9, np.nan], [0.1, 0.1], False),
    ],
    ids=["two folds", "one fold", "no number", "no number to compare with"],
)
def test_without_a_standard_error_nothing_is_pruned(
    best: list[float], scores: list[float], pruned: bool
) -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial_with([best] * 6))
    assert PairedPruner().prune(study, trial_with([scores] * 6)) is pruned


def test_a_best_trial_without_fold_scores_prunes_nothing() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=0.9))
    assert not PairedPruner().prune(study, trial_with([[0.1, 0.1]] * 6))


@pytest.mark.parametrize("folds", [1, 3])
def test_trials_of_different_numbers_of_folds_are_refused(folds: int) -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial_with([[0.9] * folds] * 6))
    with pytest.raises(ValueError, match="argument 2 is"):
        PairedPruner().prune(study, trial_with([[0.1, 0.1]] * 6))


def trial_with(curve: Curve) -> FrozenTrial:
    means: FloatArray = np.array(curve).mean(axis=1)
    return optuna.trial.create_trial(
        value=float(np.nan_to_num(means, nan=0.5).max()), user_attrs={CURVE: curve}
    )
