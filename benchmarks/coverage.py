"""Do the intervals cover? Simulated studies with known truth, by the thousand.

    python -m benchmarks.coverage --replicates 1000 --workers 2

Every cell is a setting (patients, prevalence, intra-patient correlation, learner). Each replicate
draws a study, runs five patient-grouped folds and the refit, prints its intervals with the code
of the report, and asks whether they hold the true performance of that refit and of the procedure
(the mean truth over replicates). Controls that are known to be wrong are judged by the same code
and must fail. Finished chunks are kept under --out and reused while the code that made them is
unchanged. Writes coverage.md and coverage.png beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed, parallel_config

from benchmarks.cohorts import Cell, population
from benchmarks.coverage_report import Outcome, write_report
from benchmarks.simulated_study import simulate

HERE = Path(__file__).parent
CHUNK = 25
BASE = Cell("150 patients, prevalence 0.3, icc 0.6", 150, (0.3,), 0.6)
GRID = tuple(
    Cell(f"{n} patients, prevalence {share}, icc {icc}", n, (share,), icc)
    for n in (60, 150, 400)
    for share in (0.1, 0.3)
    for icc in (0.1, 0.6)
)
EXTRAS = (
    replace(BASE, name="100 features, icc 0.9", features=100, icc=0.9),
    replace(BASE, name="no signal", separation=0.0),
    replace(BASE, name="weak signal (AUC 0.6)", separation=0.358),
    replace(BASE, name="labels by image", image_labels=True),
    replace(BASE, name="three classes", prevalence=(0.25, 0.15)),
    replace(BASE, name="shallow network", learner="head"),
)
TUNED = (
    replace(BASE, name="tuned: best of 50, 20 features", features=20, choice="configuration"),
    replace(BASE, name="tuned: threshold only", choice="threshold"),
    Cell(
        "tuned: threshold only, 400 patients, prevalence 0.1", 400, (0.1,), 0.6, choice="threshold"
    ),
)
KNOWN_FAILURE = (
    replace(BASE, name="one deep tree, learnt threshold", learner="tree", choice="threshold"),
)
LEAK = (
    replace(BASE, name="split by image, 100 features", features=100, icc=0.9, split="images"),
)  # fmt: skip
GROUPS = {
    "fixed": (*GRID, *EXTRAS), "tuned": TUNED, "known failure": KNOWN_FAILURE, "leak": LEAK,
}  # fmt: skip
QUICK = {"fixed": (BASE,), "leak": LEAK}


def main() -> None:
    options = _options()
    groups = QUICK if options.quick else GROUPS
    replicates = 60 if options.quick else options.replicates
    folder = options.out / source_hash()
    start = time.perf_counter()
    tasks = [
        (cell, first, min(CHUNK, replicates - first), options.seed, folder)
        for cells in groups.values()
        for cell in cells
        for first in range(0, replicates, CHUNK)
    ]
    run_all(tasks, options.workers)
    outcomes = {
        group: [gather(cell, replicates, options.seed, folder) for cell in cells]
        for group, cells in groups.items()
    }
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} min with {options.workers} workers")
    facts = f"{replicates} replicates a cell, seed {options.seed}"
    place = options.report or (options.out if options.quick else HERE)
    write_report(outcomes, f"{facts}{' (quick)' if options.quick else ''}", place)


def run_all(tasks: list[tuple[Cell, int, int, int, Path]], workers: int) -> None:
    """Every chunk that is not on disk yet, and a line of progress as each ends."""
    waiting = [task for task in tasks if not _place(*task).exists()]
    print(f"{len(tasks) - len(waiting)} of {len(tasks)} chunks are done already", flush=True)
    start = time.perf_counter()
    with parallel_config(backend="loky", inner_max_num_threads=1):
        done: Iterable[str] = Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(run_chunk)(*task) for task in waiting
        )
        for count, name in enumerate(done, 1):
            left = (time.perf_counter() - start) / count * (len(waiting) - count) / 60
            print(f"{count}/{len(waiting)} chunks, {left:.0f} min left, last: {name}", flush=True)


def run_chunk(cell: Cell, first: int, count: int, seed: int, folder: Path) -> str:
    """Replicates ``first`` ... of one cell, kept in one file; a killed chunk leaves none."""
    everyone = population(cell)
    studies = [simulate(cell, seed, first + i, everyone) for i in range(count)]
    place = _place(cell, first, count, seed, folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(
        draft,
        metrics=np.array(studies[0].metrics),
        **{
            name: np.array([getattr(study, name) for study in studies])
            for name in ("intervals", "truth", "controls", "unstable", "refused")
        },
    )
    draft.replace(place)
    return cell.name


def gather(cell: Cell, replicates: int, seed: int, folder: Path) -> Outcome:
    """All replicates of a cell."""
    parts = [
        np.load(_place(cell, first, min(CHUNK, replicates - first), seed, folder))
        for first in range(0, replicates, CHUNK)
    ]
    names = ("intervals", "truth", "controls", "unstable", "refused")
    arrays = [np.concatenate([part[name] for part in parts]) for name in names]
    return Outcome(cell.name, tuple(parts[0]["metrics"].tolist()), *arrays)


def source_hash() -> str:
    """Of all code whose change makes kept chunks stale."""
    files = [HERE / name for name in ("cohorts.py", "learners.py", "simulated_study.py")]
    files += [HERE.parent / "objectives" / "metrics.py"]
    names = ("bases", "jackknife", "leave_out", "leave_out_ranks", "resampling", "thresholds")
    files += [HERE.parent / "reports" / f"{name}.py" for name in names]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _place(cell: Cell, first: int, count: int, seed: int, folder: Path) -> Path:
    key = hashlib.sha256(repr(cell).encode()).hexdigest()[:8]
    return folder / key / f"seed{seed}-{first:05d}+{count}.npz"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000, help="a cell (default 1000)")
    parser.add_argument("--quick", action="store_true", help="two cells, 60 replicates")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/coverage"), help="finished chunks")
    parser.add_argument(
        "--report", type=Path, help="folder of coverage.md and .png (default: here, --out if quick)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
