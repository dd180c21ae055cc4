"""Real servers on loopback for tests: a Dask scheduler with workers, and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.places import ROOT

SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as asked:
        asked.settimeout(1)
        return asked.connect_ex(("127.0.0.1", port)) == 0


def until(what: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


class Cluster:
    """A scheduler and workers, each a process of its own that can be killed.

    Args:
        cache: of workers that, as their scheduler, are started as README says; None for workers
            that also know the tests, whose arrays are sent to them.
    """

    def __init__(self, folder: Path, *, cache: Path | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._preload = () if cache is None else ("--preload", str(ROOT / "run_study.py"))
        if cache is None:
            self._environment["PYTHONPATH"] = str(ROOT)
        else:
            self._environment["OUTERFOLD_CACHE"] = str(cache)
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--port", str(self.port), *self._preload)
        until(lambda: answers(self.port))

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        worker = self._start(
            "worker",
            self.address,
            "--no-nanny",
            "--local-directory",
            str(self.folder),
            *self._preload,
            *(options if "--nthreads" in options else ("--nthreads", "1", *options)),
        )
        self.workers.append(worker)
        return worker

    def _start(self, part: str, *options: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{part}.log").open("ab")
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"distributed.cli.dask_{part}",
                *options,
                "--no-dashboard",
                "--host",
                "127.0.0.1",
            ],
            cwd=self.folder,
            env=self._environment,
            stdout=log,
            stderr=log,
        )

    def replace_workers(self) -> None:
        """Kill all at once; one comes in their place."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers = []
        self.add_worker()

    def restart_scheduler(self, kind: signal.Signals, away: float = 1.0) -> None:
        """Its workers end with it, and one comes with the new one."""
        self.scheduler.send_signal(kind)
        self.scheduler.wait(SECONDS)
        time.sleep(away)
        self.start_scheduler()
        self.replace_workers()

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


class Database:
    """A PostgreSQL server of its own in a temporary folder, run by an ordinary user."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder, self.port, self._user = folder, free_port(), user
        self._programs = programs
        self.url = f"postgresql+psycopg://outerfold@127.0.0.1:{self.port}/postgres"
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                folder / "data",
                "-U",
                "outerfold",
                "-A",
                "trust",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        self.start()

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        self.server = subprocess.Popen(
            [
                self._programs / "postgres",
                "-D",
                self.folder / "data",
                "-p",
                str(self.port),
                "-k",
                self.folder,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
            ],
            stdout=log,
            stderr=log,
            user=self._user,
            cwd=self.folder,
        )
        ready = [self._programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)

    def restart(self, kind: signal.Signals, away: float) -> None:
        self.server.send_signal(kind)
        self.server.wait(SECONDS)
        time.sleep(away)
        self.start()

    def close(self) -> None:
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait(SECONDS)


@contextmanager
def database() -> Iterator[Database]:
    """A running server; skips where PostgreSQL's is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = programs[-1] if programs else Path(shutil.which("postgres") or "")
    if not found.is_file():
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    user = None
    folder = Path(tempfile.mkdtemp(prefix="outerfold-database-"))
    if os.getuid() == 0:  # PostgreSQL refuses to be run by root
        user = "postgres" if shutil.which("postgres") or programs else "nobody"
        shutil.chown(folder, user)
    running = Database(folder, found.resolve().parent, user)
    try:
        yield running
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)
