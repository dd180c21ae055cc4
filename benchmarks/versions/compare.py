"""Check whether this version of the code makes the same runs as another version.

    git worktree add /tmp/before REVISION
    python -m benchmarks.versions.compare --before /tmp/before --out /tmp/compared
    python -m benchmarks.versions.compare --before /tmp/before --out /tmp/compared \
        --full --data DATA

Both versions carry out the same runs on the same data and the same cached embeddings, one after the
other; the runs of the earlier version are kept in ``--out`` and made only once. Then the contents
of every file of a run are compared: `results.json`, tables, splits, trials of the journal, tensors
of the models, documents and pictures, and the output of `predict`, `explain` and `compare`. Exit
code 0 means that nothing differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.versions.cases import FULL, QUICK, Case
from benchmarks.versions.contents import differences, is_compared, read_contents

ROOT = Path(__file__).resolve().parents[2]
ENDED_BEFORE_THE_KILL = 6
"""Ended trials of a run after which the earlier version is killed."""
PAIR, COMPARED = "pair", ("runs/multimodal", "runs/other")
"""Name of the comparison of two runs, and the two runs."""
SHOWN = 20
"""Largest number of differences that are printed for one file."""


class Version:
    """One version of the code, and the folder in which its runs are made.

    Attributes:
        tree: folder of the checkout.
        home: folder of its runs and of the output of its commands.
    """

    def __init__(self, tree: Path, home: Path, cache: Path) -> None:
        self.tree, self.home = tree.resolve(), home
        self.environment = {**os.environ, "OUTERFOLD_CACHE": str(cache)}
        self.home.mkdir(parents=True, exist_ok=True)

    def words(self, *typed: str) -> list[str]:
        """Command line that calls this version with the arguments ``typed``."""
        return [sys.executable, str(self.tree / "run_study.py"), *typed]

    def call(self, name: str, *typed: str) -> None:
        """Carry out a command and write its output to ``name``.txt."""
        done = subprocess.run(
            self.words(*typed), cwd=self.home, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise CommandFailed(f"{self.tree}: {' '.join(typed)}\n{done.stdout}{done.stderr}")
        (self.home / f"{name}.txt").write_text(done.stdout, encoding="utf-8")


class CommandFailed(RuntimeError):
    """A command of one version did not end with exit code 0; the message holds its output."""


def options_of(case: Case, data: dict[str, Path]) -> list[str]:
    """Command-line options of a case."""
    source = data["demo-" + case.task if case.data == "demo" else case.data]
    return [
        "--task",
        case.task,
        "--data",
        str(source),
        *case.options,
        "--run",
        f"runs/{case.name}",
    ]


def make(version: Version, case: Case, data: dict[str, Path], other: Version | None) -> None:
    """Carry out one case with one version.

    Args:
        other: the earlier version, which begins a case that will be killed; None if ``version`` is
            the earlier one.
    """
    if case.killed and other is not None:
        _begin_and_kill(other, version, case, data)
    version.call(f"{case.name}-run", *options_of(case, data))
    run = f"runs/{case.name}"
    if "--ablate" in case.options:
        return
    dataset = json.loads((version.home / run / "dataset.json").read_text(encoding="utf-8"))
    version.call(f"{case.name}-predict", "predict", run, *dataset["images"][:5])
    version.call(f"{case.name}-report", "report", run)
    if case.explain:
        version.call(f"{case.name}-explain", "explain", run, "--cases", "1", "--device", "cpu")


def _begin_and_kill(other: Version, version: Version, case: Case, data: dict[str, Path]) -> None:
    """Let the earlier version begin a run in the later one's folder, and kill it."""
    run = version.home / "runs" / case.name
    words = other.words(*options_of(case, data))
    with subprocess.Popen(
        words, cwd=version.home, env=version.environment, stdout=subprocess.DEVNULL
    ) as process:
        while _ended_trials(run / "run.log") < ENDED_BEFORE_THE_KILL:
            if process.poll() is not None:
                raise SystemExit(f"{case.name} ended before it could be killed")
            time.sleep(0.05)
        process.kill()
    time.sleep(2)  # its workers end by themselves
    ended = _ended_trials(run / "run.log")
    print(f"{case.name}: the earlier version was killed after {ended} trials")


