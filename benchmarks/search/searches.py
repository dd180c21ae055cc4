"""Effect on real searches of pruning, and of several trials of a study at a time.

    python -m benchmarks.search.searches pruners --data DATA --workers 2
    python -m benchmarks.search.searches in-flight --data DATA --workers 2

The script runs whole nested studies of real images with cached embeddings: TPE, refit and the outer
score. Trials run one after the other in one process, but each learns only from the trials that
would have ended with so many in flight. The data rows of a seed are the same for every table row.
The script reads bus-bra/ and breast-usg/ below --data, keeps finished studies under --out, and
prints the tables of pruners.md and schedule.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.search import ways
from benchmarks.shared.chunks import Arrays, Chunk, chunks_of, join_chunks, run_chunks
from benchmarks.shared.markdown import markdown
from benchmarks.shared.own_study import outer_scores, write_run
from benchmarks.shared.places import real_data
from benchmarks.shared.small_studies import (
    Pool,
    draw_patients,
    pathology_pool,
    small_config,
    sources,
    ultrasound_pool,
)
from outerfold.objectives import pruning
from outerfold.storage.records import FloatArray
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import StudyConfig
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.jobs import Job, run_and_keep_job

LATER, DEFAULT = "halving, rung at 1/10, factor 3", "halving, rung at 1/20, factor 3"
PARTS = {
    "pruners": {LATER: (LATER, 1), DEFAULT: (DEFAULT, 1), "none": ("none", 1)},
    "in-flight": {str(count): (DEFAULT, count) for count in (1, 4, 8, 16)},
}
"""Rows of each table: a pruner of ``benchmarks.search.ways`` and the trials in flight."""


@dataclass(frozen=True)
class Setting:
    """Everything that determines the studies of one table row, except the seed."""

    name: str
    config: StudyConfig
    pruner: str
    patients: int
    fingerprint: str


def main() -> None:
    options = _options()
    pools = {
        "breast-usg": ultrasound_pool(options.data / "breast-usg", cache_folder()),
        "bus-bra": pathology_pool(options.data / "bus-bra", cache_folder()),
    }
    config = small_config("multimodal", trials=options.trials, epochs=options.epochs)
    began, chunks = time.perf_counter(), {}
    for name, pool in pools.items():
        for row, (pruner, count) in PARTS[options.part].items():
            own = replace(config, in_flight=count)
            setting = Setting(name, own, pruner, options.patients, pool.data.fingerprint)
            chunks[name, row] = chunks_of(
                setting, options.seeds, size=1, seed=0, folder=options.out / sources()
            )
    in_turn = [chunk for same in zip(*chunks.values(), strict=True) for chunk in same]
    run_chunks(in_turn, partial(_of_its_pool, pools), options.workers)
    for name in pools:
        found = {row: join_chunks(chunks[name, row]) for row in PARTS[options.part]}
        print(f"\n{name}\n\n{table(found)}")
    print(f"\n{(time.perf_counter() - began) / 60:.1f} min")


def run_search(where: Path, pool: Pool, config: StudyConfig) -> Arrays:
    """Run one nested study, its trials one after the other.

    Returns:
        epochs (1,) of all trials, complete (1,) number of trials that were not pruned, score (1,)
        of the chosen configurations, a mean over outer folds.
    """
    prepared, at = write_run(where, pool, config)
    epochs = complete = 0
    for fold in prepared.studies:
        for number in (*range(config.trials), None):
            outcome = run_and_keep_job(Job(at, fold.name, number, "cpu"))
            if outcome.state == "failed":
                raise RuntimeError(f"{fold.name}, trial {number}: {outcome.reason}")
            if number is not None:
                epochs += outcome.epochs
                complete += outcome.state == "complete"
    score = np.mean(outer_scores(prepared)["scores"])
    return {
        "epochs": np.array([epochs]),
        "complete": np.array([complete]),
        "score": np.array([score]),
    }


def table(found: Mapping[str, Arrays]) -> str:
    """Table with one line per way: epochs, complete trials, score, difference from the first."""
    first, *_ = found.values()
    rows = [
        [
            row,
            f"{arrays['epochs'].mean():.0f}",
            f"{arrays['complete'].mean():.0f}",
            f"{arrays['score'].mean():.4f}",
            "" if arrays is first else _difference(arrays["score"] - first["score"]),
        ]
        for row, arrays in found.items()
    ]
    return markdown(
        [
            "",
            "epochs",
            "complete trials",
            "outer ROC-AUC of the choice",
            "minus the first row's (standard error over seeds)",
        ],
        rows,
    )


def _difference(apart: FloatArray) -> str:
    error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else float("nan")
    return f"{apart.mean():+.4f} ({error:.4f})"


def _of_its_pool(pools: Mapping[str, Pool], chunk: Chunk) -> Arrays:
    quiet_optuna()
    torch.set_num_threads(1)
    setting: Setting = chunk.setting
    # A run selects its pruner by name, so this name must give this pruner in this process. It is
    # set through the module, since a worker process gets copies of this file's own names.
    pruning.PRUNERS[setting.config.pruner] = ways.WAYS[setting.pruner]
    seed = derive_seed(chunk.seed, "searches", setting.name, chunk.first)
    pool = pools[setting.name]
    if setting.patients < len(set(pool.data.patients.tolist())):
        pool = replace(pool, data=draw_patients(pool.data, setting.patients, seed)[0])
    with TemporaryDirectory(prefix="searches-") as folder:
        return run_search(Path(folder) / "run", pool, replace(setting.config, seed=seed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = real_data()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, default=data, help="holds bus-bra/ and breast-usg/")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40, help="per study")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--patients", type=int, default=250, help="drawn again for each seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "searches")
    return parser.parse_args()


if __name__ == "__main__":
    main()
