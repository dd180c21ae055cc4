"""What the plan expects, by arithmetic alone; how long anything takes is not tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from outerfold.objectives.pruning import PRUNERS
from outerfold.pipelines._base import Epoch
from outerfold.pipelines.tasks.fine_tuned import TailPipeline
from outerfold.pipelines.training.heads import StackedTraining
from outerfold.storage.cache.files import read_json
from outerfold.storage.cores import CORE_SECONDS
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.driver.driver import open_studies
from outerfold.study.setup.plan import (
    BEST_EPOCH,
    OPEN_SECONDS,
    REFIT,
    SCORED,
    STACKED,
    TRIAL_SECONDS,
    Cost,
    complete_epochs,
    end_epochs,
    end_trials,
    epoch_share,
    mean_rows,
)
from outerfold.study.setup.provenance import write_provenance
from outerfold.study.worker import jobs
from outerfold.study.worker.jobs import Job, run_job
from outerfold.study.worker.session import open_session
from tests.factories import begin_run, make_config, make_rows


def halved(trials: int, epochs: int, seed: int) -> float:
    """Share of the epochs that Optuna's pruner lets trials of lasting random scores train."""
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize", pruner=PRUNERS["halving"](epochs))
    trained = 0
    for _ in range(trials):
        trial = study.ask()
        for epoch in range(1, epochs + 1):
            trial.report(rng.random(), epoch)
            trained += 1
            if epoch < epochs and trial.should_prune():
                break
        study.tell(trial, rng.random())
    return trained / (trials * epochs)


@pytest.mark.parametrize(("trials", "epochs"), [(10, 20), (6, 15), (24, 30)])
def test_the_share_of_epochs_is_what_halving_trains_of_random_scores_and_a_little_more(
    trials: int, epochs: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mean = np.mean([halved(trials, epochs, seed) for seed in range(40)])
    assert epoch_share(
        make_config(trials=trials, epochs=epochs, patience_epochs=epochs)
    ) == pytest.approx(mean, rel=0.12)


def test_the_time_is_an_opening_and_the_work_shared_by_as_many_as_can_work() -> None:
    config = make_config(pruner="none", epochs=10)
    work = 8 * (5.0 + TRIAL_SECONDS) + 2 * config.networks * 0.5 * end_epochs(config)
    cost = Cost(trials=8, ends=2, epoch_seconds=0.5)
    assert cost.seconds(config, 1) == pytest.approx(OPEN_SECONDS + work)
    assert (
        cost.seconds(config, 2) == cost.seconds(config, 9) == pytest.approx(OPEN_SECONDS + work / 2)
    )
    end = config.networks * 0.5 * end_epochs(config)
    assert replace(cost, defaults=1).seconds(config, 1) == pytest.approx(OPEN_SECONDS + work + end)
    parts = replace(cost, encoding_seconds=7.0).parts(config, 2)
    assert list(parts) == ["encoding", "search", "ends", "report"]
    assert parts["encoding"] == 7.0
    assert parts["search"] + parts["ends"] == pytest.approx(cost.seconds(config, 2))
    assert parts["search"] == pytest.approx(OPEN_SECONDS + 8 * (5.0 + TRIAL_SECONDS) / 2)
    slow = replace(cost, core_seconds=3 * CORE_SECONDS).parts(config, 2)
    assert slow["report"] == pytest.approx(3 * parts["report"])
    assert slow["ends"] == parts["ends"]
    more = 2 * (OPEN_SECONDS + 8 * TRIAL_SECONDS / 2)
    assert slow["search"] == pytest.approx(parts["search"] + more)
    quick = replace(cost, default_share=0.25, firsts=2).parts(config, 2)["search"]
    assert quick == pytest.approx(parts["search"] - 2 * 0.75 * 5.0 / 2)
    mean = replace(cost, epoch_seconds=1.0, rows_share=0.5)
    assert mean.seconds(config, 1) == cost.seconds(config, 1)


def test_patience_shortens_what_is_expected_of_trials_and_ends() -> None:
    short = make_config(trials=30, epochs=100, patience_epochs=20)
    long = make_config(trials=30, epochs=100, patience_epochs=100)
    assert (complete_epochs(short), complete_epochs(long)) == (30, 100)
    assert epoch_share(short) < epoch_share(long)
    assert end_epochs(short) < end_epochs(long)


def test_an_end_trains_to_the_best_epoch_and_the_whole_trial_where_it_was_not_recorded() -> None:
    for epochs in (20, 100):
        recorded = make_config(networks=1, epochs=epochs)
        assert end_epochs(recorded) == SCORED + BEST_EPOCH
        refit, trained = replace(recorded, final="refit"), replace(recorded, trainable_blocks=1)
        again = STACKED * complete_epochs(recorded)
        assert end_epochs(refit) == again + REFIT * BEST_EPOCH
        assert end_epochs(trained) == again + BEST_EPOCH
        assert end_trials(recorded) == 1.0
        assert end_trials(recorded) < end_trials(refit) < end_trials(trained)


def test_times_of_calls_add_up_and_the_first_plan_stands(tmp_path: Path) -> None:
    for expected in (9.0, 4.0):
        write_provenance(
            RunFolder(tmp_path),
            devices=["cpu"],
            command=["x"],
            timing={
                "wall_seconds": 5.0,
                "search_seconds": 3.0,
                "expected_seconds": expected,
                "expected_parts": {"encoding": expected},
                "parts": {"encoding": 1.5},
            },
        )
    assert read_json(tmp_path / "provenance.json")["timing"] == {
        "wall_seconds": 10.0,
        "search_seconds": 6.0,
        "expected_seconds": 9.0,
        "expected_parts": {"encoding": 9.0},
        "parts": {"encoding": 3.0},
        "calls": 2,
    }


@pytest.mark.parametrize(
    ("epochs", "seconds", "trained"), [(1, 1e9, 6), (2, 1e9, 12), (9, 1e9, 12), (9, 0.0, 4)]
)
def test_the_second_epoch_of_a_few_configurations_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, seconds: float, trained: int
) -> None:
    """The first one is the default, which is cheap here; time goes by in epochs of 100 seconds."""
    monkeypatch.setattr("outerfold.study.worker.jobs.MEASURED_SECONDS", seconds)
    data, source = make_rows(patients=24)
    config = make_config(epochs=epochs, outer_folds=2, inner_folds=2)
    prepared, context = begin_run(tmp_path / "run", data, source, config)
    open_studies(prepared, context)
    now, begun = [0.0], list[float]()
    own = StackedTraining.__iter__

    def step(training: StackedTraining) -> Iterator[Epoch]:
        for epoch in own(training):
            begun.append(now[0])
            now[0] += 20.0 if len(begun) <= min(2, epochs) else 100.0
            yield epoch

    monkeypatch.setattr(StackedTraining, "__iter__", step)
    monkeypatch.setattr("outerfold.study.worker.jobs.time.perf_counter", lambda: now[0])
    outcome = run_job(Job(context, "outer-0", None, "cpu", measure=True))
    assert (outcome.state, len(begun)) == ("measured", trained)
    assert outcome.measured is not None
    assert outcome.seconds == outcome.measured.epoch_seconds == pytest.approx(100.0)
    assert outcome.measured.default_share == pytest.approx(0.2)
    assert outcome.measured.core_seconds == 0.0  # no time goes by but in epochs


