"""CPU seconds of the search and of the ends of the demo's study, in this tree and an earlier one.

    python -m benchmarks.speed.ends                     # 60 trials three times, half an hour
    python -m benchmarks.speed.ends --trials 2 --epochs 8 --before ""      # a pilot of this tree

The studies run one after the other with one worker each, in turn over seeds, so that a busy
machine disturbs all of them alike. The earlier tree is a git worktree of ``--before``. The CPU
seconds of the worker are read from /proc (Linux) whenever the run's log tells of an ended job;
those before the first trial's end are the worker's start and the plan, so that trial counts with
its seconds by the clock.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.places import ROOT
from benchmarks.shared.worktree import BEFORE, worktree

POLL_SECONDS = 0.02
JOB = re.compile(r" INFO \S+ (trial|end)\b.*?([0-9.]+) s$", re.MULTILINE)
"""Line of a run's log for an ended job: its kind and its seconds."""


@dataclass(frozen=True)
class Spent:
    """CPU seconds of one run: of its trials, of its ends, and of all its processes together."""

    trials: float
    ends: float
    whole: float


class WorkerTime:
    """CPU seconds of a worker, shared out among the jobs that it ended.

    Attributes:
        kinds: seconds by kind of job, ``trial`` and ``end``.
    """

    def __init__(self) -> None:
        self.kinds = {"trial": 0.0, "end": 0.0}
        self._jobs, self._used = 0, 0.0

    def update(self, log: str, used: float) -> None:
        """Share out what was used since the last call among the jobs that ended since then.

        Args:
            log: the run's log so far.
            used: CPU seconds of the worker so far.
        """
        jobs = [(kind, float(seconds)) for kind, seconds in JOB.findall(log)]
        new = jobs[self._jobs :]
        if not new:
            return
        spent = used - self._used if self._jobs else sum(seconds for _, seconds in new)
        clock = sum(seconds for _, seconds in new)
        for kind, seconds in new:
            self.kinds[kind] += spent * (seconds / clock if clock else 1 / len(new))
        self._jobs, self._used = len(jobs), used


def measure(tree: Path, words: Sequence[str], run: Path) -> Spent:
    """Carry out a run with the code of a tree.

    Raises:
        RuntimeError: the run failed.
    """
    command = [sys.executable, str(tree / "run_study.py"), *words, "--run", str(run)]
    before, found, log = _children_seconds(), WorkerTime(), run / "run.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            if log.exists():
                text = log.read_text(encoding="utf-8")
                found.update(text, _seconds_below(process.pid))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Spent(found.kinds["trial"], found.kinds["end"], _children_seconds() - before)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds_below(parent: int) -> float:
    """CPU seconds of all living processes below ``parent``, without its own."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    below, found = {parent}, True
    while found:
        found = {pid for pid, of in parents.items() if of in below and pid not in below}
        below |= found
    return sum(seconds[pid] for pid in below - {parent})


def _describe(name: str, runs: Sequence[Spent]) -> str:
    trials, ends, whole = (
        sum(values) / len(runs)
        for values in zip(*((one.trials, one.ends, one.whole) for one in runs), strict=True)
    )
    return (
        f"| {name} | {trials:.1f} | {ends:.1f} | {whole:.1f} | {ends / (trials + ends):.1%} | "
        f"{ends / whole:.1%} |"
    )


def _carry_out(cases: dict[str, tuple[Path, list[str]]], words: list[str], seeds: int) -> None:
    found: dict[str, list[Spent]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for number, (name, (tree, own)) in enumerate(cases.items()):
                given = [*words, *own, "--seed", str(seed)]
                found[name].append(measure(tree, given, Path(folder) / f"{seed}-{number}"))
    print("| Tree and model | Trials, s | Ends, s | All, s | Ends of trials and ends | of all |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        print(_describe(name, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10, help="of each of the six studies (10)")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--before", default=BEFORE, help='commit to compare with; "" for none')
    chosen = parser.parse_args()
    words = ["--task", "multimodal", "--data", "demo", "--workers", "1", "--quiet"]
    words += ["--trials", str(chosen.trials), "--epochs", str(chosen.epochs)]
    cases = {
        "this tree, folds": (ROOT, ["--final", "folds"]),
        "this tree, refit": (ROOT, ["--final", "refit"]),
    }
    if not chosen.before:
        _carry_out(cases, words, chosen.seeds)
        return
    with worktree(chosen.before) as tree:
        cases[f"{chosen.before}, refit"] = (tree, ["--final", "refit"])
        _carry_out(cases, words, chosen.seeds)


if __name__ == "__main__":
    main()
