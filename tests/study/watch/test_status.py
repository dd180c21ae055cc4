"""`outerfold status`: how far a run is, read without touching it."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from outerfold.storage.runs.folder import RunFolder
from outerfold.study.cli.main import main
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.lock import lock_run
from outerfold.study.setup.provenance import write_devices
from outerfold.study.watch.status import (
    FRESH_SECONDS,
    RunState,
    StudyState,
    describe,
    read_state,
    state_table,
)
from outerfold.study.worker.heartbeat import beat_file, heartbeat
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import open_session
from tests.factories import begin_run, make_config, make_rows


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of which one study is finished and one has begun."""
    open_session.cache_clear()
    quiet_optuna()
    data, source = make_rows(patients=24, signal=0.5)
    config = make_config(trials=3, outer_folds=2, inner_folds=2, networks=1, epochs=2)
    prepared, context = begin_run(tmp_path_factory.mktemp("status") / "run", data, source, config)
    jobs = [("outer-0", 0), ("outer-0", 1), ("outer-0", 2), ("outer-0", None), ("outer-1", 0)]
    for name, number in jobs:
        run_and_keep_job(Job(context, name, number, "cpu"))
    return prepared.folder


def test_each_study_is_counted_and_nothing_is_written(half: RunFolder) -> None:
    before = {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()}
    state = read_state(half)
    assert {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()} == before
    first, second, final = state.studies
    assert (first.ended, first.left, first.finished) == (3, 0, True)
    assert first.complete >= 1
    assert first.best is not None
    assert first.epochs >= 3
    assert (second.ended, second.left, second.finished) == (1, 2, False)
    assert (final.ended, final.left, final.best) == (0, 3, None)
    assert not state.finished
    assert state.trial_seconds is not None
    assert state.search_left == timedelta(seconds=5 * state.trial_seconds)
    assert state.latest is not None
    assert abs(datetime.now() - state.latest) < timedelta(hours=1), "another clock's zone"


def test_whether_a_command_works_on_it_is_said(
    half: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not read_state(half).running
    lock = lock_run(half.path)
    try:
        assert read_state(half).running
    finally:
        lock.release()
    assert main(["status", str(half.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 of at most 9 trials, 1 of 3 studies; no command of this machine works on it" in said
    assert "outer-1 1/3 " in said
    assert "waits" in said


def test_the_devices_of_jobs_under_way_are_shown_and_those_of_killed_workers_are_not(
    half: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # no line is broken
    write_devices(half, train=["cuda:0"] * 2, encode="cuda:0", backend="", precision="bfloat16")
    files = [beat_file(half.path, "outer-1", at) for at in (1, 2, 3)]
    dead = beat_file(half.path, "final", None)
    with (
        heartbeat(files[0], "process 7 on hera", "cuda:0"),
        heartbeat(files[1], "tcp://1.2.3.4:5 (process 8 on [zeus])", "cuda:1"),
        heartbeat(files[2], "process 9 on hera", "cuda:0"),
        heartbeat(dead, "process 10 on hera", "cuda:0"),
    ):
        old = time.time() - FRESH_SECONDS - 1
        os.utime(dead, (old, old))
        state = read_state(half)
        assert main(["status", str(half.path)]) == 0
    assert [len(study.devices) for study in state.studies] == [0, 3, 0]
    said = " ".join(capsys.readouterr().out.split())
    assert "searches on 2 x cuda:0 of hera, cuda:1 of [zeus]" in said
    assert "no command of this machine works on it" not in said  # another machine does
    assert "Workers: 2 on cuda:0. Images are encoded on cuda:0 of " in said
    assert "(torch, bfloat16)." in said
    (half.path / "devices.json").write_text("{")
    assert read_state(half).devices == ""
    (half.path / "devices.json").unlink()


def test_each_study_has_its_own_pace() -> None:
    study = StudyState("outer-0", 1, 2, 0, 10, 30, 0.7, finished=False, trial_seconds=20.0)
    assert study.search_left == timedelta(seconds=140)
    table = state_table(RunState("run", True, (study,), None, None), datetime(2026, 1, 1))
    left = next(column for column in table.columns if column.header == "Left")
    assert list(left.cells) == ["2 min"]


def test_a_run_without_a_trial_and_a_folder_that_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    data, source = make_rows(patients=24)
    config = make_config(trials=3, outer_folds=2, inner_folds=2)
    prepared, _ = begin_run(tmp_path / "run", data, source, config)
    prepared.folder.journal.unlink()
    state = read_state(prepared.folder)
    assert [study.ended for study in state.studies] == [0, 0, 0]
    assert (state.latest, state.search_left) == (None, None)


def test_a_finished_run_ends_the_watch(
    half: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second look finds it finished."""
    from outerfold.study.cli import verbs
    from outerfold.study.watch import status

    done = StudyState("outer-0", 3, 0, 0, 3, 9, 0.8, finished=True)
    looks = iter([read_state(half), RunState("run", False, (done,), None, None)])
    monkeypatch.setattr(status, "read_state", lambda *_: next(looks))
    monkeypatch.setattr(verbs, "FOLLOW_SECONDS", 0.0)
    assert main(["status", str(half.path), "--follow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("3 of at most 3 trials, 1 of 1 studies; finished")


def test_the_line_of_a_running_run_says_the_pace() -> None:
    begun = StudyState("outer-0", 1, 2, 0, 10, 30, 0.7, finished=False)
    now = datetime(2026, 1, 1, 12)
    state = RunState("run", True, (begun,), now - timedelta(seconds=30), 20.0)
    assert describe(state, now) == (
        "run: 3 of at most 10 trials, 0 of 1 studies; the last trial ended 30 s ago; "
        "about 2 min of search left"
    )
