"""The benchmark of ends shares a worker's seconds out among the jobs in the run's log."""

from __future__ import annotations

import pytest

from benchmarks.speed.ends import WorkerTime

HEAD = "2026-11-28 13:06:52,566 INFO"
FIRST = f"{HEAD} outer-0 trial 0: complete after 8 epochs, inner score 0.846612, 2.0 s\n"
PRUNED = f"{HEAD} outer-1 trial 1: pruned after 1 epochs, 1.0 s\n"
END = f"{HEAD} final end: finished after 5 epochs, inner score 0.870309, 3.0 s\n"
OTHER = "2026-11-28 13:06:52,566 WARNING outer-0 trial 1: its worker was lost (x)\n"


def test_seconds_are_shared_out_among_the_jobs_that_ended_since_the_last_look() -> None:
    found = WorkerTime()
    found.update("", 5.0)
    found.update(FIRST, 9.0)
    assert found.kinds == {"trial": 2.0, "end": 0.0}, "the start of the worker is not counted"
    found.update(FIRST, 9.5)
    found.update(FIRST + OTHER + PRUNED + END, 17.0)
    assert found.kinds["trial"] == pytest.approx(2.0 + 8.0 / 4)
    assert found.kinds["end"] == pytest.approx(8.0 * 3 / 4)


def test_jobs_too_short_for_the_clock_share_alike() -> None:
    found = WorkerTime()
    found.update(FIRST, 1.0)
    found.update(FIRST + "".join(line.replace("1.0 s", "0.0 s") for line in (PRUNED, PRUNED)), 1.4)
    assert found.kinds["trial"] == pytest.approx(2.4)