def _ended_trials(log: Path) -> int:
    if not log.exists():
        return 0
    return sum(": complete" in line or ": pruned" in line for line in log.read_text().splitlines())


def files_made(home: Path, names: list[str]) -> Iterator[Path]:
    """Yield the files of the cases ``names``, with the output of their commands."""
    for name in names:
        yield from home.glob(f"{name}-*.txt")
        for folder in (home / "runs").glob(f"{name}*"):
            yield from folder.rglob("*")


def compare(before: Version, after: Version, names: list[str]) -> int:
    """Print the differences between the files of the cases; return how many files differ."""
    files = {
        path.relative_to(version.home)
        for version in (before, after)
        for path in files_made(version.home, names)
        if path.is_file() and is_compared(path)
    }
    differing = 0
    for name in sorted(files):
        paths = before.home / name, after.home / name
        if not all(path.exists() for path in paths):
            found = [
                f"only the {'later' if paths[1].exists() else 'earlier'} version has this file"
            ]
        else:
            found = list(
                differences(
                    read_contents(paths[0], str(before.home)),
                    read_contents(paths[1], str(after.home)),
                    name.name,
                )
            )
        if found:
            differing += 1
            print(f"{name}: {len(found)} differences")
            print("\n".join(f"    {text}" for text in found[:SHOWN]))
    print(f"{len(files)} files compared, {differing} differ")
    return differing


def make_both(before: Version, after: Version, case: Case, data: dict[str, Path]) -> bool:
    """Carry out one case with both versions; False if the later one refuses to continue it."""
    started = time.monotonic()
    if not (before.home / f"{case.name}.done").exists():
        _remove(before, case.name)
        make(before, case, data, None)
        (before.home / f"{case.name}.done").touch()
    middle = time.monotonic()
    _remove(after, case.name)
    try:
        make(after, case, data, before)
    except CommandFailed as failure:
        if not (case.killed and "other arithmetic" in str(failure)):
            raise
        print(f"{case.name}: the later version has other numerics and refuses to continue it")
        return False
    now = time.monotonic()
    print(f"{case.name}: {middle - started:.0f} s before, {now - middle:.0f} s now", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier code")
    parser.add_argument("--out", type=Path, required=True, help="folder in which runs are kept")
    parser.add_argument("--full", action="store_true", help="also the slow cases")
    names = [case.name for case in FULL]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument("--data", type=Path, help="folder that holds breast-usg (with --full)")
    options = parser.parse_args()
    if options.full and options.data is None:
        parser.error("--full needs --data, a folder that holds breast-usg")
    out = options.out.resolve()
    cache = out / "cache"
    before = Version(options.before, out / "before", cache)
    after = Version(ROOT, out / "after", cache)
    data = {f"demo-{task}": out / "data" / task for task in ("multimodal", "dbt")}
    for task in ("multimodal", "dbt"):
        if not data[f"demo-{task}"].exists():
            where = ("--patients", "60", "--to", str(data[f"demo-{task}"]))
            before.call(f"data-{task}", "data", "demo", "--task", task, *where)
    if options.data:
        data["breast-usg"] = options.data.resolve() / "breast-usg"
    cases = [one for one in (FULL if options.full else QUICK) if one.name in options.cases]
    made = [case.name for case in cases if make_both(before, after, case, data)]
    if {f"runs/{name}" for name in made} >= set(COMPARED):
        for side in (before, after):
            _remove(side, PAIR)
            side.call(f"{PAIR}-verb", "compare", *COMPARED, "--to", f"runs/{PAIR}")
        made.append(PAIR)
    sys.exit(1 if compare(before, after, made) else 0)


def _remove(version: Version, name: str) -> None:
    for path in version.home.glob(f"{name}-*.txt"):
        path.unlink()
    (version.home / f"{name}.done").unlink(missing_ok=True)
    for folder in (version.home / "runs").glob(f"{name}*"):
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
