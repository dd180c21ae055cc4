"""The default configuration is trial 0, is never pruned, is scored last, and chooses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from outerfold.objectives import pruning, spaces
from outerfold.objectives.default import Default
from outerfold.objectives.metrics import METRICS
from outerfold.reports.results.results import results
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.records import FINAL, DefaultResult, Predictions
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import MANIFEST, MARK
from outerfold.storage.runs.results import read_result
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker import finish as finishing
from outerfold.study.worker.finish import end_trial, finish
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows, splits_of

FOLD = "outer-1"
OWN_FILES = {"default.json", "predictions_default.csv", "variation_default.csv"}


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


def searched(
    path: Path, config: StudyConfig, studies: Sequence[str] = (FOLD,), *, signal: float = 0.3
) -> Session:
    """A run whose studies have had all their trials, and no end."""
    data, source = make_rows(patients=48, images=2, signal=signal)
    _, context = begin_run(path, data, source, config)
    for name in studies:
        for number in range(config.trials):
            run(context, name, number)
    return open_session(context)


def run(context: WorkerContext, study: str, number: int | None) -> Outcome:
    outcome = run_and_keep_job(Job(context, study, number, "cpu"))
    assert not outcome.trace, outcome.trace
    return outcome


def kept(session: Session, study: str = FOLD) -> DefaultResult:
    found = read_result(session.folder, study, session.data.classes).default
    assert found is not None
    return found


def files(folder: RunFolder, study: str) -> dict[str, bytes]:
    found = folder.study(study).iterdir()
    return {path.name: path.read_bytes() for path in found if path.name != "recordings"}


def planted(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setitem(spaces.MULTIMODAL_DEFAULT, name, value)


# -- trial 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_the_first_trial_of_every_study_has_the_defaults_parameters(
    tmp_path: Path, task: str
) -> None:
    config = make_config(task, trials=2, inner_folds=2, outer_folds=2)
    data, source = make_rows(patients=48, images=2)
    _, context = begin_run(tmp_path / "run", data, source, config)
    for name in ("outer-0", "outer-1", FINAL):
        for number in range(config.trials):
            run(context, name, number)
        first, second = Session(context).study(name).get_trials()
        expected = {
            **first.params,
            **spaces.defaults_of(task),
            "batch_size": 32,
        }  # fixed by the run
        assert first.params == {name: expected[name] for name in first.params}
        assert first.state == TrialState.COMPLETE
        assert second.params != first.params
        pipeline = open_session(context).space(FixedTrial(first.params))
        assert pipeline.learning_rate == 1e-3  # type: ignore[attr-defined]


def test_the_sampler_learns_from_the_default(tmp_path: Path) -> None:
    """After its ten random trials TPE suggests another point had trial 0 been the best of them."""
    config = make_config(trials=10, epochs=1, networks=1, inner_folds=2, pruner="none")
    session = searched(tmp_path / "run", config)
    first, *others = session.study(FOLD).get_trials()
    suggested = []
    for value in (0.0, 1.0):
        sampler = session.study(FOLD, 10).sampler
        study = optuna.create_study(direction="maximize", sampler=sampler)
        scored = optuna.trial.create_trial(
            value=value, params=first.params, distributions=first.distributions
        )
        study.add_trials([scored, *others])
        trial = study.ask()
        session.space(trial)
        suggested.append(trial.params)
    assert suggested[0] != suggested[1]


class PrunesAll(optuna.pruners.BasePruner):
    """Gives up every trial after its first epoch."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return True


def test_the_default_is_not_pruned_where_the_pruner_prunes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pruning.PRUNERS, "median", lambda epochs: PrunesAll())
    config = make_config(trials=3, pruner="median", patience_epochs=6)
    session = searched(tmp_path / "run", config)
    first, *others = session.study(FOLD).get_trials()
    assert (first.state, first.last_step) == (TrialState.COMPLETE, config.epochs)
    assert {(trial.state, trial.last_step) for trial in others} == {(TrialState.PRUNED, 1)}


def test_the_default_leaves_the_rungs_of_halving_behind(tmp_path: Path) -> None:
    """Else the next trial would be the first at every rung, and never pruned either."""
    session = searched(tmp_path / "run", make_config(trials=1, pruner="halving"))
    (first,) = session.study(FOLD).get_trials()
    assert any(name.startswith("completed_rung") for name in first.system_attrs)


