"""Seconds of the demo's study from an empty cache, by part, in an earlier tree and in this one.

    python -m benchmarks.speed.demo_study --repeats 3

The study is that of ``make demo``. Both trees carry it out in turn, each time with a cache of its
own, on cores that nothing else should use. The parts end with events of the run's log, so that
they mean the same in both trees.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import geometric_mean, median

from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import ROOT
from benchmarks.shared.worktree import BEFORE, own_environment, worktree
from benchmarks.speed.ends import JOB

STUDY = ["--task", "multimodal", "--data", "demo", "--trials", "10", "--epochs", "30"]
WAYS = {
    "refit, before": ["--final", "refit"],
    "refit, now": ["--final", "refit"],
    "folds, now": ["--final", "folds"],
}
"""Options by name of a column; the first is of the earlier tree."""
PARTS = ["until the first trial", "until the last trial", "until the last end", "report", "all"]
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Parts:
    """Seconds by the clock: start and encoding, search, ends that are left, report, all."""

    start: float
    search: float
    ends: float
    report: float
    whole: float


def measure(tree: Path, words: Sequence[str], folder: Path) -> Parts:
    """Carry out the demo's study with the code of a tree, from an empty cache.

    Raises:
        RuntimeError: the study failed, or its log tells of no trial or no end.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run = Path(place) / "run"
        command = [sys.executable, str(tree / "run_study.py"), *STUDY, *words, "--run", str(run)]
        env = own_environment(OUTERFOLD_CACHE=f"{place}/cache")
        began, at = time.monotonic(), dict[str, float]()
        with subprocess.Popen(command, cwd=tree, env=env, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                note_jobs(run / "run.log", time.monotonic() - began, at)
                time.sleep(POLL_SECONDS)
        whole = time.monotonic() - began
        if process.returncode or not {"first", "trial", "end"} <= set(at):
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {at}")
    first, last, end = at["first"], at["trial"], max(at["trial"], at["end"])
    return Parts(first, last - first, end - last, whole - end, whole)


def note_jobs(log: Path, now: float, at: dict[str, float]) -> None:
    """Note when the first trial began, and when the last trial and the last end were over."""
    jobs = JOB.findall(log.read_text(encoding="utf-8")) if log.exists() else []
    for kind in ("trial", "end"):
        ended = [float(seconds) for name, seconds in jobs if name == kind]
        if len(ended) > at.get(f"{kind}s", 0):
            at[f"{kind}s"], at[kind] = len(ended), now
            if kind == "trial":
                at.setdefault("first", now - ended[0])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    chosen = parser.parse_args(argv)
    found: dict[str, list[Parts]] = {name: [] for name in WAYS}
    with worktree(chosen.before) as before, tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.repeats):
            for name, words in WAYS.items():
                tree = before if name.endswith("before") else ROOT
                found[name].append(measure(tree, words, Path(folder)))
                print(name, found[name][-1], flush=True)
    first, *rest = WAYS
    rows = [
        [part, *(f"{median(astuple(one)[at] for one in found[name]):.1f}" for name in WAYS)]
        for at, part in enumerate(PARTS)
    ]
    print(markdown(["seconds (median)", *WAYS], rows))
    for name in rest:
        pairs = zip(found[first], found[name], strict=True)
        print(f"{name}: {geometric_mean(b.whole / a.whole for a, b in pairs):.2f} of before")


if __name__ == "__main__":
    main()
