"""The outer test side influences nothing about the model that scores it.

Every test runs a study twice: on the data as they are, and with labels, images and columns of one
outer fold's test rows replaced by noise. What the study did must be equal to the last bit. Planted
leaks then show that the comparison can fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import optuna
import pytest

from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.heads.losses import effective_number_alpha
from outerfold.pipelines.rows import training_rows
from outerfold.pipelines.rows.resample import resample
from outerfold.pipelines.rows.training_rows import Scaler
from outerfold.pipelines.training import heads
from outerfold.storage.records import Dataset, Fold, LeakError, OuterFold, TrainSide
from outerfold.study.config.record import StudyConfig
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.splits import Splits
from outerfold.study.worker import finish as finishing
from outerfold.study.worker import jobs, trial_model
from outerfold.study.worker import session as sessions
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session
from tests.factories import ArraySource, begin_run, make_config, make_rows, scrambled, splits_of

FOLD = "outer-1"
TASKS = ("multimodal", "dbt")
CLASSES = {"multimodal": ("other", "cancer"), "dbt": ("normal", "actionable", "benign", "cancer")}


def rows_of(task: str, signal: float = 0.3) -> tuple[Dataset, ArraySource]:
    """Rows hard enough for configurations to differ on them."""
    return make_rows(patients=48, images=2, classes=CLASSES[task], signal=signal)


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    sessions.open_session.cache_clear()
    quiet_optuna()


def what_a_study_did(
    path: Path, data: Dataset, source: ArraySource, config: StudyConfig, splits: Splits
) -> dict[str, Any]:
    """Search and refit ``FOLD``; everything that was decided before its test rows were scored."""
    sessions.open_session.cache_clear()
    prepared, context = begin_run(path / "run", data, source, config, splits)
    for number in [*range(config.trials), None]:
        outcome = run_and_keep_job(Job(context, FOLD, number, "cpu"))
        assert not outcome.trace, outcome.trace
    trials = Session(context).study(FOLD).get_trials()
    best, default = (
        json.loads((prepared.folder.study(FOLD) / name).read_text())
        for name in ("best.json", "default.json")
    )
    return {
        "trials": [
            (t.number, t.state.name, t.params, t.values, t.intermediate_values, t.user_attrs)
            for t in trials
        ],
        **{key: best[key] for key in ("params", "epochs", "inner_score", "temperature", "shift")},
        "threshold": best["threshold"],
        "resampled": best["resampled"],
        "history": (prepared.folder.study(FOLD) / "history.csv").read_text(),
        "validation": (prepared.folder.study(FOLD) / "validation.csv").read_text(),
        "weights": (prepared.folder.study(FOLD) / "model.pt").read_bytes(),
        "default": default,
    }


def what_differs(tmp_path: Path, task: str, **changes: Any) -> list[str]:
    """Keys of what a study did that change when its test side is replaced by noise."""
    data, source = rows_of(task)
    config = make_config(task, **changes)
    splits = splits_of(data, config)
    test = next(fold for fold in splits.outer if fold.name == FOLD).test
    noisy, noise = scrambled(data, source, test)
    plain = what_a_study_did(tmp_path / "plain", data, source, config, splits)
    other = what_a_study_did(tmp_path / "noisy", noisy, noise, config, splits)
    return [key for key in plain if plain[key] != other[key]]


def search_alone_and_beside_others(tmp_path: Path) -> tuple[bool, bool]:
    """Whether ``FOLD`` draws the same parameters, and ends its trials alike, beside other folds."""
    data, source = rows_of("multimodal")
    config = make_config(trials=6)
    splits = splits_of(data, config)
    searches = []
    for names in ((FOLD,), ("outer-0", FOLD, "final")):
        sessions.open_session.cache_clear()
        path = tmp_path / f"{len(names)}" / "run"
        _, context = begin_run(path, data, source, config, splits)
        for number in range(config.trials):
            for name in names:
                outcome = run_and_keep_job(Job(context, name, number, "cpu"))
                assert not outcome.trace, outcome.trace
        searches.append(Session(context).study(FOLD).get_trials())
    alone, beside = searches
    return (
        [t.params for t in alone] == [t.params for t in beside],
        [(t.state, t.values, t.intermediate_values) for t in alone]
        == [(t.state, t.values, t.intermediate_values) for t in beside],
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pruner", ["halving", "median"])
def test_search_refit_and_decision_ignore_the_test_side(
    tmp_path: Path, task: str, pruner: str
) -> None:
    assert what_differs(tmp_path, task, trials=8, pruner=pruner) == []


@pytest.mark.parametrize("task", TASKS)
def test_recorded_trials_ignore_the_test_side(tmp_path: Path, task: str) -> None:
    """With one network a fold, the model is what the winner's worker kept of its training."""
    assert what_differs(tmp_path, task, trials=4, networks=1) == []


