"""The end of a study takes the winner's recording, and writes what training it again would give."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outerfold.objectives import replay as replays
from outerfold.objectives.choice import choose_trial, read_candidates
from outerfold.objectives.inner import InnerObjective
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.recordings import list_recordings
from outerfold.study.driver.driver import open_studies
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker import recordings
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job, run_job
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows
from tests.study.driver.test_driver import OneProcess, drive

CLASSES = {"multimodal": ("other", "cancer"), "dbt": ("normal", "actionable", "benign", "cancer")}
SMALL = {"networks": 1, "outer_folds": 2, "epochs": 8, "patience_epochs": 3, "trials": 6}


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


def begin(
    path: Path, task: str = "multimodal", *, attention: bool = False, **changes: Any
) -> tuple[PreparedRun, WorkerContext]:
    data, source = make_rows(patients=36, signal=0.3, classes=CLASSES[task])
    space = {"batch_size": {"values": [32]}, "attention": {"values": [attention]}}
    config = make_config(task, **{**SMALL, "space": space, **changes})
    return begin_run(path / "run", data, source, config)


class ActsBeforeEnds(OneProcess):
    """Engine that does something to the recordings of a study just before it ends."""

    def __init__(self, folder: RunFolder, act: Callable[[Path], object]) -> None:
        super().__init__()
        self.folder, self.act, self.acted = folder, act, 0

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        if job.number is None:
            for path in list_recordings(self.folder, job.study).values():
                self.act(path)
                self.acted += 1
        return super().submit(job)


def read_results(folder: RunFolder) -> dict[str, bytes]:
    """All files of all studies, by path."""
    found = [path for path in folder.path.glob("*/*") if path.parent != folder.report]
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in sorted(found)}


def forbid_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a trial was trained once more")

    monkeypatch.setattr(InnerObjective, "replay", refuse)


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(bytes(contents))


def exchange(path: Path) -> None:
    """Give a recording, which is intact, to another trial of its study."""
    path.rename(path.with_name("trial-100"))
    for other in path.parent.glob("trial-*"):
        if other.name != "trial-100":
            path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("task", "attention", "tta"),
    [
        ("multimodal", False, 0),
        ("multimodal", True, 2),
        ("dbt", False, 2),
        ("dbt", True, 0),
    ],
)
def test_recorded_trials_give_the_files_that_training_again_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, attention: bool, tta: int
) -> None:
    results = []
    for name, act in (("removed", Path.unlink), ("damaged", damage), ("other", exchange)):
        prepared, context = begin(tmp_path / name, task, attention=attention, tta=tta)
        engine = ActsBeforeEnds(prepared.folder, act)
        drive(prepared, context, engine)
        assert engine.acted, "no recording was there, so nothing was tried"
        results.append(read_results(prepared.folder))
    forbid_replays(monkeypatch)
    prepared, context = begin(tmp_path / "kept", task, attention=attention, tta=tta)
    drive(prepared, context, OneProcess())
    kept = read_results(prepared.folder)
    assert {"outer-0/model.pt", "outer-1/predictions.csv", "final/best.json"} <= set(kept)
    assert any(name.endswith("variation_default.csv") for name in kept)
    for again in results:
        assert kept == again


class LosesAnOutcome(OneProcess):
    """Engine that is killed once job number ``stop`` has ended and before its driver hears it."""

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        if self.left == 1:
            run_job(job)
            raise KeyboardInterrupt
        return super().submit(job)


@pytest.mark.parametrize("stops", [(1, 4, 9), (17, 2), (20,)])
def test_kills_change_no_file_and_leave_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
) -> None:
    whole, context = begin(tmp_path / "whole")
    drive(whole, context, OneProcess())
    cut, cut_context = begin(tmp_path / "cut")
    forbid_replays(monkeypatch)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            drive(cut, cut_context, LosesAnOutcome(stop))
        assert list(cut.folder.path.glob("*/recordings")), "nothing was kept"
    drive(cut, cut_context, OneProcess())
    assert read_results(cut.folder) == read_results(whole.folder)
    assert not list(cut.folder.path.glob("*/recordings"))


def test_a_running_study_keeps_the_best_trial_and_the_default_and_no_other(tmp_path: Path) -> None:
    prepared, context = begin(tmp_path, trials=8)
    for number in range(8):
        run_and_keep_job(Job(context, "outer-0", number, "cpu"))
        trials = open_studies(prepared, context)["outer-0"].get_trials()
        best = choose_trial(read_candidates(trials), maximise=True)
        assert best is not None
        assert set(list_recordings(prepared.folder, "outer-0")) == {0, best.number}
    states = {trial.state.name for trial in trials}
    assert states == {"COMPLETE", "PRUNED"}, "no trial was pruned, so nothing was tried"


def test_a_driver_that_starts_again_removes_what_the_last_one_left(tmp_path: Path) -> None:
    prepared, context = begin(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        drive(prepared, context, OneProcess(15))
    folder = prepared.folder.study("outer-1") / "recordings"
    needed = set(list_recordings(prepared.folder, "outer-1"))
    stale = next(number for number in range(5) if number not in needed)
    for left in (folder / f"trial-{stale}", folder / ".trial-3.draft"):
        left.write_bytes(b"left by a killed worker")
    with pytest.raises(KeyboardInterrupt):
        drive(prepared, context, OneProcess(0))
    assert set(list_recordings(prepared.folder, "outer-1")) == needed
    drive(prepared, context, OneProcess())
    assert not folder.exists()
    folder.mkdir()
    (folder / "trial-3").write_bytes(b"left by a worker that was thought to be lost")
    drive(prepared, context, OneProcess())
    assert not folder.exists()


@pytest.mark.parametrize("changes", [{"networks": 2}, {"final": "refit"}, {"final": "ensemble"}])
def test_runs_whose_models_are_trained_at_the_end_record_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    prepared, context = begin(tmp_path, **changes)
    assert run_job(Job(context, "outer-0", 0, "cpu")).state == "complete"
    assert not list_recordings(prepared.folder, "outer-0")


def test_a_full_disk_fails_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recordings, "write_recording", refuse)
    _, context = begin(tmp_path)
    assert run_job(Job(context, "outer-0", 0, "cpu")).state == "complete"


def test_history_is_the_same_however_much_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, context = begin(tmp_path)
    session = Session(context)
    found = []
    for held in (1 << 25, 0):
        monkeypatch.setattr(replays, "HELD_BYTES", held)
        objective = session.objective("outer-0", "cpu")
        trial = session.study_as_seen("outer-0", 0).ask()
        _, recording = objective.run(trial, record=True)
        assert recording is not None
        recorded = recording.end()
        assert [row.epoch for row in recorded.history] == list(range(1, len(recorded.history) + 1))
        found.append((recorded.history, recorded.epochs, recorded.score))
        assert len(recorded.history) == trial.user_attrs["length"]
        np.testing.assert_equal(recorded.epochs, trial.user_attrs["epochs"])
    assert found[0] == found[1]
