"""Several trials of a study at once: the search depends on how many, and on nothing else."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from concurrent.futures import Future
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from outerfold.objectives.inner import InnerObjective
from outerfold.reports.results.results import results
from outerfold.reports.sections.summary import protocol_section
from outerfold.storage.cache.files import write_json
from outerfold.storage.records import DataError
from outerfold.storage.runs.results import read_result
from outerfold.storage.trials.journal import keep_trial
from outerfold.storage.trials.trial_view import TrialView
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.driver.driver import (
    TRIES_ALONE,
    TRIES_TOGETHER,
    carry_out_run,
    measure,
    open_studies,
)
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.local import LocalEngine, WorkerLost, quiet_optuna
from outerfold.study.schedule.patience import EndedTrial, SearchLimit, count_visible
from outerfold.study.schedule.schedule import Schedule
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job, run_job
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows

STUDIES = ("outer-0", "outer-1", "final")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    open_session.cache_clear()
    quiet_optuna()


class Unruly:
    """An engine whose jobs end in any order, and whose workers die at random."""

    def __init__(self, workers: int, seed: int, *, losses: int = 2, stop: int = 10**6) -> None:
        self._tokens = ("cpu",) * workers
        self._chance = np.random.default_rng(seed)
        self._pending: list[tuple[Job, Future[Outcome]]] = []
        self.losses, self.left = losses, stop
        self.ended: list[tuple[str, int | None]] = []

    @property
    def devices(self) -> Sequence[str]:
        """See ``Engine.devices``; one job ends at each look."""
        if self._pending:
            job, future = self._pending.pop(int(self._chance.integers(len(self._pending))))
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            if self.losses and self._chance.random() < 0.3:
                self.losses -= 1
                future.set_exception(WorkerLost("died"))
            else:
                self.ended.append((job.study, job.number))
                future.set_result(run_job(job))
        return self._tokens

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        future: Future[Outcome] = Future()
        self._pending.append((job, future))
        return future

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``."""


def begun(path: Path, **changes: Any) -> tuple[PreparedRun, WorkerContext]:
    data, source = make_rows(patients=36, signal=0.3)
    small = {"outer_folds": 2, "inner_folds": 2, "trials": 7, "networks": 1, "epochs": 4}
    return begin_run(path, data, source, make_config(**{**small, **changes}))


def drive(prepared: PreparedRun, context: WorkerContext, engine: Any) -> dict[str, list[Any]]:
    open_session.cache_clear()
    with StudyProgress(Console(quiet=True), trials=7, quiet=True, maximise=True) as progress:
        assert carry_out_run(prepared, context, lambda: engine, progress) == {}
    return searched(prepared, context)


def searched(prepared: PreparedRun, context: WorkerContext) -> dict[str, list[Any]]:
    return {
        name: [
            (t.number, t.state, t.params, t.value, t.intermediate_values)
            for t in study.get_trials()
        ]
        for name, study in open_studies(prepared, context).items()
    }


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_a_search_depends_on_in_flight_but_not_on_workers_order_losses_or_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    monkeypatch.setattr("outerfold.study.driver.driver.LOOK_SECONDS", 0.0)
    alone = drive(*begun(tmp_path / "a" / "run", in_flight=3, pruner=pruner), Unruly(1, 0))
    many = Unruly(6, 1)
    assert drive(*begun(tmp_path / "b" / "run", in_flight=3, pruner=pruner), many) == alone
    order = [number for name, number in many.ended if name == "final" and number is not None]
    assert order != sorted(order), "nothing ended out of order, so nothing was tried"
    prepared, context = begun(tmp_path / "c" / "run", in_flight=3, pruner=pruner)
    for stop in (5, 4, 7):
        with pytest.raises(KeyboardInterrupt):
            drive(prepared, context, Unruly(4, stop, stop=stop))
    assert drive(prepared, context, Unruly(3, 2)) == alone
    other = drive(*begun(tmp_path / "d" / "run", in_flight=1, pruner=pruner), Unruly(6, 3))
    assert {name: len(trials) for name, trials in other.items()} == dict.fromkeys(STUDIES, 7)
    assert pruner == "hyperband" or other != alone


