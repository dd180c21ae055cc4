"""Processes that work for this one and end with it.

They are loky's: they do not import the main module, so a script needs no main guard, and they send
results through pipes, so a small /dev/shm suffices.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import current_process

from joblib.externals.loky import ProcessPoolExecutor, process_executor

from outerfold.storage.registry import anything_added

MOST_BESIDE = 3
"""Processes beside this one that draw figures; with more, all would be drawn before the tables are
made."""
WATCH_SECONDS = 0.5
"""Seconds between two checks of a process whether the one that started it still runs."""
LEAK_SIZE = "_MAX_MEMORY_LEAK_SIZE"
"""Name of loky's bound on the growth of a process."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""Environment of a process: there is one for each core, so each gets one thread."""


@dataclass(frozen=True, eq=False)
class Beside:
    """Processes beside this one.

    Attributes:
        pool: the processes.
        count: their number.
    """

    pool: ProcessPoolExecutor
    count: int


@contextmanager
def processes_beside(cores: int, module: str) -> Iterator[Beside | None]:
    """Processes that load a module at once and end with the block, at most one a further core.

    There are none on one core, in a daemonic process, which may start no other, and beside
    plugins, which they would not have loaded.

    Args:
        cores: number of cores.
        module: name of the module.
    """
    count = min(MOST_BESIDE, cores - 1)
    if count == 0 or current_process().daemon or anything_added():
        yield None
        return
    pool = open_processes(count)
    try:
        pool.submit(import_module, module)
        yield Beside(pool, count)
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def open_processes(count: int) -> ProcessPoolExecutor:
    """Processes of one thread each, which start at the first task and end with this process.

    Ctrl-C reaches this process alone, which is to shut them down.

    Args:
        count: number of processes.
    """
    return ProcessPoolExecutor(
        max_workers=count,
        timeout=None,
        env=ENVIRONMENT,
        initializer=tend_process,
        initargs=(os.getpid(),),
    )


def tend_process(parent: int) -> None:
    """Set up a process that works for another one: no reaction to Ctrl-C, and an end with it.

    Args:
        parent: process id of the other one, which handles Ctrl-C for all.
    """
    # If psutil is installed, loky restarts a process whose memory has grown by 300 MB, as a leak.
    # The packages alone need that much, as do the rows that a process maps; they are no leak.
    if hasattr(process_executor, LEAK_SIZE):
        setattr(process_executor, LEAK_SIZE, sys.maxsize)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # Otherwise a worker of a killed driver would still write to a journal that a resumed driver
    # has repaired meanwhile.
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
