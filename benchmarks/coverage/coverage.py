"""Coverage of the intervals in thousands of simulated studies with known truth.

    python -m benchmarks.coverage.coverage --replicates 1000 --workers 2

Every cell is a setting (patients, prevalence, intra-patient correlation, learner). Each replicate
draws a study, runs five patient-grouped folds and the refit, computes its intervals with the code
of the report, and checks whether they contain the true performance of that refit and of the
procedure (the mean truth over replicates). Control methods that are known to be wrong are judged
by the same code and must fail. Finished chunks are kept under --out and reused while the code that
made them is unchanged. The script writes coverage.md and coverage.png, of intervals by the
constant, and measured_coverage.md, of those by the measured variation, beside this file.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.shared.chunks import Arrays, Chunk, chunks_of, join_chunks, run_chunks, source_hash
from benchmarks.shared.places import BENCHMARKS, ROOT
from benchmarks.shared.simulation.cohorts import Cell, population
from benchmarks.shared.simulation.coverage_report import Outcome, write_measured, write_report
from benchmarks.shared.simulation.simulated_study import simulate

HERE = Path(__file__).parent
CHUNK = 25
KEPT = ("intervals", "measured", "truth", "controls", "answers", "fold", "unstable", "refused")
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
LEAK = (replace(BASE, name="split by image, 100 features", features=100, icc=0.9, split="images"),)
GROUPS = {
    "fixed": (*GRID, *EXTRAS),
    "tuned": TUNED,
    "known failure": KNOWN_FAILURE,
    "leak": LEAK,
}
QUICK = {"fixed": (BASE,), "leak": LEAK}


def main() -> None:
    options = _options()
    groups = QUICK if options.quick else GROUPS
    replicates = 60 if options.quick else options.replicates
    folder = options.out / source_hash(_sources())
    start = time.perf_counter()
    chunks = {
        cell: chunks_of(cell, replicates, size=CHUNK, seed=options.seed, folder=folder)
        for cells in groups.values()
        for cell in cells
    }
    run_chunks(
        [chunk for parts in chunks.values() for chunk in parts], simulate_chunk, options.workers
    )
    outcomes = {
        group: [outcome(cell.name, join_chunks(chunks[cell])) for cell in cells]
        for group, cells in groups.items()
    }
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} min with {options.workers} workers")
    facts = f"{replicates} replicates per cell, seed {options.seed}"
    context = options.report or (options.out if options.quick else HERE)
    for page in options.pages.split(","):
        write = {"constant": write_report, "measured": write_measured}[page]
        write(outcomes, f"{facts}{' (quick)' if options.quick else ''}", context)


def simulate_chunk(chunk: Chunk) -> Arrays:
    """Simulate every replicate of a chunk; the first axis of each array is the replicate."""
    everyone = population(chunk.setting)
    numbers = range(chunk.first, chunk.first + chunk.count)
    studies = [simulate(chunk.setting, chunk.seed, number, everyone) for number in numbers]
    arrays = {name: np.array([getattr(study, name) for study in studies]) for name in KEPT}
    return {"metrics": np.array(studies[0].metrics), **arrays}


def outcome(name: str, arrays: Arrays) -> Outcome:
    """All replicates of a cell as one outcome; every chunk has the same metrics."""
    metrics = tuple(dict.fromkeys(arrays["metrics"].tolist()))
    return Outcome(name, metrics, *(arrays[each] for each in KEPT))


def _sources() -> list[Path]:
    simulation = BENCHMARKS / "shared" / "simulation"
    names = ("cohorts.py", "learners.py", "simulated_study.py")
    files = [simulation / name for name in names]
    files += [ROOT / "objectives" / "metrics.py"]
    analyses = ROOT / "reports" / "analyses"
    files += [analyses / f"{name}.py" for name in ("measure", "operating_points", "recalibration")]
    return files + sorted((ROOT / "reports" / "intervals").glob("*.py"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000, help="per cell (default 1000)")
    parser.add_argument("--quick", action="store_true", help="two cells, 60 replicates")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/coverage"), help="folder of finished chunks"
    )
    parser.add_argument(
        "--report", type=Path, help="folder of coverage.md and .png (default: here, --out if quick)"
    )
    parser.add_argument(
        "--pages",
        default="constant,measured",
        help="constant (coverage.md), measured (measured_coverage.md), or both",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
