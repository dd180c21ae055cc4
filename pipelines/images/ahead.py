"""Work on images that runs ahead of the encoder, in other processes or, for a few images, threads.

Threads that make views wait for the interpreter's lock, so they keep an encoder busy for a few
percent of its time where there are many cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing import current_process
from types import TracebackType
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from outerfold.storage.errors import DataError, first_line
from outerfold.storage.processes import open_processes

S = TypeVar("S")
T = TypeVar("T")

PROCESSES_FROM = 400
"""Number of images from which processes are worth their start: each takes 3 s to load the packages
of the augmentation, which is what one core needs for 400 views."""
LEAD = 2
"""Tasks that each worker may be ahead of the encoder, besides the one that it works on; their
results wait in memory, 10 MB each."""


class Ahead:
    """Workers that compute tasks in order, some ahead of the one whose result is read.

    Processes are started at the first call of ``map`` with enough images, and none in a daemonic
    process, which may not start any. They end with the ``with`` block, also by an error or Ctrl-C,
    and when the process that started them is killed.

    Args:
        cores: number of workers.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPoolExecutor | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        if self._processes is not None:
            self._processes.shutdown(wait=error is None, kill_workers=error is not None)

    def map(self, work: Callable[[Any], T], tasks: Iterable[Any], *, images: int) -> Iterator[T]:
        """Yield the result of each task in order.

        Args:
            work: function of one task; it is pickled, as tasks and results are.
            tasks: the tasks.
            images: number of images of all tasks together.

        Raises:
            DataError: a process died.
            Exception: what ``work`` raises for the task whose turn it is.
        """
        pool = self._pool(images)
        try:
            yield from results_ahead(
                lambda task: pool.submit(work, task), tasks, self._cores * (1 + LEAD)
            )
        except BrokenProcessPool as error:
            raise DataError(
                f"a process that reads images died ({first_line(error)}), as happens where memory "
                "runs out; the images done so far are kept, so run the same command again"
            ) from None

    def _pool(self, images: int) -> Executor:
        if self._cores > 1 and images >= PROCESSES_FROM and not current_process().daemon:
            if self._processes is None:
                self._processes = open_processes(self._cores)
            pool: Executor = self._processes
            return pool
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._cores)
        return self._threads


def results_ahead(submit: Callable[[S], Future[T]], tasks: Iterable[S], lead: int) -> Iterator[T]:
    """Yield the result of each task in order, while those after it are under way.

    Args:
        submit: begins a task.
        tasks: the tasks; none is taken before it can begin.
        lead: number of tasks that are under way, or wait for their turn.
    """
    coming = iter(tasks)
    waiting = deque(map(submit, islice(coming, lead)))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(map(submit, islice(coming, 1)))
        yield result
