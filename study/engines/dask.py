"""Workers of other machines: the same jobs through a Dask scheduler."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress

from distributed import Client
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from threadpoolctl import threadpool_limits

from outerfold.storage.errors import DataError, first_line
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.engines.local import WorkerLost, quiet_optuna, with_worker_lost
from outerfold.study.worker.jobs import Job, Outcome, work
from outerfold.study.worker.remote_embeddings import with_local_embeddings

_log = logging.getLogger("outerfold")

GPU = "GPU"
"""The resource by which a worker says that it has one."""

CONNECT_SECONDS = 10.0
"""For a scheduler's first answer."""

AWAY_SECONDS = 600.0
"""How long a scheduler may be away, and a run wait for its first worker."""

WORKERS_LOOK_SECONDS = 1.0
"""Between two looks at the scheduler: is it there, and which workers has it?"""


class DaskEngine:
    """Workers of a Dask cluster, as many as it has from moment to moment.

    A worker that declares the resource ``GPU`` gets the token ``cuda:0``, the first of those it
    may see; where there is one such worker, those without a GPU get no work, since a GPU and a CPU
    round differently. Dask itself gives a job to another worker when its own has died; after
    several deaths, or when the scheduler is gone, the job counts as lost and is submitted anew.

    Args:
        address: of the scheduler, ``tcp://HOST:PORT``.
        most: jobs at once; 0 for one a worker.
        say: is told what is waited for.

    Raises:
        DataError: no scheduler answers, no worker comes, or a worker has several threads.
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
        """See ``Engine.devices``; may raise ``DataError`` as on construction."""
        if time.monotonic() - self._looked > WORKERS_LOOK_SECONDS:
            self._look()
        return self._tokens

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``Engine.submit``."""
        wants = {GPU: 1} if job.device.startswith("cuda") else None
        pool = self._client.get_executor(pure=False, retries=0, resources=wants)
        future = with_worker_lost(
            pool.submit(work_here, job), KilledWorker, CancelledError, CommClosedError
        )
        self._running = [*(f for f in self._running if not f.done()), future]
        return future

    def close(self, *, kill: bool) -> None:
        """See ``Engine.close``; what a worker has begun it ends, and no one listens."""
        self._client.close(timeout=CONNECT_SECONDS)

    def _connect(self, seconds: float) -> Client:
        return Client(self.address, timeout=seconds, set_as_default=False)

    def _wait_for_workers(self) -> None:
        until = time.monotonic() + AWAY_SECONDS
        self._look()
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
            self._look()

    def _look(self) -> None:
        """Read the workers there are; after an absence of the scheduler, all jobs are lost."""
        try:
            if self._client.status != "running":
                raise ConnectionError("connection lost")
            workers = self._client.scheduler_info()["workers"].values()
        except (OSError, CancelledError, ValueError, KeyError) as error:
            self._return(error)
            return
        self._looked = time.monotonic()
        threads = [str(worker["host"]) for worker in workers if worker["nthreads"] != 1]
        if threads:
            raise DataError(
                f"--engine-address {self.address}: {len(threads)} workers have several threads, "
                f"such as one on {threads[0]}; a trial needs a process, so start them with "
                "--nthreads 1"
            )
        counts = [int(worker["resources"].get(GPU, 0)) for worker in workers]
        self._gpus = self._gpus or any(counts)
        self._tokens = (
            ("cuda:0",) * sum(c > 0 for c in counts) if self._gpus else (("cpu",) * len(counts))
        )
        if self._most:
            self._tokens = self._tokens[: self._most]

    def _return(self, error: BaseException) -> None:
        """Find the scheduler again; what it was given is lost."""
        self._say(f"{self.address}: the scheduler is away ({first_line(error)}); trying on")
        self._client.close(timeout=WORKERS_LOOK_SECONDS)
        for future in self._running:
            with suppress(InvalidStateError):  # its client may have told it meanwhile
                future.set_exception(WorkerLost("the scheduler is away"))
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
            f"--engine-address {self.address}: the scheduler has been away for "
            f"{AWAY_SECONDS:.0f} s; ended trials are kept: start it, and give the same command "
            "again"
        )


def work_here(job: Job) -> Outcome:
    """Run a job on a Dask worker; this is what is sent there.

    Raises:
        DataError: the worker lacks what the job needs; its host is named.
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
            f"it without --resources, or mend its driver"
        )
    torch.set_num_threads(1)
    quiet_optuna()
    with threadpool_limits(1):  # as local workers are started
        context, device = with_local_embeddings(job.context), job.device
        return work(Job(context, job.study, job.number, device, job.measure))