def test_a_configuration_that_kills_its_worker_is_named_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outerfold.study.driver.driver.LOOK_SECONDS", 0.0)
    deadly = ("outer-0", 1)
    submitted: list[tuple[tuple[str, int | None], bool, int]] = []

    class Deadly(Unruly):
        def submit(self, job: Job) -> Future[Outcome]:
            task = (job.study, job.number)
            submitted.append((task, job.alone, len(self._pending)))
            if task != deadly:
                return super().submit(job)
            future: Future[Outcome] = Future()
            future.set_exception(WorkerLost("terminated"))
            return future

    engine, console = Deadly(2, 0, losses=0), Console(record=True, width=500, file=StringIO())
    prepared, context = begun(tmp_path / "run", trials=3)
    open_session.cache_clear()
    with StudyProgress(console, trials=3, quiet=False, maximise=True) as progress:
        assert carry_out_run(prepared, context, lambda: engine, progress) == {}
    tries = [alone for task, alone, _ in submitted if task == deadly]
    assert tries == [False] * TRIES_TOGETHER + [True] * TRIES_ALONE
    assert all(beside == 0 for _, alone, beside in submitted if alone)
    trials = open_studies(prepared, context)["outer-0"].get_trials()
    assert [t.state.name for t in trials][1] == "FAIL"
    assert len(trials[1].params) > 3
    said = console.export_text()
    assert "outer-0 trial 1 failed: its worker died 4 times, at last while it ran alone" in said
    assert all(f"{name}={value}" in said for name, value in trials[1].params.items())
    notes = read_result(prepared.folder, "outer-0", prepared.data.classes).notes
    assert any(note.startswith("1 of 3 trials failed for lack of memory or by") for note in notes)