@pytest.mark.parametrize("sampler", ["none", "weighted", "over", "smote", "smote_tomek"])
def test_every_sampler_ignores_the_test_side(tmp_path: Path, sampler: str) -> None:
    space = {"sampler": {"values": [sampler]}, "batch_size": {"values": [32]}}
    assert what_differs(tmp_path, "multimodal", trials=2, space=space) == []


def test_search_of_one_fold_ignores_what_other_folds_searched(tmp_path: Path) -> None:
    assert search_alone_and_beside_others(tmp_path) == (True, True)


def test_the_noise_does_reach_the_test_scores(tmp_path: Path) -> None:
    """Else the comparisons above would hold for a study that reads nothing at all."""
    data, source = rows_of("multimodal")
    config = make_config()
    splits = splits_of(data, config)
    test = next(fold for fold in splits.outer if fold.name == FOLD).test
    tables = []
    for name, (rows, images) in {
        "plain": (data, source),
        "noisy": scrambled(data, source, test),
    }.items():
        what_a_study_did(tmp_path / name, rows, images, config, splits)
        tables.append((tmp_path / name / "run" / FOLD / "predictions.csv").read_text())
    assert tables[0] != tables[1]


# Planted leaks: each must be caught.


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """Whole tables of the sessions opened so far: what a planted leak steals from."""
    tables: list[Dataset] = []
    honest = sessions.Session.__init__

    def remember(self: Any, context: Any) -> None:
        honest(self, context)
        tables.append(self.data)

    monkeypatch.setattr(sessions.Session, "__init__", remember)
    return tables


def test_planted_scaler_fitted_on_all_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = training_rows.TrainingRows._fold_rows

    def leaky(self: Any, fold: Fold) -> Any:
        everything = self.source.pooled(self.source.ids)
        return replace(honest(self, fold), scaler=Scaler.fit(everything))

    monkeypatch.setattr(training_rows.TrainingRows, "_fold_rows", leaky)
    assert "trials" in what_differs(tmp_path, "multimodal")


def test_planted_encoder_fitted_on_all_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Dataset]
) -> None:
    fit = training_rows.TabularColumns.fit
    monkeypatch.setattr(
        training_rows.TabularColumns,
        "fit",
        classmethod(lambda cls, columns, tabular: fit(columns, seen[-1].features.tabular)),
    )
    assert "trials" in what_differs(tmp_path, "multimodal")


def test_planted_imputer_fitted_on_all_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Dataset]
) -> None:
    """Only what stands for a missing value comes from all rows."""
    fit = training_rows.TabularColumns.fit

    def leaky(cls: Any, columns: Any, tabular: Any) -> Any:
        pairs = zip(
            fit(columns, tabular).columns,
            fit(columns, seen[-1].features.tabular).columns,
            strict=True,
        )
        return cls(tuple(replace(own, fill=everyone.fill) for own, everyone in pairs))

    monkeypatch.setattr(training_rows.TabularColumns, "fit", classmethod(leaky))
    assert "trials" in what_differs(tmp_path, "multimodal")


def test_planted_resampling_before_the_split_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(sampler: str, inputs: Any, labels: Any, *, seed: int) -> Any:
        everything = source.pooled(source.ids)
        extra = np.zeros((len(everything), inputs.shape[1]), dtype=np.float32)
        extra[:, : everything.shape[1]] = everything
        made = resample("none", inputs, labels, seed=seed)
        return replace(made, synthetic=extra, labels=np.concatenate([made.labels, seen[-1].labels]))

    seen: list[Dataset] = []
    honest = sessions.Session.__init__
    source: ArraySource

    def remember(self: Any, context: Any) -> None:
        nonlocal source
        honest(self, context)
        seen.append(self.data)
        source = context.embeddings

    monkeypatch.setattr(sessions.Session, "__init__", remember)
    monkeypatch.setattr(training_rows, "resample", leaky)
    space = {"batch_size": {"values": [32]}, "sampler": {"values": ["smote"]}}
    assert "trials" in what_differs(tmp_path, "multimodal", space=space)


