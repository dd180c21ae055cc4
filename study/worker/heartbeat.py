"""Sign of life of a job: a file that changes as long as the job uses its processor."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BEATS = ".beats"
"""Folder of a run with one file for each job that is under way."""

BEAT_SECONDS = 5.0
"""Seconds between two signs of life."""


@dataclass(frozen=True)
class Beat:
    """Sign of life of a job.

    Attributes:
        study: study of the job.
        worker: name of the worker.
        device: device that the job trains on; empty where an earlier version runs.
        at: time of the sign, in seconds of the clock of the file system.
    """

    study: str
    worker: str
    device: str
    at: float


def beat_file(run: Path, study: str, number: int | None) -> Path:
    """File of a job's sign of life; ``number`` is None for the end of a study."""
    return run / BEATS / f"{study}-{'end' if number is None else number}"


def read_beats(run: Path) -> list[Beat]:
    """Latest sign of life of each job of a run that is under way, or whose worker was killed."""
    found = []
    for file in sorted((run / BEATS).glob("*-*")):
        with suppress(OSError, ValueError):  # a job ends, or writes its file, meanwhile
            text, at = file.read_text(encoding="utf-8"), file.stat().st_mtime
            if text:
                study = file.name.rpartition("-")[0]
                found.append(Beat(study, worker_of(text), text.partition("\n")[2].strip(), at))
    return found


def worker_of(text: str) -> str:
    """Name of the worker in the contents of a file of a sign of life."""
    return text.partition("\n")[0].partition(" ")[2]


def clear_beats(run: Path) -> None:
    """Remove what killed workers left; no job may be under way."""
    shutil.rmtree(run / BEATS, ignore_errors=True)


def name_worker() -> str:
    """Name of this process, by which a user finds it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def thread_clock() -> Callable[[], float]:
    """Clock of the processor time, in seconds, that the calling thread uses.

    Where the system has none for a single thread, as on macOS, it is that of the process. There
    only a worker that was stopped is noticed.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


class Heartbeat:
    """Sign of life in a file, which changes only if the job has used its processor meanwhile.

    Args:
        file: the file.
        worker: name of the worker, for the user.
        used: processor time of the job so far, in seconds.
        device: device that the job trains on.
    """

    def __init__(
        self, file: Path, worker: str, used: Callable[[], float], device: str = ""
    ) -> None:
        self.file, self.worker, self.device, self._used = file, worker, device, used
        self._count, self._before = 0, -1.0

    def beat(self) -> None:
        """Change the file, unless the job has stood still since the last time."""
        used = self._used()
        if used <= self._before:
            return
        self._count, self._before = self._count + 1, used
        with suppress(OSError):  # a disk that is full ends the job by itself
            self.file.parent.mkdir(exist_ok=True)
            text = f"{self._count} {self.worker}\n{self.device}\n"
            self.file.write_text(text, encoding="utf-8")

    def run(self, stop: threading.Event) -> None:
        """Beat until ``stop`` is set."""
        while not stop.wait(BEAT_SECONDS):
            self.beat()


@contextmanager
def heartbeat(file: Path, worker: str, device: str = "") -> Iterator[None]:
    """Give signs of life of the calling thread in ``file`` while the block runs."""
    giver, stop = Heartbeat(file, worker, thread_clock(), device), threading.Event()
    giver.beat()
    thread = threading.Thread(target=giver.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(OSError):
            file.unlink(missing_ok=True)