@pytest.mark.parametrize("error", [MemoryError("2 GB"), OSError(5, "Input/output error")])
def test_what_the_machine_did_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("outerfold.study.driver.driver.LOOK_SECONDS", 0.0)
    small = {"trials": 2, "epochs": 2, "pruner": "none"}
    expected = drive(*begun(tmp_path / "whole" / "run", **small), Unruly(2, 0, losses=0))
    left, train = [error, error], InnerObjective.run

    def failing(self: InnerObjective, trial: Any, **options: Any) -> Any:
        if left and trial.number == 1:
            raise left.pop()
        return train(self, trial, **options)

    monkeypatch.setattr(InnerObjective, "run", failing)
    assert drive(*begun(tmp_path / "ill" / "run", **small), Unruly(2, 0, losses=0)) == expected
    assert not left


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outerfold.study.driver.driver.LOOK_SECONDS", 0.0)

    def full(self: InnerObjective, trial: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(InnerObjective, "run", full)
    prepared, context = begun(tmp_path / "run", trials=2)
    with pytest.raises(OSError, match="No space left on device"):
        drive(prepared, context, Unruly(2, 0, losses=0))
    assert open_studies(prepared, context)["outer-0"].get_trials() == []


def test_a_plan_that_kills_workers_is_left_out(tmp_path: Path) -> None:
    _, context = begun(tmp_path / "run")
    tried = []

    class Deadly(Unruly):
        def submit(self, job: Job) -> Future[Outcome]:
            tried.append(job.measure)
            future: Future[Outcome] = Future()
            future.set_exception(WorkerLost("terminated"))
            return future

    assert measure(context, "outer-0", Deadly(1, 0)) is None
    assert tried == [True, True]


@pytest.mark.slow
def test_a_local_worker_that_dies_is_replaced_and_its_trial_run_again(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=2)
    expected = drive(*begun(tmp_path / "other" / "run", trials=2), Unruly(1, 0, losses=0))
    engine = LocalEngine(["cpu"])
    killed = engine._pool.submit(_die)
    with pytest.raises(Exception, match="terminated"):
        killed.result()
    assert drive(prepared, context, engine) == expected


def _die() -> None:
    import os

    os._exit(9)


# -- the order of work -----------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 10**6), st.integers(0, 4))
def test_a_trial_begins_once_all_that_it_sees_have_ended_and_no_more_are_under_way(
    in_flight: int, workers: int, seed: int, patience: int
) -> None:
    rng = np.random.default_rng(seed)
    limit = SearchLimit(9, patience, in_flight=in_flight)
    values = {name: np.random.default_rng(i).random(9) for i, name in enumerate(STUDIES)}
    schedule = Schedule({name: [] for name in STUDIES}, ended=frozenset(), limit=limit)
    running: list[tuple[str, int | None]] = []
    over: dict[str, set[int]] = {name: set() for name in STUDIES}
    told = dict.fromkeys(STUDIES, 0)
    while not schedule.finished:
        while len(running) < workers and (task := schedule.take()) is not None:
            name, number = task
            if number is None:
                assert told[name] == len(over[name])
            else:
                assert set(range(count_visible(number, in_flight))) <= set(range(told[name]))
            running.append(task)
            assert sum(n == name for n, _ in running) <= in_flight
        name, number = running.pop(int(rng.integers(len(running))))
        if rng.random() < 0.1:
            schedule.lost(name, number)
        elif number is None:
            schedule.done(name, None)
        else:
            over[name].add(number)
            while told[name] in over[name]:
                schedule.done(name, EndedTrial("complete", float(values[name][told[name]])))
                told[name] += 1
    for name in STUDIES:
        history = [EndedTrial("complete", float(value)) for value in values[name]]
        ends = next(
            k for k in range(10) if limit.reached(history[: count_visible(k, in_flight)], k)
        )
        assert over[name] == set(range(ends))
        assert limit.reached(history[:ends])


def test_more_workers_than_studies_are_busy_with_several_trials_of_each() -> None:
    schedule = Schedule(
        {name: [] for name in STUDIES}, ended=frozenset(), limit=SearchLimit(9, in_flight=2)
    )
    taken = [schedule.take() for _ in range(7)]
    assert taken == [*((n, 0) for n in STUDIES), *((n, 1) for n in STUDIES), None]


# -- what a trial sees, and what is kept -----------------------------------------------------


def test_a_trial_has_its_number_and_sees_earlier_trials_and_itself_only() -> None:
    seen = [optuna.trial.create_trial(value=0.5, state=TrialState.COMPLETE) for _ in range(3)]
    study_as_seen = TrialView("outer-0", optuna.study.StudyDirection.MAXIMIZE, seen, 5)
    study = optuna.load_study(study_name="outer-0", storage=study_as_seen)
    trial = study.ask()
    trial.report(0.1, 1)
    assert trial.number == 5
    assert [t.value for t in study.get_trials()[:3]] == [0.5] * 3
    assert [t.number for t in study.get_trials()[3:]] == [5]
    assert study.tell(trial, 0.7).number == 5
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 4


def test_a_worker_leaves_nothing_in_the_trial_storage(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run")
    before = prepared.folder.journal.read_bytes()
    outcome = run_job(Job(context, "outer-0", 0, "cpu"))
    assert prepared.folder.journal.read_bytes() == before
    assert outcome.trial is not None
    study = open_studies(prepared, context)["outer-0"]
    for _ in range(2):
        keep_trial(study, outcome.trial)
    assert [t.params for t in study.get_trials()] == [outcome.trial.params]


def test_a_trial_is_not_kept_before_those_ahead_of_it(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", in_flight=2)
    outcome = run_job(Job(context, "outer-0", 1, "cpu"))
    assert outcome.trial is not None
    with pytest.raises(RuntimeError, match="outer-0: trial 1 cannot follow the 0 trials"):
        keep_trial(open_studies(prepared, context)["outer-0"], outcome.trial)


def test_a_trial_whose_forerunners_are_missing_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outerfold.study.worker.session.SHOWN_SECONDS", 0.0)
    _, context = begun(tmp_path / "run")
    run_and_keep_job(Job(context, "outer-0", 0, "cpu"))
    with pytest.raises(RuntimeError, match="shows 1 ended trials, but 3 have ended"):
        Session(context).study_as_seen("outer-0", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_flight": 0}, "--in-flight must be a whole number of at least 1"),
        ({"in_flight": 5}, "--in-flight 5: a study has only --trials 4"),
        ({"in_flight": 2, "patience": 2}, "has no effect with --trials 4 and --in-flight 2"),
    ],
)
def test_what_has_no_effect_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_config(**changes)


def test_the_report_says_how_many_ran_at_once(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=2, in_flight=2)
    drive(prepared, context, Unruly(2, 0, losses=0))
    write_json(prepared.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    numbers = results(read_kept_run(prepared.folder))
    assert numbers["protocol"]["in_flight"] == 2
    words = " ".join(getattr(block, "text", "") for block in protocol_section(numbers))
    assert "Up to 2 trials of a search ran at the same time. The values and the pruning" in words
