"""A replayed search ends its trials and chooses as the search itself does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.replay import mean_of_last_three, replay_search
from outerfold.objectives.pruning import PRUNERS
from outerfold.storage.records import FloatArray
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.finish import best_trial
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job
from outerfold.study.worker.session import Session, open_session
from tests.factories import begin_run, make_config, make_rows

TRIALS, EPOCHS, STUDY = 8, 9, "outer-0"
"""Fewer than ten trials, so that the sampler draws the same ones whatever was pruned before."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


def searched(folder: Path, pruner: str) -> tuple[Session, list[Outcome]]:
    """Real search, trial by trial."""
    data, source = make_rows(patients=48, signal=0.4)
    config = make_config(trials=TRIALS, epochs=EPOCHS, patience_epochs=4, pruner=pruner)
    _, context = begin_run(folder, data, source, config)
    ended = [run_and_keep_job(Job(context, STUDY, number, "cpu")) for number in range(TRIALS)]
    return open_session(context), ended


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> list[FloatArray]:
    """Fold scores (epochs, folds) of every trial, trained until its patience ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outerfold.objectives.pruning.PairedPruner.prune", lambda *_: False)
        session, _ = searched(tmp_path_factory.mktemp("whole") / "run", "paired")
    return [np.array(trial.user_attrs["curve"]) for trial in session.study(STUDY).trials]


@pytest.mark.parametrize("pruner", sorted(PRUNERS))
def test_a_replay_repeats_a_real_search(
    curves: list[FloatArray], tmp_path: Path, pruner: str
) -> None:
    session, ended = searched(tmp_path / "run", pruner)
    best = best_trial(session.study(STUDY), STUDY)
    found = replay_search(curves, np.arange(TRIALS), PRUNERS[pruner](EPOCHS))
    assert found.epochs == sum(one.epochs for one in ended)
    assert found.complete == sum(one.state == "complete" for one in ended)
    assert (found.chosen, found.place) == (best.number, best.number)
    assert found.epoch == best.user_attrs["epochs"]
    assert (found.complete < TRIALS) is (pruner != "none")


def test_the_curves_end_by_patience_and_by_the_number_of_epochs(curves: list[FloatArray]) -> None:
    assert min(map(len, curves)) < EPOCHS == max(map(len, curves))


def test_the_place_is_that_in_the_order_and_the_number_that_of_the_curve() -> None:
    low, high = np.full((5, 2), 0.4), np.full((5, 2), 0.6)
    found = replay_search([low, high, low], np.array([2, 0, 1]), PRUNERS["none"](5))
    assert (found.chosen, found.place, found.complete, found.epochs) == (1, 2, 3, 15)


def test_a_mean_of_three_epochs_does_not_look_ahead() -> None:
    curve = np.array([[3.0, 0.0], [6.0, 3.0], [0.0, 0.0], [9.0, 3.0]])
    expected = [[3.0, 0.0], [4.5, 1.5], [3.0, 1.0], [5.0, 2.0]]
    np.testing.assert_allclose(mean_of_last_three(curve), expected)
