"""Engine with the workers of a Dask cluster, which may be on other machines."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

from distributed import Client, get_worker
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from threadpoolctl import threadpool_limits

from outerfold.storage.errors import DataError, first_line
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.engines.local import lose, quiet_optuna, translate_lost_worker
from outerfold.study.worker.heartbeat import name_worker
from outerfold.study.worker.jobs import Job, Outcome, run_job
from outerfold.study.worker.remote_embeddings import with_local_embeddings

_log = logging.getLogger("outerfold")

GPU = "GPU"
"""Name of the resource that a Dask worker with a GPU declares."""

CONNECT_SECONDS = 10.0
"""Seconds to wait for a scheduler's first answer."""

AWAY_SECONDS = 600.0
"""Seconds that a scheduler may be unreachable, and that a run waits for its first worker."""

WORKERS_LOOK_SECONDS = 1.0
"""Seconds between two checks of the scheduler: whether it answers, and which workers it has."""


class DaskEngine:
    """Engine with all workers of a Dask cluster; their number may change during the run.

    A worker that declares the resource ``GPU`` gets the token ``cuda:0``, the first GPU that it
    can use. If there is such a worker, workers without a GPU get no jobs, since a GPU and a CPU
    round differently. If a worker dies, Dask gives its job to another. After several deaths, or
    when the scheduler is gone, the job counts as lost and is submitted again.

    Args:
        address: address of the scheduler, ``tcp://HOST:PORT``.
        most: largest number of jobs at once; 0 means one for each worker.
        say: prints a sentence for the user, for example that a worker is awaited.

    Raises:
        DataError: no scheduler answers, no worker appears, or a worker has several threads.
    """

    def __init__(
        self, address: str, most: int = 0, say: Callable[[str], None] = _log.warning
    ) -> None:
        self.address, self._most, self._say = address, most, say
        self._running: list[Future[Outcome]] = []
        try:
            self._client = self._connect(CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise DataError(
                f"--engine-address {address}: no Dask scheduler answers "
                f"({first_line(error)}); start one with `dask scheduler`, "
                "and name the address that it prints"
            ) from None
        self._tokens: tuple[str, ...] = ()
        self._looked = 0.0
        self._gpus = False
        self._wait_for_workers()

    @property
    def devices(self) -> Sequence[str]:
        """See ``Engine.devices``; raises ``DataError`` in the same cases as the constructor."""
        if time.monotonic() - self._looked > WORKERS_LOOK_SECONDS:
            self._update_workers()
        return self._tokens

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        wants = {GPU: 1} if job.device.startswith("cuda") else None
        pool = self._client.get_executor(pure=False, retries=0, resources=wants)
        future = translate_lost_worker(
            pool.submit(run_on_worker, job), KilledWorker, CancelledError, CommClosedError
        )
        self._running = [*(f for f in self._running if not f.done()), future]
        return future

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        """See ``Engine.end_hung``; a worker that has a nanny is started again by it."""
        if not worker:
            return False
        lose(future, f"worker {worker} gave no sign of life")
        try:
            self._client.restart_workers([worker.split()[0]], timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError, KeyError) as error:
            self._say(f"worker {worker} cannot be restarted ({first_line(error)}); stop it")
        return True

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``; workers finish their jobs, but the results are not used."""
        self._client.close(timeout=CONNECT_SECONDS)

    def _connect(self, seconds: float) -> Client:
        return Client(self.address, timeout=seconds, set_as_default=False)

    def _wait_for_workers(self) -> None:
        until = time.monotonic() + AWAY_SECONDS
        self._update_workers()
        if not self._tokens:
            self._say(f"waiting for a worker at {self.address}")
        while not self._tokens:
            if time.monotonic() > until:
                raise DataError(
                    f"--engine-address {self.address}: the scheduler has had no worker for "
                    f"{AWAY_SECONDS:.0f} s; start some with `dask worker {self.address} "
                    "--nthreads 1`"
                )
            time.sleep(WORKERS_LOOK_SECONDS)
            self._update_workers()

    def _update_workers(self) -> None:
        """Read the present workers; if the scheduler does not answer, connect to it again."""
        try:
            if self._client.status != "running":
                raise ConnectionError("connection lost")
            workers = self._client.scheduler_info()["workers"].values()
        except (OSError, CancelledError, ValueError, KeyError) as error:
            self._reconnect(error)
            return
        self._looked = time.monotonic()
        threads = [str(worker["host"]) for worker in workers if worker["nthreads"] != 1]
        if threads:
            raise DataError(
                f"--engine-address {self.address}: {len(threads)} workers have several threads, "
                f"such as one on {threads[0]}; each trial needs its own process, so start them "
                "with --nthreads 1"
            )
        counts = [int(worker["resources"].get(GPU, 0)) for worker in workers]
        self._gpus = self._gpus or any(counts)
        self._tokens = (
            ("cuda:0",) * sum(c > 0 for c in counts) if self._gpus else (("cpu",) * len(counts))
        )
        if self._most:
            self._tokens = self._tokens[: self._most]

    def _reconnect(self, error: BaseException) -> None:
        """Connect to the scheduler again; all jobs that it had are lost.

        Raises:
            DataError: it did not answer for ``AWAY_SECONDS``.
        """
        self._say(
            f"{self.address}: the scheduler does not answer ({first_line(error)}); trying again"
        )
        self._client.close(timeout=WORKERS_LOOK_SECONDS)
        for future in self._running:
            lose(future, "the scheduler does not answer")
        self._running, self._tokens = [], ()
        until = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < until:
            try:
                self._client = self._connect(CONNECT_SECONDS)
            except OSError:
                time.sleep(WORKERS_LOOK_SECONDS)
            else:
                return
        raise DataError(
            f"--engine-address {self.address}: the scheduler has not answered for "
            f"{AWAY_SECONDS:.0f} s; ended trials are kept: start the scheduler, and give the same "
            "command again"
        )


def run_on_worker(job: Job) -> Outcome:
    """Run a job on a Dask worker; the engine sends this function there.

    Raises:
        DataError: the worker does not see the run directory, lacks the GPU that it declares, or
            cannot make the embeddings; the message names its host.
    """
    import torch

    host = socket.gethostname()
    if not RunFolder(job.context.run).started():
        raise DataError(
            f"--run {job.context.run}: the worker on {host} does not see this folder; put the run "
            "on a path that every worker shares"
        )
    if job.device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError(
            f"the worker on {host} declares the resource {GPU}, and torch finds none there; start "
            f"it without --resources, or repair its GPU driver"
        )
    torch.set_num_threads(1)
    quiet_optuna()
    with threadpool_limits(1):  # local workers are started with one thread too
        name = f"{get_worker().address} ({name_worker()})"
        return run_job(replace(job, context=with_local_embeddings(job.context)), name)
