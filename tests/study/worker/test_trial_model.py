"""The decision of a mean of networks is fitted on rows that two networks have not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines._base import TrainingDiverged
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.storage.records import FINAL, DataError, FloatArray, FoldResult
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker import finish as finishing
from outerfold.study.worker import session as sessions
from outerfold.study.worker.finish import best_trial, finish
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, open_session
from outerfold.study.worker.trial_model import TrialModel, make_model
from tests.factories import begin_run, make_config, make_rows

FOLD = "outer-0"
TASKS = {"multimodal": ("other", "cancer"), "dbt": ("a", "b", "c", "d")}


def searched(where: Path, study: str = FOLD, task: str = "multimodal", **options: Any) -> Session:
    """Session of a run one of whose studies has searched two trials."""
    open_session.cache_clear()
    quiet_optuna()
    data, source = make_rows(patients=48, images=2, signal=0.5, classes=TASKS[task])
    config = make_config(task, trials=2, **options)
    _, context = begin_run(where / "run", data, source, config)
    for number in range(config.trials):
        assert not run_and_keep_job(Job(context, study, number, "cpu")).trace
    return open_session(context)


def model(session: Session, second: InnerObjective | None) -> TrialModel:
    trial = best_trial(session.study(FOLD), FOLD)
    return make_model(session.objective(FOLD, "cpu"), trial, session.config, second=second)


def ended(session: Session) -> FoldResult:
    return finish(session, FOLD, "cpu")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("networks", [1, 2])
def test_it_is_fitted_on_the_mean_of_each_rows_two_scores(
    tmp_path: Path, task: str, networks: int
) -> None:
    session = searched(tmp_path, task=task, networks=networks)
    second = session.second_objective(FOLD, "cpu")
    made = model(session, second)
    trial = best_trial(session.study(FOLD), FOLD)
    again = second.replay(
        trial,
        epochs=trial.user_attrs["epochs"],
        length=trial.user_attrs["epochs"],
        networks=networks,
    )
    scores: dict[str, list[FloatArray]] = {row: [] for row in session.folds[FOLD].train}
    first = session.objective(FOLD, "cpu")
    for folds, found in (
        (first.folds, made.replay.probabilities),
        (second.folds, again.probabilities),
    ):
        for fold, own in zip(folds, found, strict=True):
            for row, score in zip(fold.val, own, strict=True):
                scores[row].append(score)
    assert {len(two) for two in scores.values()} == {2}
    rows = first.train.select(list(scores))
    expected = Decision.fit(
        rows.labels, np.array([np.mean(two, axis=0) for two in scores.values()])
    )
    assert made.decision.temperature == pytest.approx(expected.temperature)
    assert made.decision.shift == pytest.approx(expected.shift)
    assert made.decision.threshold == pytest.approx(expected.threshold)
    alone = model(session, None).decision
    assert made.decision.temperature != pytest.approx(alone.temperature, rel=1e-3)


def test_a_second_division_that_is_the_first_changes_nothing(tmp_path: Path) -> None:
    session = searched(tmp_path)
    first = session.objective(FOLD, "cpu")
    made = model(session, first.with_folds(first.folds))
    alone = model(session, None).decision
    assert made.decision.temperature == pytest.approx(alone.temperature, rel=1e-5)
    for own, again in zip(made.replay.probabilities, made.second, strict=True):
        np.testing.assert_allclose(own, again, atol=1e-6)


def test_the_second_networks_change_the_decision_and_no_network(tmp_path: Path) -> None:
    session = searched(tmp_path)
    with_second = model(session, session.second_objective(FOLD, "cpu"))
    without = model(session, None)
    assert without.decision != with_second.decision
    assert not without.second
    assert without.out_of_fold is without.replay.probabilities
    test = session.data.select(session.folds[FOLD].test).features
    np.testing.assert_array_equal(
        with_second.replay.fitted.predict_each(test), without.replay.fitted.predict_each(test)
    )


def test_validation_rows_are_the_scores_that_the_decision_was_fitted_on(tmp_path: Path) -> None:
    session = searched(tmp_path, networks=1)
    result, made = ended(session), model(session, session.second_objective(FOLD, "cpu"))
    np.testing.assert_allclose(
        result.validation.probabilities,
        made.decision.calibrate(np.concatenate(made.out_of_fold)),
        atol=1e-6,
    )
    assert result.scores_a_row == 2
    assert result.temperature == pytest.approx(made.decision.temperature)
    assert result.test is not None
    test = session.data.select(session.folds[FOLD].test).features
    np.testing.assert_allclose(
        result.test.probabilities, made.decision.calibrate(made.fitted.predict(test)), atol=1e-6
    )


def test_a_refit_trains_no_second_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = searched(tmp_path, final="refit", networks=2)

    def trained(*_: object, **__: object) -> None:
        raise AssertionError("a refit divided its rows again")

    monkeypatch.setattr(sessions, "divide_again", trained)
    result = ended(session)
    assert result.temperature == pytest.approx(model(session, None).decision.temperature)


def test_networks_that_diverge_leave_the_calibration_of_one_and_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = searched(tmp_path)

    def diverges(*_: object, **__: object) -> None:
        raise TrainingDiverged("the loss of second-0 is nan in epoch 1")

    monkeypatch.setattr(InnerObjective, "score_out_of_fold", diverges)
    result = ended(session)
    assert result.temperature == pytest.approx(model(session, None).decision.temperature)
    note = next(note for note in result.notes if "second division" in note)
    assert "nan in epoch 1" in note
    assert "less sure than it could be" in note
    assert result.scores_a_row == 1


def test_rows_that_cannot_be_divided_again_leave_the_calibration_of_one_and_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = searched(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise DataError("inner folds: no division of 5 patients into 4 folds")

    monkeypatch.setattr(sessions, "divide_again", refuse)
    result = ended(session)
    assert result.temperature == pytest.approx(model(session, None).decision.temperature)
    assert any("no second division of the training rows was found" in n for n in result.notes)


def test_a_search_that_is_not_nested_decides_by_the_rows_that_it_reports(tmp_path: Path) -> None:
    session = searched(
        tmp_path, FINAL, protocol="non-nested", inner_folds=4, networks=1, threshold="youden"
    )
    result = finish(session, FINAL, "cpu")
    assert result.scores_a_row == 1
    rows = result.validation
    score, positive = rows.probabilities[:, 1], rows.labels == 1
    gains = [
        (score[positive] >= cut).mean() + (score[~positive] < cut).mean()
        for cut in (*np.unique(score), result.threshold)
    ]
    assert gains[-1] == pytest.approx(max(gains))
    np.testing.assert_array_equal(rows.predicted, score >= result.threshold)


def test_a_default_whose_decision_was_fitted_in_another_way_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = searched(tmp_path, pruner="none")
    monkeypatch.setattr(finishing, "best_trial", lambda study, _: study.get_trials()[1])
    trained = InnerObjective.score_out_of_fold

    def only_the_default_diverges(self: InnerObjective, trial: Any, **given: Any) -> Any:
        if trial.number == 0:
            raise TrainingDiverged("nan")
        return trained(self, trial, **given)

    monkeypatch.setattr(InnerObjective, "score_out_of_fold", only_the_default_diverges)
    default = finish(session, FOLD, "cpu").default
    assert default is not None
    assert default.test is None
    assert "cannot be compared" in default.reason
