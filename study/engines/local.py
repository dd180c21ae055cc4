"""Engine with worker processes of this machine, and the protocol that every engine follows.

A device token, such as ``cpu`` or ``cuda:0``, is the name of the device that a job uses.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import joblib
import optuna
from joblib.externals.loky import ProcessPoolExecutor, process_executor
from joblib.externals.loky.process_executor import (
    BrokenProcessPool,
    ShutdownExecutorError,
)

from outerfold.storage.cores import count_cores
from outerfold.storage.errors import DataError, first_line
from outerfold.storage.processes import LEAK_SIZE, tend_process

if TYPE_CHECKING:
    from outerfold.study.worker.jobs import Job, Outcome

LEAK_SIZE_TESTED = "joblib 1.6.0"
"""Version in which loky's bound on the growth of a worker's memory, for which it has no public
setting, has the name that we know."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Gives sets of names the same order in every process.
    "PYTHONHASHSEED": "0",
}
"""Environment of a worker, with one thread: for small heads, two threads on a shared two-core
machine were 25 times slower than one."""


class WorkerLost(RuntimeError):
    """A worker died or became unreachable during a job; the job may be submitted again."""


class Engine(Protocol):
    """Runs jobs in worker processes."""

    @property
    def devices(self) -> Sequence[str]:
        """Device tokens, one for each present worker; a token is used by one job at a time."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job, which uses one of ``devices``; its future may raise ``WorkerLost``."""

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        """End a hung worker, whose job then raises ``WorkerLost``.

        Args:
            future: a future of ``submit``.
            worker: name that the worker gave; empty if it has not begun the job.

        Returns:
            Whether the job was taken from it; False where it only waits for a worker.
        """

    def close(self, *, kill: bool) -> None:
        """Release the workers: at once if ``kill``, else after their jobs."""


@runtime_checkable
class SharingEngine(Protocol):
    """What an engine has that can place fewer workers on a GPU."""

    def share(self, device: str, most: int) -> None:
        """Let at most ``most`` workers use a device, as soon as the running jobs have ended."""


