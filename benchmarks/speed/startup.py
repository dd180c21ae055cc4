"""Waiting time for `--help`, and for the first trial of a run whose data are cached.

`python -m benchmarks.speed.startup --data demo` begins the same run twice in new directories, the
first time to fill the cache. A trial's line in the journal, written when the trial has ended,
contains the time of its beginning.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.shared.places import ROOT

PATIENCE_SECONDS = 600
TRIAL = 4
"""Code in Optuna's journal for the creation of a trial."""


def wait_for_help(times: int = 5) -> tuple[float, float, bool]:
    """Shortest wall and CPU seconds of ``--help``, and whether it loads torch."""
    words = [sys.executable, str(ROOT / "run_study.py"), "--help"]
    seconds, cpu = [], []
    for _ in range(times):
        before, used = time.perf_counter(), _children()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - before)
        cpu.append(_children() - used)
    told = subprocess.run(
        [sys.executable, "-X", "importtime", *words[1:]], check=True, capture_output=True, text=True
    )
    return min(seconds), min(cpu), "torch" in told.stderr


def first_trial(words: list[str], run: Path) -> tuple[float, float]:
    """Seconds from the command to the start of the first trial, and CPU seconds of the driver."""
    command = [sys.executable, str(ROOT / "run_study.py"), *words, "--quiet", "--run", str(run)]
    started = time.time()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while (begun := _begun(run / "trials.journal")) is None:
                if process.poll() is not None or time.time() > started + PATIENCE_SECONDS:
                    raise RuntimeError(f"no trial began; run {' '.join(command)} to see the reason")
                time.sleep(0.05)
            cpu = _cpu(process.pid)
        finally:
            process.terminate()
    return begun - started, cpu


def _begun(journal: Path) -> float | None:
    if not journal.exists():
        return None
    lines = [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    trials = [kept for kept in map(json.loads, lines) if kept["op_code"] == TRIAL]
    began = [datetime.fromisoformat(kept["datetime_start"]).timestamp() for kept in trials]
    return min(began, default=None)


def _cpu(process: int) -> float:
    """User and system seconds, from /proc (Linux)."""
    ticks = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(int(tick) for tick in ticks) / 100


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="multimodal")
    parser.add_argument("--data", default="demo")
    chosen = parser.parse_args()
    seconds, cpu, torch = wait_for_help()
    print(f"--help: {seconds:.2f} s ({cpu:.2f} s of CPU), torch loaded: {torch}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "warm"):
            words = ["--task", chosen.task, "--data", chosen.data, "--trials", "2"]
            seconds, cpu = first_trial(words, Path(folder) / name)
            print(f"{name}: first trial after {seconds:.1f} s; the driver used {cpu:.1f} s of CPU")


if __name__ == "__main__":
    main()