def test_few_rows_of_every_fold_are_measured_where_blocks_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their classes are those of the whole, and the time is that of all rows."""
    data, source = make_rows(patients=120, images=2)
    space = {"batch_size": {"values": [8]}}
    config = make_config(outer_folds=2, inner_folds=3, space=space)
    _, context = begin_run(tmp_path / "run", data, source, config)
    session = open_session(context)
    objective = session.objective("outer-0", "cpu")
    pipeline = session.space(optuna.trial.FixedTrial(session.default.params))
    monkeypatch.setattr(jobs, "MEASURED_BATCHES", 2)
    assert pipeline.batch_size == 8
    tail = TailPipeline(pipeline, tail_rate=0.1)  # type: ignore[arg-type]
    assert jobs._few_rows(objective, tail)[1] == jobs._few_rows(objective, pipeline)[1]
    rows, share = jobs._few_rows(objective, pipeline)
    for few, fold in zip(rows.folds, objective.folds, strict=True):
        assert 14 <= len(few.fit) <= 18
        assert set(few.fold.fit) <= set(fold.fit)
        assert set(few.fold.val) <= set(fold.val)
        assert set(few.labels[few.fit].tolist()) == {0, 1}
    whole = sum(len(fold.fit) for fold in objective.folds)
    assert share == pytest.approx(sum(len(few.fit) for few in rows.folds) / whole)


def test_an_epoch_is_of_the_mean_study_and_that_of_all_rows_has_most(tmp_path: Path) -> None:
    data, source = make_rows(patients=30)
    prepared, _ = begin_run(tmp_path / "run", data, source, make_config(outer_folds=3))
    assert len(prepared.studies) == 4
    assert mean_rows(prepared.studies) == pytest.approx((3 * 2 / 3 + 1) / 4 * len(data))