def test_patience_over_epochs_may_end_the_default(tmp_path: Path) -> None:
    config = make_config(trials=1, epochs=60, patience_epochs=1)
    (first,) = searched(tmp_path / "run", config).study(FOLD).get_trials()
    assert first.user_attrs["length"] < 60


def test_a_search_that_cannot_draw_the_default_begins_at_random_and_says_why(
    tmp_path: Path,
) -> None:
    space = {"batch_size": {"values": [32]}, "dropout": {"low": 0.4, "high": 0.6}}
    session = searched(tmp_path / "run", make_config(trials=2, space=space))
    run(session.context, FOLD, None)
    assert 0.4 <= session.study(FOLD).get_trials()[0].params["dropout"] <= 0.6
    assert not isinstance(session.study_as_seen(FOLD, 0).pruner, pruning.Unpruned)
    found = kept(session)
    assert (found.params, found.chosen, found.test) == ({}, False, None)
    assert found.reason == (
        "the search draws dropout from 0.4 to 0.6, and the default configuration has 0.3"
    )


# -- the end -----------------------------------------------------------------------------------


def with_another_winner(path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Session:
    """A finished search whose default has hardly learnt and so has lost on the inner folds."""
    planted(monkeypatch, learning_rate=1e-7)
    space = {
        "batch_size": {"values": [32]},
        "learning_rate": {"low": 1e-7, "high": 3e-2, "log": True},
    }
    session = searched(path, make_config(space=space, **changes), signal=1.0)
    assert finishing.best_trial(session.study(FOLD), FOLD).number > 0
    return session


def test_the_default_is_refitted_and_scored_as_the_winner_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = with_another_winner(tmp_path / "run", monkeypatch)
    result = finish(session, FOLD, "cpu")
    found = kept(session)
    assert result.test is not None
    assert found.test is not None
    assert found.test.ids.tolist() == result.test.ids.tolist()
    assert found.test.fold.tolist() == result.test.fold.tolist()
    assert (found.chosen, found.reason) == (False, "")
    trial = session.study(FOLD).get_trials()[0]
    refitted, test, _ = end_trial(session, FOLD, trial, "cpu")
    assert test is not None
    assert found.params == trial.params
    assert found.epochs == refitted.replay.epochs
    np.testing.assert_array_equal(found.test.probabilities, test.probabilities)
    own = (test.probabilities[:, 1] >= (refitted.decision.threshold or 0)).astype(int)
    np.testing.assert_array_equal(found.test.predicted, own)
    assert refitted.decision.temperature != result.temperature


def test_a_default_that_is_best_on_the_test_rows_chooses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of the test rows are turned round, so what has learnt least scores best there."""
    planted(monkeypatch, learning_rate=1e-7)
    space = {
        "batch_size": {"values": [32]},
        "learning_rate": {"low": 1e-7, "high": 3e-2, "log": True},
    }
    config = make_config(space=space, outer_folds=2, networks=1)
    data, source = make_rows(patients=48, images=2, signal=1.0)
    splits = splits_of(data, config)
    test = next(fold for fold in splits.outer if fold.name == FOLD).test
    labels = data.labels.copy()
    at = data.features.positions(test)
    labels[at] = 1 - labels[at]
    _, context = begin_run(tmp_path / "run", replace(data, labels=labels), source, config, splits)
    for number in range(config.trials):
        run(context, FOLD, number)
    session = open_session(context)
    ended = finish(session, FOLD, "cpu")
    with_default = files(session.folder, FOLD)
    tuned, default = ended.test, kept(session).test
    assert score(default) > score(tuned) + 0.2
    session.default = Default(reason="none")
    assert session.study(FOLD).get_trials()[0].value < ended.inner_score  # type: ignore[operator]
    finish(session, FOLD, "cpu")
    without = files(session.folder, FOLD)
    assert set(with_default) >= OWN_FILES | {"best.json", "model.pt", "predictions.csv"}
    assert differing(with_default, without) <= OWN_FILES | {MANIFEST}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {name for name in one | other if one.get(name) != other.get(name)}


def score(rows: Predictions | None) -> float:
    assert rows is not None
    return float(METRICS["roc_auc"].score(rows.labels, rows.probabilities))


def test_a_run_differs_in_nothing_but_the_worth_from_one_that_ended_no_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = ("outer-0", "outer-1", FINAL)
    config = make_config(trials=3, outer_folds=2, inner_folds=2, networks=1)
    session = searched(tmp_path / "run", config, studies)
    told, kept_files = [], []
    for default in (session.default, Default(reason="none")):
        session.default = default
        for name in studies:
            finish(session, name, "cpu")
        write_json(session.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
        numbers = results(read_kept_run(session.folder))
        assert (numbers.pop("worth")["reason"] is None) == bool(default.params)
        for fold in numbers["outer"]:
            fold.pop("default")
        told.append(numbers)
        kept_files.append(files(session.folder, FINAL))
    assert told[0] == told[1]
    assert differing(*kept_files) == {"default.json", MANIFEST}


def test_nothing_is_trained_again_where_the_default_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = searched(tmp_path / "run", make_config(trials=1, networks=1), (FOLD, FINAL))
    made: list[int] = []
    honest = finishing.make_model

    def counted(*given: Any) -> Any:
        made.append(1)
        return honest(*given)

    monkeypatch.setattr(finishing, "make_model", counted)
    for name in (FOLD, FINAL):
        finish(session, name, "cpu")
        found = kept(session, name)
        assert (found.chosen, found.test, found.reason) == (True, None, "")
        assert "predictions_default.csv" not in files(session.folder, name)
    assert len(made) == 2


def test_the_final_study_ends_no_default_and_says_whether_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, learning_rate=1e-7)
    space = {
        "batch_size": {"values": [32]},
        "learning_rate": {"low": 1e-7, "high": 3e-2, "log": True},
    }
    session = searched(tmp_path / "run", make_config(space=space, networks=1), (FINAL,), signal=1.0)
    monkeypatch.setattr(finishing, "make_model", _once(finishing.make_model))
    finish(session, FINAL, "cpu")
    found = kept(session, FINAL)
    assert (found.chosen, found.test, found.reason) == (False, None, "")
    assert found.params["learning_rate"] == 1e-7


def _once(honest: Any) -> Any:
    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        assert len(calls) == 1
        return honest(*given)

    return counted


def test_a_default_whose_trial_failed_has_no_result_and_says_why(tmp_path: Path) -> None:
    data, source = make_rows(patients=48, images=2, signal=0.3)
    config = make_config(trials=2)
    _, context = begin_run(tmp_path / "run", data, source, config)
    session = open_session(context)
    trial = session.study_as_seen(FOLD, 0).ask()
    session.space(trial)
    failed = optuna.trial.create_trial(
        state=TrialState.FAIL,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={"failure": "TrainingDiverged: epoch 1"},
    )
    session.study(FOLD).add_trial(failed)
    for number in (1, None):
        run(context, FOLD, number)
    found = kept(session)
    assert (found.chosen, found.test) == (False, None)
    assert found.reason == (
        f"the default configuration's trial of {FOLD} was not completed: TrainingDiverged: epoch 1"
    )


def test_a_run_of_an_earlier_version_is_read_without_a_default(tmp_path: Path) -> None:
    config = make_config(trials=2, outer_folds=2, inner_folds=2, networks=1)
    session = searched(tmp_path / "run", config, ("outer-0", "outer-1"))
    for name in ("outer-0", "outer-1"):
        finish(session, name, "cpu")
        for own in (*OWN_FILES, MANIFEST):
            (session.folder.study(name) / own).unlink(missing_ok=True)
        best = session.folder.study(name) / "best.json"
        write_json(best, {key: v for key, v in read_json(best).items() if key != MARK})
    write_json(session.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    read = read_kept_run(session.folder)
    assert [study.default for study in read.outer] == [None, None]
    worth = results(read)["worth"]
    assert worth["overall"] == {}
    assert worth["reason"].startswith("an earlier version of outerfold made the run")


def test_both_tables_of_a_fold_have_the_same_rows_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = with_another_winner(tmp_path / "run", monkeypatch, networks=1)
    finish(session, FOLD, "cpu")
    tables = [
        (session.folder.study(FOLD) / name).read_text().splitlines()
        for name in ("predictions.csv", "predictions_default.csv")
    ]
    first, second = ([line.split(",")[:5] for line in table] for table in tables)
    assert first == second
    assert tables[0] != tables[1]
