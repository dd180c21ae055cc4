"""Search for jobs whose workers hang: they neither end nor use their processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from outerfold.study.engines.local import Engine
from outerfold.study.worker.heartbeat import BEAT_SECONDS, beat_file, worker_of
from outerfold.study.worker.jobs import Job, Outcome

HUNG_SECONDS = 600.0
"""Seconds without a sign of life after which a worker counts as hung."""

LONGEST_LOOK = 2 * BEAT_SECONDS
"""Seconds that one look counts at most. A driver that was stopped itself, as by Ctrl-Z or a laptop
that slept, would otherwise take all its workers for hung."""


@dataclass(frozen=True)
class _Sign:
    text: str
    silent: float  # seconds


def describe_hung(worker: str) -> str:
    """Sentence for the user on a hung worker."""
    return f"{worker or 'a worker'} gives no sign of life; its job is given to another"


class Silence:
    """Time for which each running job has given no sign of life.

    Args:
        run: the run directory.
        limit: seconds of silence after which a worker counts as hung.
        clock: returns seconds since a fixed moment.
    """

    def __init__(
        self, run: Path, limit: float = HUNG_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._limit, self._clock = run, limit, clock
        self._looked = clock()
        self._signs: dict[Future[Outcome], _Sign] = {}

    def end_hung(self, engine: Engine, running: Mapping[Future[Outcome], Job]) -> list[str]:
        """Take the jobs of hung workers from them, so that their futures raise ``WorkerLost``.

        Args:
            engine: engine of the jobs.
            running: jobs by their futures.

        Returns:
            Names of the hung workers.
        """
        passed = self._clock() - self._looked
        if passed < min(BEAT_SECONDS, self._limit):
            return []
        self._looked += passed
        self._signs = {
            future: self._look(self._signs.get(future), job, min(passed, LONGEST_LOOK))
            for future, job in running.items()
            if not future.done()
        }
        found = [(f, sign) for f, sign in self._signs.items() if sign.silent >= self._limit]
        return [
            worker
            for future, sign in found
            if engine.end_hung(future, worker := worker_of(sign.text))
        ]

    def _look(self, before: _Sign | None, job: Job, passed: float) -> _Sign:
        try:
            text = beat_file(self._run, job.study, job.number).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            text = ""
        if before is None or before.text != text:
            return _Sign(text, 0.0)
        return replace(before, silent=before.silent + passed)
