"""Nested study by outerfold: as users run it, and trial by trial with a stop-watch."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.shared.small_studies import Pool
from outerfold.objectives.metrics import METRICS
from outerfold.pipelines._base import Epoch, Training
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.saved.files import ENCODER_FILE
from outerfold.storage.cache.files import write_json
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_result
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import carry_out_run, open_studies
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.local import Engine, LocalEngine, local_devices
from outerfold.study.setup.run_directory import PreparedRun, make_splits, write_run_directory
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session


@dataclass
class Watched:
    """An engine that records for each trial the seconds away from the driver and at work."""

    engine: Engine
    away: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    epochs: int = 0

    @property
    def devices(self) -> Any:
        return self.engine.devices

    def submit(self, job: Job) -> Future[Outcome]:
        start = time.perf_counter()
        future = self.engine.submit(job)

        def note(done: Future[Outcome]) -> None:
            if job.number is not None and not done.cancelled() and done.exception() is None:
                self.away.append(time.perf_counter() - start)
                self.worked.append(done.result().seconds)
                self.epochs += done.result().epochs

        future.add_done_callback(note)
        return future

    def close(self, *, kill: bool) -> None:
        self.engine.close(kill=kill)


@dataclass
class StopWatch:
    """Sum of CPU and wall seconds of all trainings, measured as a context manager."""

    cpu: float = 0.0
    wall: float = 0.0

    def __enter__(self) -> None:
        self.cpu -= time.process_time()
        self.wall -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time()
        self.wall += time.perf_counter()


@dataclass(frozen=True)
class Timed:
    """A pipeline whose training is timed; everything else is passed to the pipeline."""

    pipeline: Any
    watch: StopWatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def start(self, rows: TrainingRows, **how: Any) -> TimedTraining:
        with self.watch:
            return TimedTraining(self.pipeline.start(rows, **how), self.watch)


@dataclass(frozen=True)
class TimedTraining:
    """A training whose epochs are timed; everything else is passed to the training."""

    training: Training
    watch: StopWatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.training, name)

    def __iter__(self) -> Iterator[Epoch]:
        epochs = iter(self.training)
        while True:
            with self.watch:
                epoch = next(epochs, None)
            if epoch is None:
                return
            yield epoch


def whole_study(where: Path, pool: Pool, config: StudyConfig, workers: int) -> dict[str, Any]:
    """Run the studies of the outer folds with the driver and its worker processes.

    Returns:
        ``wall`` and ``cpu`` seconds, including the start of the workers; ``worked``: seconds of
        all trials on their worker's one thread; ``trials`` and ``epochs``; ``scores`` and
        ``tested`` rows of each outer fold; ``waited``: median share of a trial's time for which
        its job was away from the driver but not at work.
    """
    prepared, at = write_run(where, pool, config)
    watched: list[Watched] = []

    def start() -> Watched:
        watched.append(Watched(LocalEngine(local_devices(workers))))
        return watched[-1]

    wall, cpu = time.perf_counter(), cpu_with_children()
    console = Console(quiet=True)
    with StudyProgress(console, trials=config.trials, quiet=True, maximise=True) as progress:
        failures = carry_out_run(prepared, at, start, progress)
    if failures:
        raise RuntimeError(str(failures))
    found = watched[-1]
    late = [1 - worked / away for away, worked in zip(found.away, found.worked, strict=True)]
    return {
        "wall": time.perf_counter() - wall,
        "cpu": cpu_with_children() - cpu,
        "worked": sum(found.worked),
        "trials": len(found.worked),
        "epochs": found.epochs,
        "waited": float(np.median(late[workers:])),
        **outer_scores(prepared),
    }


def trial_by_trial(where: Path, pool: Pool, config: StudyConfig) -> dict[str, Any]:
    """Run every trial to its last epoch in this process, on one thread.

    Returns:
        ``cpu`` and ``wall`` seconds of all trials, ``training_cpu`` and ``training_wall`` seconds
        of the training in them, ``trials`` and ``epochs``.
    """
    prepared, at = write_run(where, pool, replace(config, pruner="none"))
    session, watch = open_session(at), StopWatch()
    jobs = [Job(at, fold.name, n, "cpu") for fold in prepared.studies for n in range(config.trials)]
    for fold in prepared.studies:
        objective = session.objective(fold.name, "cpu")
        own = objective.space
        objective.space = lambda trial, own=own: Timed(own(trial), watch)  # type: ignore[misc]
    wall, cpu = time.perf_counter(), time.process_time()
    epochs = 0
    for job in jobs:
        outcome = run_and_keep_job(job)
        epochs += outcome.epochs
        if outcome.state != "complete":
            raise RuntimeError(f"{job.study}, trial {job.number}: {outcome.state} {outcome.reason}")
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "training_cpu": watch.cpu,
        "training_wall": watch.wall,
        "trials": len(jobs),
        "epochs": epochs,
    }


def write_run(where: Path, pool: Pool, config: StudyConfig) -> tuple[PreparedRun, WorkerContext]:
    """Write a run directory with the studies of the outer folds; it makes no model of all rows."""
    folder = RunFolder(where)
    where.mkdir(parents=True)
    prepared = write_run_directory(folder, config, pool.data, make_splits(config, pool.data))
    write_json(where / ENCODER_FILE, pool.encoder)
    outer = replace(prepared, studies=tuple(fold for fold in prepared.studies if fold.test))
    at = WorkerContext(where, pool.embeddings)
    open_studies(outer, at)
    return outer, at


def outer_scores(prepared: PreparedRun) -> dict[str, Any]:
    """Score, tested rows and number of inner folds of each outer fold."""
    scores, tested = [], []
    for fold in prepared.studies:
        test = read_result(prepared.folder, fold.name, prepared.data.classes).test
        assert test is not None
        scores.append(METRICS[prepared.config.metric].score(test.labels, test.probabilities))
        tested.append(sorted(test.ids.tolist()))
    return {"scores": scores, "tested": tested, "inner": [len(f.inner) for f in prepared.studies]}


def cpu_with_children() -> float:
    """CPU seconds of this process and of the workers that have ended."""
    kept = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + kept.ru_utime + kept.ru_stime