def test_planted_alpha_from_all_rows_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[Dataset]
) -> None:
    def leaky(counts: Any, beta: float) -> Any:
        return effective_number_alpha(np.bincount(seen[-1].labels).astype(float), 0.999)

    monkeypatch.setattr(heads, "effective_number_alpha", leaky)
    assert "trials" in what_differs(tmp_path, "multimodal")


def plant_in_finish(
    patch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    leak: Callable[[Any, Session, str, Dataset], Any],
) -> None:
    """While a study is closed, ``leak(honest, session, fold, test rows)`` stands for ``name``."""
    finish, honest = finishing.finish, getattr(owner, name)

    def leaky(session: Session, fold: str, device: str) -> Any:
        test = session.data.select(session.folds[fold].test)
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(owner, name, leak(honest, session, fold, test))
            return finish(session, fold, device)

    patch.setattr(jobs, "finish", leaky)


def test_planted_winner_chosen_on_the_test_side_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial is refitted and scored on the test rows, and the best of those is taken."""

    def leak(honest: Any, session: Session, fold: str, test: Dataset) -> Any:
        def flattering(searched: optuna.Study, _: str) -> optuna.trial.FrozenTrial:
            complete = [t for t in searched.get_trials() if t.value is not None and t.user_attrs]
            scores = []
            for trial in complete:
                objective = session.objective(fold, "cpu")
                chosen = finishing.make_model(objective, trial, session.config)
                scores.append(
                    objective.metric.score(test.labels, chosen.fitted.predict(test.features))
                )
            return complete[int(np.argmax(scores))]

        return flattering

    plant_in_finish(monkeypatch, finishing, "best_trial", leak)
    differs = what_differs(tmp_path, "multimodal", trials=8, pruner="none", networks=1)
    assert "trials" not in differs
    assert "params" in differs


def test_planted_threshold_from_the_test_side_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(honest: Any, session: Session, fold: str, test: Dataset) -> Any:
        def flattering(labels: Any, probabilities: Any, **rule: Any) -> Any:
            found = honest(labels, probabilities, **rule)
            score = session.embeddings.pooled(test.ids.tolist())[:, 0]
            return replace(found, threshold=float(np.median(score[test.labels == 1])))

        return staticmethod(flattering)

    plant_in_finish(monkeypatch, finishing.Decision, "fit", leak)
    assert "threshold" in what_differs(tmp_path, "multimodal")


def test_planted_temperature_from_the_test_side_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(honest: Any, session: Session, fold: str, test: Dataset) -> Any:
        def flattering(*given: Any) -> Any:
            chosen = honest(*given)
            scores = chosen.fitted.predict(test.features)
            return replace(chosen, decision=Decision.fit(test.labels, scores))

        return flattering

    plant_in_finish(monkeypatch, finishing, "make_model", leak)
    differs = what_differs(tmp_path, "multimodal")
    assert {"temperature", "threshold"} <= set(differs)
    assert "weights" not in differs


def test_planted_epoch_chosen_on_the_test_side_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refit is scored on the test rows after every epoch, and stopped at the best."""

    def leak(honest: Any, session: Session, fold: str, test: Dataset) -> Any:
        def flattering(objective: InnerObjective, trial: Any, epochs: int, networks: int) -> Any:
            tried = {
                n: honest(objective, trial, n, networks)
                for n in range(1, session.config.epochs + 1)
            }
            score = objective.metric.score
            return tried[
                max(tried, key=lambda n: score(test.labels, predicted(tried[n], test.features)))
            ]

        return flattering

    plant_in_finish(monkeypatch, trial_model, "refit", leak)
    assert "weights" in what_differs(tmp_path, "multimodal", networks=1, seed=1, final="refit")


def test_planted_epoch_of_the_folds_networks_chosen_on_the_test_side_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the folds' networks is scored on the test rows after every epoch."""

    def leak(honest: Any, session: Session, fold: str, test: Dataset) -> Any:
        def flattering(objective: InnerObjective, trial: Any, **how: Any) -> Any:
            tried = [
                honest(objective, trial, **{**how, "epochs": n})
                for n in range(1, how["length"] + 1)
            ]
            score = objective.metric.score
            return max(tried, key=lambda one: score(test.labels, one.fitted.predict(test.features)))

        return flattering

    plant_in_finish(monkeypatch, InnerObjective, "replay", leak)
    assert "weights" in what_differs(tmp_path, "multimodal", seed=1)


