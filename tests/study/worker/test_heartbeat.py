"""A worker that hangs is noticed, named and ended; one that works or waits is left alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from outerfold.study.driver.silence import LONGEST_LOOK, Silence
from outerfold.study.engines.local import WorkerLost, lose
from outerfold.study.worker.heartbeat import (
    Heartbeat,
    beat_file,
    heartbeat,
    name_worker,
    read_beats,
)
from outerfold.study.worker.jobs import Job, Outcome
from outerfold.study.worker.session import WorkerContext

NAME = "process 7 on a machine"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Engine whose jobs never end by themselves."""

    devices: Sequence[str] = ("cpu",)

    def __init__(self, waits: bool = False) -> None:
        self.waits = waits
        self.ended: list[str] = []

    def submit(self, job: Job) -> Future[Outcome]:
        return Future()

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        if self.waits and not worker:
            return False
        self.ended.append(worker)
        lose(future, f"{worker} hangs")
        return True

    def close(self, *, kill: bool) -> None: ...


class Run:
    """One job of a run whose time a test moves on."""

    def __init__(self, path: Path, limit: float = 60.0, engine: Engine | None = None) -> None:
        self.engine, self.clock = engine or Engine(), Clock()
        job = Job(WorkerContext(path, ()), "outer-0", 3, "cpu")
        self.future = self.engine.submit(job)
        self.running = {self.future: job}
        self.used = 0.0
        self.heart = Heartbeat(beat_file(path, "outer-0", 3), NAME, lambda: self.used)
        self.silence = Silence(path, limit, self.clock)

    def pass_time(self, seconds: float, *, works: bool = False, step: float = 5.0) -> list[str]:
        found = []
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += step
            self.used += works
            self.heart.beat()
            found += self.silence.end_hung(self.engine, self.running)
        return found


def test_a_worker_that_stands_still_is_named_and_its_job_is_lost(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.pass_time(20, works=True) == []
    assert run.pass_time(55) == []
    assert run.pass_time(10) == [NAME]
    with pytest.raises(WorkerLost, match=NAME):
        run.future.result(0)
    assert run.pass_time(200) == []  # it is ended once


def test_a_worker_that_uses_its_processor_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.pass_time(1000, works=True) == []
    assert not run.future.done()


def test_a_driver_that_slept_does_not_take_its_workers_for_hung(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.pass_time(10, works=True)
    assert run.pass_time(10_000, step=10_000) == []  # one look after a long sleep
    assert run.pass_time(60 - LONGEST_LOOK - 5) == []
    assert run.pass_time(5) == [NAME]


def test_a_job_that_waits_for_a_worker_of_a_cluster_is_not_hung(tmp_path: Path) -> None:
    run = Run(tmp_path, engine=Engine(waits=True))
    run.heart.beat = lambda: None  # type: ignore[method-assign]
    assert run.pass_time(1000) == []
    here = Run(tmp_path)
    here.heart.beat = lambda: None  # type: ignore[method-assign]
    assert here.pass_time(65) == [""]  # a local worker that never began it is hung


def test_a_job_names_its_worker_while_it_runs_and_leaves_nothing(tmp_path: Path) -> None:
    file = beat_file(tmp_path, "final", None)
    with heartbeat(file, name_worker(), "cuda:1"):
        (beat,) = read_beats(tmp_path)
        assert (beat.study, beat.worker, beat.device) == ("final", name_worker(), "cuda:1")
        assert abs(beat.at - time.time()) < 60
    assert not file.exists()
    assert read_beats(tmp_path) == []


def test_a_file_of_an_earlier_version_names_no_device_and_an_empty_one_nothing(
    tmp_path: Path,
) -> None:
    file = beat_file(tmp_path, "outer-1", 12)
    file.parent.mkdir()
    beat_file(tmp_path, "outer-0", 3).touch()
    file.write_text("7 process 1 on host\n")
    (beat,) = read_beats(tmp_path)
    assert (beat.study, beat.worker, beat.device) == ("outer-1", "process 1 on host", "")
