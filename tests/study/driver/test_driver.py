"""What ends a search before its number of trials, and that it stays ended."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from outerfold.reports.results.results import results
from outerfold.reports.sections.summary import protocol_section, summary
from outerfold.storage.cache.files import write_json
from outerfold.storage.records import DataError, Run
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import carry_out_run, open_studies
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.schedule.deadline import Deadline
from outerfold.study.schedule.patience import SearchLimit, build_limit, read_history
from outerfold.study.setup.run_directory import PreparedRun, begin_or_resume
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


class OneProcess:
    """The engine that works where it is; interrupted before job number ``stop``."""

    def __init__(self, stop: int = 10**6) -> None:
        self.devices: Sequence[str] = ("cpu",)
        self.left = stop

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        future: Future[Outcome] = Future()
        future.set_result(run_and_keep_job(job))
        return future

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``."""


def begun(path: Path, **changes: Any) -> tuple[PreparedRun, WorkerContext]:
    data, source = make_rows(patients=36, signal=0.3)
    small: dict[str, Any] = {"outer_folds": 2, "inner_folds": 2, "epochs": 2, "pruner": "none"}
    return begin_run(path, data, source, make_config(**{**small, **changes}))


def progress(config: StudyConfig, console: Console | None = None) -> StudyProgress:
    console = console or Console(quiet=True)
    return StudyProgress(console, trials=config.trials, quiet=False, maximise=True)


def drive(
    prepared: PreparedRun,
    context: WorkerContext,
    engine: OneProcess,
    console: Console | None = None,
    deadline: Deadline | None = None,
) -> None:
    open_session.cache_clear()
    with progress(prepared.config, console) as shown:
        assert carry_out_run(prepared, context, lambda: engine, shown, deadline) == {}


def read(prepared: PreparedRun) -> Run:
    write_json(prepared.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    return read_kept_run(prepared.folder)


def searched(prepared: PreparedRun, context: WorkerContext) -> dict[str, list[Any]]:
    return {
        name: [(t.number, t.state, t.params, t.value) for t in study.get_trials()]
        for name, study in open_studies(prepared, context).items()
    }


@pytest.mark.parametrize("stops", [(5,), (1, 3, 6)])
def test_patience_ends_a_resumed_study_where_it_ends_one_that_ran_through(
    tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole, context = begun(tmp_path / "whole" / "run", trials=9, patience=2)
    drive(whole, context, OneProcess())
    cut, cut_place = begun(tmp_path / "cut" / "run", trials=9, patience=2)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            drive(cut, cut_place, OneProcess(stop))
    drive(cut, cut_place, OneProcess())
    assert searched(cut, cut_place) == searched(whole, context)
    numbers, again = results(read(whole)), results(read(cut))
    assert numbers == again
    counts = {name: sum(trials.values()) for name, trials in numbers["trials"].items()}
    assert min(counts.values()) < 9, "no study was ended, so nothing was tried"
    for study in open_studies(whole, context).values():
        limit, history = build_limit(whole.config, study), read_history(study)
        assert limit.reached(history)
        assert not limit.reached(history[:-1])


def test_patience_is_stated_and_how_early_a_study_ended_is_told(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=9, patience=1)
    console = Console(record=True, width=200, quiet=False, force_terminal=False)
    drive(prepared, context, OneProcess(), console)
    numbers = results(read(prepared))
    assert numbers["protocol"]["patience"] == 1
    words = " ".join(getattr(block, "text", "") for block in protocol_section(numbers))
    assert "A search ended earlier if 1 trial in a row, complete or pruned, gave no better" in words
    said = console.export_text()
    for name, trials in numbers["trials"].items():
        done = sum(trials.values())
        assert f"{name}: finished" + (f" after {done} of 9 trials" if done < 9 else "") in said


def test_another_patience_is_refused_on_resumption(tmp_path: Path) -> None:
    prepared, _ = begun(tmp_path / "run", trials=9, patience=2)
    with pytest.raises(DataError, match=r"other options \(patience was 2, now 3\)"):
        begin_or_resume(prepared.folder, replace(prepared.config, patience=3), prepared.data)


def test_a_lower_score_is_the_better_one_for_an_error(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", metric="brier", trials=9, patience=2)
    study = open_studies(prepared, context)["outer-0"]
    assert build_limit(prepared.config, study) == SearchLimit(9, 2, maximise=False)


def short_of_time(tasks: int) -> Deadline:
    """The time for so many tasks, whatever they take: one passes whenever the clock is read."""
    passed = iter(range(10**6))
    return Deadline(0.5, 1, 1, 0.0, 0.0, lambda: 1.0 if next(passed) >= tasks else -1e9)


def test_a_run_cut_by_time_says_so_with_the_trials_of_each_study(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=9)
    console = Console(record=True, width=200, force_terminal=False)
    drive(prepared, context, OneProcess(), console, short_of_time(8))
    numbers = results(read(prepared))
    assert numbers["complete"]
    assert numbers["cut_by_time"] == ["outer-0", "outer-1", "final"]
    assert [sum(trials.values()) for trials in numbers["trials"].values()] == [3, 3, 2]
    said = console.export_text()
    assert "--max-time is near: 3 studies are refitted with the trials they have" in said
    assert "outer-0: finished after 3 of 9 trials" in said
    words = " ".join(getattr(block, "text", "") for block in summary(numbers))
    assert words.startswith(
        "CUT BY TIME. A time limit ended the search before 9 trials per study: outer-0 after 3, "
        "outer-1 after 3, final after 2. How many trials were done depends on the machine"
    )


def test_a_study_that_was_cut_stays_ended_and_the_others_go_on(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=4)
    with pytest.raises(KeyboardInterrupt):
        drive(prepared, context, OneProcess(4), deadline=short_of_time(3))
    before = searched(prepared, context)
    assert [len(trials) for trials in before.values()] == [1, 1, 1]
    kept = (prepared.folder.study("outer-0") / "best.json").read_bytes()
    drive(prepared, context, OneProcess())
    after = searched(prepared, context)
    assert [len(trials) for trials in after.values()] == [1, 4, 4]
    assert {name: trials[:1] for name, trials in after.items()} == before
    assert (prepared.folder.study("outer-0") / "best.json").read_bytes() == kept
    numbers = results(read(prepared))
    assert numbers["cut_by_time"] == ["outer-0"]


def test_a_run_that_was_not_cut_does_not_say_so(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run", trials=4, patience=1)
    drive(prepared, context, OneProcess(), deadline=short_of_time(1000))
    numbers = results(read(prepared))
    assert numbers["cut_by_time"] == []
    assert "CUT BY TIME" not in str(summary(numbers))