def predicted(training: Any, features: Any) -> Any:
    return training.fitted(0).predict(features)


def test_planted_warm_start_from_another_fold_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search begins with the parameters that another outer fold likes best so far."""
    honest = sessions.Session.study_as_seen

    def leaky(self: Session, name: str, number: int) -> optuna.Study:
        own = honest(self, name, number)
        if name == FOLD:
            ended = self.study("outer-0").get_trials(states=[optuna.trial.TrialState.COMPLETE])
            if ended:
                own.enqueue_trial(max(ended, key=lambda trial: trial.value or 0.0).params)
        return own

    monkeypatch.setattr(sessions.Session, "study_as_seen", leaky)
    same_parameters, _ = search_alone_and_beside_others(tmp_path)
    assert not same_parameters


def test_planted_trials_of_another_fold_are_refused(tmp_path: Path) -> None:
    """Finished trials of one study are handed to the next, whose numbers then do not fit."""
    data, source = rows_of("multimodal")
    config = make_config()
    _, context = begin_run(tmp_path / "run", data, source, config)
    run_and_keep_job(Job(context, "outer-0", 0, "cpu"))
    session = Session(context)
    session.study(FOLD).add_trials(session.study("outer-0").get_trials())
    with pytest.raises(RuntimeError, match="outer-1: trial 0 cannot follow the 1 trials"):
        run_and_keep_job(Job(context, FOLD, 0, "cpu"))


class PrunesAgainst(optuna.pruners.BasePruner):
    """Gives up a trial that is behind the best that another study has reached by this epoch."""

    def __init__(self, other: optuna.Study) -> None:
        self.other = other

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        step = trial.last_step or 0
        reached = [t.intermediate_values.get(step, 0.0) for t in self.other.get_trials()]
        return bool(reached) and trial.intermediate_values[step] < max(reached)


def test_planted_pruning_against_another_folds_trials_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = sessions.Session.study

    def leaky(self: Session, name: str, number: int = 0) -> optuna.Study:
        own = honest(self, name, number)
        if name == FOLD:
            own.pruner = PrunesAgainst(honest(self, "outer-0"))
        return own

    monkeypatch.setattr(sessions.Session, "study", leaky)
    _, same_ends = search_alone_and_beside_others(tmp_path)
    assert not same_ends


def test_planted_shared_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sessions,):
        monkeypatch.setattr(module, "study_name", lambda folder, name, url=None: "shared")
    data, source = rows_of("multimodal")
    config = make_config()
    _, context = begin_run(tmp_path / "run", data, source, config)
    run_and_keep_job(Job(context, "outer-0", 0, "cpu"))
    with pytest.raises(RuntimeError, match="shared: trial 0 cannot follow the 1 trials"):
        run_and_keep_job(Job(context, "outer-1", 0, "cpu"))


def test_planted_patient_on_both_sides_of_an_outer_fold_is_refused() -> None:
    data, _ = rows_of("multimodal")
    config = make_config()
    fold = splits_of(data, config).outer[0]
    moved = next(name for name in data.ids.tolist() if name in fold.test)
    patient = moved.split("/")[0]
    with pytest.raises(LeakError, match=rf"outer-0: patients \['{patient}'\] are in both"):
        OuterFold(
            fold.name,
            0,
            (*fold.train, moved),
            tuple(n for n in fold.test if n != moved),
            fold.train_patients | {patient},
            fold.test_patients,
            (),
        )


def test_planted_split_by_image_is_refused_by_the_training_side() -> None:
    """Patient sets that lie about the rows are found out when the rows are handed over."""
    data, _ = rows_of("multimodal")
    config = make_config()
    fold = splits_of(data, config).outer[0]
    moved = fold.test[0]
    lying = replace(fold, train=(*fold.train, moved), test=fold.test[1:], inner=())
    with pytest.raises(LeakError, match=r"patients .* are in both train and test"):
        lying.train_side(data)


def test_an_objective_cannot_be_given_the_whole_table() -> None:
    """It takes a `TrainSide`, which only `OuterFold.train_side` makes; mypy holds it to that."""
    assert get_type_hints(InnerObjective.__init__)["train"] is TrainSide