class LocalEngine:
    """Engine with processes of this machine (joblib's loky), one for each device token.

    Args:
        devices: device tokens.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        require_leak_size()
        self._devices = tuple(devices)
        self._crowded = False  # more processes run than there are tokens
        self._running: list[Future[Outcome]] = []
        self._pool = self._start()

    @property
    def devices(self) -> Sequence[str]:
        """See ``Engine.devices``; none while running jobs must end before processes are fewer."""
        return () if self._crowded and self._is_busy() else self._devices

    def share(self, device: str, most: int) -> None:
        """See ``SharingEngine.share``; all processes are started again, so that memory is free."""
        kept, count = [], 0
        for one in self._devices:
            count += one == device
            if one != device or count <= most:
                kept.append(one)
        self._crowded = self._crowded or len(kept) < len(self._devices)
        self._devices = tuple(kept)

    def _is_busy(self) -> bool:
        self._running = [future for future in self._running if not future.done()]
        return bool(self._running)

    def _restart(self) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)
        self._pool, self._crowded = self._start(), False

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=len(self._devices),
            timeout=None,
            env=ONE_THREAD,
            initializer=set_up_worker,
            initargs=(os.getpid(),),
        )

    def warm(self) -> None:
        """Start the processes without waiting; they take seconds to load their packages."""
        self._pool.submit(os.getpid)

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``; if a worker dies, all workers stop and are started again."""
        from outerfold.study.worker.jobs import run_job

        if self._crowded and not self._is_busy():
            self._restart()
        try:
            future: Future[Outcome] = self._pool.submit(run_job, job)
        except BrokenProcessPool:
            self._restart()
            future = self._pool.submit(run_job, job)
        translated = translate_lost_worker(future, BrokenProcessPool, ShutdownExecutorError)
        self._running.append(translated)
        return translated

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        """See ``Engine.end_hung``; all workers are stopped and started again.

        It does not wait for their end, which a worker that waits for a disk may never reach.
        """
        lose(future, f"{worker or 'a worker'} gave no sign of life")
        self._pool.shutdown(wait=False, kill_workers=True)
        self._pool, self._crowded = self._start(), False
        return True

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``; the workers have ended when it returns."""
        self._pool.shutdown(wait=True, kill_workers=kill)


class EngineStarter:
    """Makes engines of one kind; the first one loads while the data are read.

    Args:
        make: makes an engine.
        own: device of this process.
        make_on_cores: makes an engine on the CPU cores of a machine with GPUs; None elsewhere.
        make_beside: makes an engine with a number of workers on each GPU; None where the number is
            given, or there is no GPU.

    Attributes:
        make: makes an engine on the kind of device that is in use.
        devices: device tokens of the first engine.
        own: device of this process, which computes the embeddings.
        chosen: kind of device that was chosen by measurement; empty if none was.
    """

    chosen = ""

    def __init__(
        self,
        make: Callable[[], Engine],
        own: str,
        make_on_cores: Callable[[], Engine] | None = None,
        make_beside: Callable[[int], Engine] | None = None,
    ) -> None:
        self.make, self.own = make, own
        self._usual, self.make_on_cores = make, make_on_cores
        self.make_beside = make_beside
        self._waiting: Engine | None = make()
        self.devices = tuple(self._waiting.devices)

    def train_on(self, kind: str) -> None:
        """Make engines on this kind of device, ``cpu`` or ``cuda``, from now on."""
        on_cores = self.make_on_cores if kind == "cpu" else None
        self._replace(on_cores or self._usual)

    def place_beside(self, count: int) -> None:
        """Make engines with this number of workers on each GPU from now on."""
        assert self.make_beside is not None
        self._replace(partial(self.make_beside, count) if count > 1 else self._usual)

    def _replace(self, make: Callable[[], Engine]) -> None:
        if make is not self.make:
            self.close()
            self.make, self._waiting = make, make()
            self.devices = tuple(self._waiting.devices)

    def waiting(self) -> Engine:
        """Engine that the next ``take`` will return; measurements may use it before."""
        self._waiting = self._waiting or self.make()
        return self._waiting

    def take(self) -> Engine:
        """Return an engine, which the caller must close."""
        engine, self._waiting = self.waiting(), None
        return engine

    def close(self) -> None:
        """Close the engine that no caller has taken, if there is one."""
        if self._waiting is not None:
            self._waiting.close(kill=True)


def lose(future: Future[Outcome], why: str) -> None:
    """Let a future of ``translate_lost_worker`` raise ``WorkerLost``, unless it is done."""
    with suppress(InvalidStateError):  # the worker may have answered meanwhile
        future.set_exception(WorkerLost(why))


def translate_lost_worker(future: Future[Outcome], *lost: type[BaseException]) -> Future[Outcome]:
    """Future with the same result, which raises ``WorkerLost`` in place of the errors ``lost``."""
    translated: Future[Outcome] = Future()

    def copy_result(done: Future[Outcome]) -> None:
        error = CancelledError() if done.cancelled() else done.exception()
        if isinstance(error, lost):
            error = WorkerLost(first_line(error))
        with suppress(InvalidStateError):  # the engine may have set an exception meanwhile
            if error is None:
                translated.set_result(done.result())
            else:
                translated.set_exception(error)

    future.add_done_callback(copy_result)
    return translated


def local_devices(workers: int, per_gpu: int = 0) -> list[str]:
    """Device tokens of this machine, one for each worker; see ``device_names``."""
    import torch

    gpus = torch.cuda.device_count()
    return device_names(gpus=gpus, cores=count_cores(), workers=workers, per_gpu=per_gpu)


def device_names(*, gpus: int, cores: int, workers: int = 0, per_gpu: int = 0) -> list[str]:
    """Device tokens, one for each worker; the GPUs take turns, so that few jobs use all GPUs.

    Args:
        gpus: number of GPUs.
        cores: number of CPU cores.
        workers: number of workers; 0 means one for each GPU, or for each core without a GPU.
        per_gpu: number of workers on each GPU; 0 means that ``workers`` decides.

    Raises:
        DataError: ``per_gpu`` is given without a GPU.

    Example:
        >>> device_names(gpus=2, cores=16, workers=3)
        ['cuda:0', 'cuda:1', 'cuda:0']
    """
    if per_gpu and not gpus:
        raise DataError(
            f"--workers-per-gpu {per_gpu} has no effect: this machine has no GPU that PyTorch can "
            "use; leave it out, or give --workers"
        )
    if not gpus:
        return ["cpu"] * (workers or cores)
    return [f"cuda:{i % gpus}" for i in range(workers or gpus * max(1, per_gpu))]


def quiet_optuna() -> None:
    """Let Optuna log warnings only, and none about the grouped sampler, which is experimental."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def require_leak_size(module: object = process_executor) -> None:
    """Refuse a loky whose workers might be restarted for the memory that they need.

    Args:
        module: loky's module that holds the bound.

    Raises:
        DataError: the bound is not there; the message names the tested version.
    """
    if not isinstance(getattr(module, LEAK_SIZE, None), int):
        raise DataError(
            f"joblib {joblib.__version__}: its loky has no {LEAK_SIZE}, without which it restarts "
            f"workers that hold more than 300 MB; install {LEAK_SIZE_TESTED}"
        )


def set_up_worker(driver: int) -> None:
    """Set up a worker process, with one thread of torch.

    The packages that jobs need are imported here, while the driver imports the same and reads the
    data.

    Args:
        driver: process id of the driver.
    """
    import torch

    import outerfold.study.worker.jobs  # noqa: F401

    torch.set_num_threads(1)
    quiet_optuna()
    tend_process(driver)
