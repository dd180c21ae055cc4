"""When to begin no more trials, so that refits and report are done in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from outerfold.study.schedule.patience import EndedTrial

END_TRIALS = 1.5
"""An end runs the chosen trial again, then refits it: at most 1.1 and 0.3 of a trial a network."""


@dataclass(frozen=True)
class Deadline:
    """A time by which a run shall be over.

    Attributes:
        at: that time, by ``clock``.
        workers: that share the ends.
        networks: that an end trains.
        trial_seconds: expected of a trial of all its epochs, until a complete one was seen.
        report_seconds: kept for the report.
        clock: seconds since some moment, such as ``time.monotonic``.
    """

    at: float
    workers: int
    networks: int
    trial_seconds: float
    report_seconds: float
    clock: Callable[[], float]

    def near(self, trials: Iterable[EndedTrial], ends: int) -> bool:
        """Whether a trial begun now, and then the ends, would leave the report too late.

        Args:
            trials: ended in this call; the longest stands for the next.
            ends: studies yet to be refitted and scored.
        """
        seen = list(trials)
        trial = max((t.seconds for t in seen), default=0.0)
        if not any(t.state == "complete" and t.seconds for t in seen):
            trial = max(trial, self.trial_seconds)
        rounds = 1 + END_TRIALS * self.networks * ceil(ends / self.workers)
        return self.clock() + rounds * trial + self.report_seconds > self.at
