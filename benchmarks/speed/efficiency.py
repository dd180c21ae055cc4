"""Parallel efficiency: the same small run with one worker and with two, local or on Dask.

    python -m benchmarks.speed.efficiency local
    python -m benchmarks.speed.efficiency dask     # starts a scheduler and two workers on loopback

Workers have loaded everything before the clock starts. On a machine with other users, wall time
depends mostly on their work. The ratio (busy share of two workers) / (busy share of one) is the
same quotient, but the times of the trials themselves cancel in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from outerfold.study.driver.driver import carry_out_run
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.dask import DaskEngine
from outerfold.study.engines.local import Engine, LocalEngine, quiet_optuna
from outerfold.study.worker.jobs import Job, Outcome
from tests.factories import begin_run, make_config, make_rows
from tests.study.engines.servers import Cluster


@dataclass
class Kept:
    """An engine that stays open after a run, offers some of its workers and sums their work."""

    engine: Engine
    devices: Sequence[str]
    seconds: float = 0.0

    def submit(self, job: Job) -> Future[Outcome]:
        future = self.engine.submit(job)
        future.add_done_callback(self._add)
        return future

    def _add(self, future: Future[Outcome]) -> None:
        self.seconds += future.result().seconds

    def close(self, *, kill: bool) -> None:
        """Do nothing; the engine is closed after the last run."""


def timed(engine: Engine, workers: int, trials: int) -> tuple[float, float]:
    """Wall seconds of a run, and the share of them in which its workers worked."""
    data, source = make_rows(patients=60, signal=0.3)
    config = make_config(
        trials=trials, outer_folds=5, epochs=80, patience_epochs=80, networks=1, pruner="halving"
    )
    with tempfile.TemporaryDirectory() as folder:
        prepared, context = begin_run(Path(folder) / "run", data, source, config)
        kept = Kept(engine, ("cpu",) * workers)
        started = time.perf_counter()
        with StudyProgress(Console(quiet=True), trials=trials, quiet=True, maximise=True) as shown:
            assert carry_out_run(prepared, context, lambda: kept, shown) == {}
        wall = time.perf_counter() - started
    return wall, kept.seconds / (workers * wall)


@contextmanager
def dask() -> Iterator[Callable[[int], Engine]]:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        for _ in range(2):
            cluster.add_worker()
        try:
            yield lambda most: DaskEngine(cluster.address, most)
        finally:
            cluster.close()


@contextmanager
def local() -> Iterator[Callable[[int], Engine]]:
    yield lambda most: LocalEngine(("cpu",) * most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("local", "dask"))
    parser.add_argument("--trials", type=int, default=6)
    options = parser.parse_args()
    quiet_optuna()
    with {"local": local, "dask": dask}[options.engine]() as make:
        found = {}
        for workers in (1, 2):
            engine = make(workers)
            while len(engine.devices) < workers:
                time.sleep(0.5)
            timed(engine, workers, 1)  # loads torch in every worker
            found[workers] = timed(engine, workers, options.trials)
            engine.close(kill=True)
            wall, busy = found[workers]
            print(
                f"{options.engine}, {workers} worker(s): {wall:.1f} s, busy {busy:.1%}", flush=True
            )
    print(f"wall: {found[1][0] / (2 * found[2][0]):.2f}, busy: {found[2][1] / found[1][1]:.3f}")


if __name__ == "__main__":
    main()
