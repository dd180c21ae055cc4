"""What ends a search before its number of trials, and that it stays ended."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reports.results import results
from reports.summary import protocol_section
from storage.files import write_json
from storage.records import DataError, Run
from storage.run_results import read_run
from study.config import StudyConfig
from study.drive import carry_out_run, open_studies
from study.engines import quiet_optuna
from study.patience import Limit, history_of, limit_of
from study.prepare import Ready, begin
from study.progress import StudyProgress
from study.session import Place, open_session
from study.work import Job, Outcome, carry_out
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
        future.set_result(carry_out(job))
        return future

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``."""


def begun(path: Path, **changes: Any) -> tuple[Ready, Place]:
    data, source = make_rows(patients=36, signal=0.3)
    small: dict[str, Any] = {"outer_folds": 2, "inner_folds": 2, "epochs": 2, "pruner": "none"}
    return begin_run(path, data, source, make_config(**{**small, **changes}))


def progress(config: StudyConfig, console: Console | None = None) -> StudyProgress:
    console = console or Console(quiet=True)
    return StudyProgress(console, trials=config.trials, quiet=False, maximise=True)


def drive(ready: Ready, place: Place, engine: OneProcess, console: Console | None = None) -> None:
    open_session.cache_clear()
    with progress(ready.config, console) as shown:
        assert carry_out_run(ready, place, lambda: engine, shown) == {}


def read(ready: Ready) -> Run:
    write_json(ready.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    return read_run(ready.folder)


def searched(ready: Ready, place: Place) -> dict[str, list[Any]]:
    return {
        name: [(t.number, t.state, t.params, t.value) for t in study.get_trials()]
        for name, study in open_studies(ready, place).items()
    }


@pytest.mark.parametrize("stops", [(5,), (1, 3, 6)])
def test_patience_ends_a_resumed_study_where_it_ends_one_that_ran_through(
    tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole, place = begun(tmp_path / "whole" / "run", trials=9, patience=2)
    drive(whole, place, OneProcess())
    cut, cut_place = begun(tmp_path / "cut" / "run", trials=9, patience=2)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            drive(cut, cut_place, OneProcess(stop))
    drive(cut, cut_place, OneProcess())
    assert searched(cut, cut_place) == searched(whole, place)
    numbers, again = results(read(whole)), results(read(cut))
    assert numbers == again
    counts = {name: sum(trials.values()) for name, trials in numbers["trials"].items()}
    assert min(counts.values()) < 9, "no study was ended, so nothing was tried"
    for study in open_studies(whole, place).values():
        limit, history = limit_of(whole.config, study), history_of(study)
        assert limit.reached(history)
        assert not limit.reached(history[:-1])


def test_patience_is_stated_and_how_early_a_study_ended_is_told(tmp_path: Path) -> None:
    ready, place = begun(tmp_path / "run", trials=9, patience=1)
    console = Console(record=True, width=200, quiet=False, force_terminal=False)
    drive(ready, place, OneProcess(), console)
    numbers = results(read(ready))
    assert numbers["protocol"]["patience"] == 1
    words = " ".join(getattr(block, "text", "") for block in protocol_section(numbers))
    assert "A search ended before that after 1 trial in a row, complete or pruned, wi" in words
    said = console.export_text()
    for name, trials in numbers["trials"].items():
        done = sum(trials.values())
        assert f"{name}: finished" + (f" after {done} of 9 trials" if done < 9 else "") in said


def test_another_patience_is_refused_on_resumption(tmp_path: Path) -> None:
    ready, _ = begun(tmp_path / "run", trials=9, patience=2)
    with pytest.raises(DataError, match=r"other options \(patience was 2, now 3\)"):
        begin(ready.folder, replace(ready.config, patience=3), ready.data)


def test_a_lower_score_is_the_better_one_for_an_error(tmp_path: Path) -> None:
    ready, place = begun(tmp_path / "run", metric="brier", trials=9, patience=2)
    study = open_studies(ready, place)["outer-0"]
    assert limit_of(ready.config, study) == Limit(9, 2, maximise=False)
