"""Deadline of a run: the time to start no more trials, so that refits and report end in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from outerfold.study.schedule.patience import EndedTrial


@dataclass(frozen=True)
class Deadline:
    """Time by which a run must be finished.

    The end of a study is its refit and its scoring.

    Attributes:
        at: the time of the deadline, in seconds of ``clock``.
        workers: number of workers that share the ends.
        end_trials: duration of a study's end, in complete trials.
        trial_seconds: expected duration of a complete trial, used until one has ended.
        report_seconds: time reserved for the report.
        clock: returns seconds since a fixed moment, as ``time.monotonic`` does.
    """

    at: float
    workers: int
    end_trials: float
    trial_seconds: float
    report_seconds: float
    clock: Callable[[], float]

    def near(self, trials: Iterable[EndedTrial], ends: int) -> bool:
        """Whether the run would miss the deadline with another trial, the ends and the report.

        Args:
            trials: trials that ended in this call; the next is expected to take as long as the
                longest of them.
            ends: number of studies that must still be refitted and scored.
        """
        seen = list(trials)
        trial = max((t.seconds for t in seen), default=0.0)
        if not any(t.state == "complete" and t.seconds for t in seen):
            trial = max(trial, self.trial_seconds)
        rounds = 1 + self.end_trials * ceil(ends / self.workers)
        return self.clock() + rounds * trial + self.report_seconds > self.at
