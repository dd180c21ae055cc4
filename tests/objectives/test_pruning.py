"""Pruners give up trials that are behind, at rungs counted in epochs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from outerfold.objectives.pruning import PRUNERS
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
    first = 3 if name == "halving" else 6
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
