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

from joblib.externals.loky import ProcessPoolExecutor, process_executor

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
