"""Kills of a study's processes at random moments; it goes on to the same files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.faults.damage import compare
from benchmarks.faults.tiny import call, command, data_of, outcome_of, quick_runs
from benchmarks.shared.places import ROOT

KILLS_A_RUN = 3
MOST_SECONDS = 600.0


def kill_runs(folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill processes of tiny studies with SIGKILL, go on with each, and compare what they leave.

    Args:
        folder: folder for the data, the cache and the runs.
        kills: number of kills.
        seed: seed of their moments.

    Returns:
        Number of kills of each end: ``identical``, ``refused``, ``different`` or ``traceback``.
    """
    chance, found = random.Random(seed), Counter[str]()
    data = data_of(folder)
    whole, usual = folder / "whole", 0.0
    for _ in range(2):  # the second has its images encoded
        shutil.rmtree(whole, ignore_errors=True)
        began = time.monotonic()
        _start(data, whole).wait(MOST_SECONDS)
        usual = time.monotonic() - began
    expected = outcome_of(whole)
    while sum(found.values()) < kills:
        run = folder / "killed"
        shutil.rmtree(run, ignore_errors=True)
        done = 0
        for _ in range(min(KILLS_A_RUN, kills - sum(found.values()))):
            done += _kill(_start(data, run), chance.uniform(0.2, 1.0) * usual, chance)
        with quick_runs():
            ended = call(*command(data, run))
        if ended.trace:
            print(ended.trace, file=sys.stderr)
        found[_end_of(ended.code, ended.trace, run, expected)] += max(done, 1)
    return found


def _start(data: Path, run: Path) -> subprocess.Popen[bytes]:
    words = [str(word) for word in command(data, run)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_study.py"), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes], seconds: float, chance: random.Random) -> int:
    """Kill the driver, or the driver and its workers, after some seconds; 0 if it had ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    else:
        return 0
    if chance.random() < 0.5:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return 1


def _end_of(code: int | None, trace: str, run: Path, expected: dict[str, object]) -> str:
    if trace:
        return "traceback"
    if code == 2:
        return "refused"
    return compare(outcome_of(run), expected)
