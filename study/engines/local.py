"""How work reaches processes: an executor and the device tokens it may hand out."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import optuna
from joblib.externals.loky import ProcessPoolExecutor, process_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from outerfold.storage.errors import DataError, first_line

if TYPE_CHECKING:
    from outerfold.study.worker.jobs import Job, Outcome

WATCH_SECONDS = 0.5
"""How long a worker may outlive the driver."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Sets of names are walked in one order in every process.
    "PYTHONHASHSEED": "0",
}
"""Small heads: two threads on a shared two-core machine were 25 times slower than one."""


class WorkerLost(RuntimeError):
    """A worker died, or was lost sight of, with the job it had; the job may be submitted again."""


class Engine(Protocol):
    """Runs jobs elsewhere."""

    @property
    def devices(self) -> Sequence[str]:
        """One token a worker there is now; a token is lent to one job at a time."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job that holds one of ``devices``; its future may raise ``WorkerLost``."""

    def close(self, *, kill: bool) -> None:
        """Let go of the workers, at once if ``kill``."""


class LocalEngine:
    """Processes of this machine (joblib's loky)."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=len(self.devices),
            timeout=None,
            env=ONE_THREAD,
            initializer=begin_worker,
            initargs=(os.getpid(),),
        )

    def warm(self) -> None:
        """Start the processes, which take seconds to load what they need, and do not wait."""
        self._pool.submit(os.getpid)

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``; a worker that dies takes the others with it, all start anew."""
        from outerfold.study.worker.jobs import work

        try:
            future: Future[Outcome] = self._pool.submit(work, job)
        except BrokenProcessPool:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = self._start()
            future = self._pool.submit(work, job)
        return with_worker_lost(future, BrokenProcessPool)

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``."""
        self._pool.shutdown(wait=not kill, kill_workers=kill)


class EngineStarter:
    """Engines of one kind, the first of which loads while the data are read.

    Attributes:
        make: makes an engine.
        devices: of the first.
        own: device of this process, which computes the representations.
    """

    def __init__(self, make: Callable[[], Engine], own: str) -> None:
        self.make, self.own = make, own
        self._waiting: Engine | None = make()
        self.devices = tuple(self._waiting.devices)

    def waiting(self) -> Engine:
        """The engine that the next ``take`` hands over; to measure on."""
        self._waiting = self._waiting or self.make()
        return self._waiting

    def take(self) -> Engine:
        """An engine, which its taker closes."""
        engine, self._waiting = self.waiting(), None
        return engine

    def close(self) -> None:
        """End the engine that no one took."""
        if self._waiting is not None:
            self._waiting.close(kill=True)


def with_worker_lost(future: Future[Outcome], *lost: type[BaseException]) -> Future[Outcome]:
    """The same future, but raising ``WorkerLost`` in place of an engine's own words for it."""
    told: Future[Outcome] = Future()

    def tell(done: Future[Outcome]) -> None:
        error = CancelledError() if done.cancelled() else done.exception()
        if isinstance(error, lost):
            error = WorkerLost(first_line(error))
        with suppress(InvalidStateError):  # an engine may have given the job up meanwhile
            if error is None:
                told.set_result(done.result())
            else:
                told.set_exception(error)

    future.add_done_callback(tell)
    return told


def local_devices(workers: int, per_gpu: int = 0) -> list[str]:
    """Device tokens of this machine, see ``device_names``."""
    import torch

    gpus = torch.cuda.device_count()
    return device_names(gpus=gpus, cores=os.cpu_count() or 1, workers=workers, per_gpu=per_gpu)


def device_names(*, gpus: int, cores: int, workers: int = 0, per_gpu: int = 0) -> list[str]:
    """One token a worker, going round the GPUs so that few jobs spread over all of them.

    Args:
        workers: in all; 0 for one a GPU, or one a core without.
        per_gpu: workers on each GPU instead; 0 leaves it to ``workers``.

    Raises:
        DataError: ``per_gpu`` without a GPU.

    Example:
        >>> device_names(gpus=2, cores=16, workers=3)
        ['cuda:0', 'cuda:1', 'cuda:0']
    """
    if per_gpu and not gpus:
        raise DataError(
            f"--workers-per-gpu {per_gpu} has no effect: this machine has no GPU that PyTorch can "
            "use; leave it out, or say --workers"
        )
    if not gpus:
        return ["cpu"] * (workers or cores)
    return [f"cuda:{i % gpus}" for i in range(workers or gpus * max(1, per_gpu))]


def quiet_optuna() -> None:
    """Warnings only, and none about the grouped sampler being experimental: it is meant."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def begin_worker(driver: int) -> None:
    """Set up a worker: one thread, deaf to Ctrl-C (the driver hears it), gone with the driver.

    What its jobs need is loaded here, while the driver loads the same and reads the data.
    """
    import torch

    import outerfold.study.worker.jobs  # noqa: F401

    torch.set_num_threads(1)
    quiet_optuna()
    # With psutil at hand loky takes 300 MB more than at first for a leak, and starts the worker
    # anew; data that a worker keeps and rows that it maps are more than that and no leak.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, args=(driver,), daemon=True).start()


def _end_with_driver(driver: int) -> None:
    # A worker that outlives a killed driver would go on writing to a journal that a resumed
    # driver has meanwhile cleared.
    while os.getppid() == driver:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
