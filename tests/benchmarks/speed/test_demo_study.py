"""Parts of the demo's study, read from its log."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.demo_study import note_jobs

LOG = """26-01-01 10:00:05,000 INFO outer-0 trial 0: complete after 5 epochs, inner score 0.8, 2.0 s
26-01-01 10:00:09,000 INFO outer-0 trial 1: pruned after 2 epochs, inner score 0.7, 1.5 s
26-01-01 10:00:11,000 INFO outer-0 end: finished after 5 epochs, inner score 0.8, 1.9 s
"""


def test_the_first_trial_began_before_it_ended_and_the_last_events_count(tmp_path: Path) -> None:
    log, at = tmp_path / "run.log", dict[str, float]()
    note_jobs(log, 1.0, at)
    assert at == {}, "there is no log yet"
    lines = LOG.splitlines(keepends=True)
    for seconds, count in ((5.0, 1), (7.0, 1), (9.0, 2), (11.0, 3), (20.0, 3)):
        log.write_text("".join(lines[:count]), encoding="utf-8")
        note_jobs(log, seconds, at)
    assert {name: at[name] for name in ("first", "trial", "end")} == {
        "first": 3.0,
        "trial": 9.0,
        "end": 11.0,
    }
