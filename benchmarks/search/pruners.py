"""Comparison of pruners and their settings: epochs trained and outer score of the chosen trial.

    python -m benchmarks.search.pruners --data DATA --workers 2

Random configurations are trained until their patience ends, on the inner folds and at the same time
on all training rows of the outer fold; that network is scored on the test rows after every epoch.
From these curves the search of any pruner is replayed later, without training: which trials it
prunes and when, which trial it then chooses, and the score of that trial. So all settings are
compared on the same trials, in many orders. The regret of a pruner is the outer score of the search
without pruning minus its own. The script reads bus-bra/ and breast-usg/ below --data, keeps
finished outer folds under --out, and writes pruners.md beside this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import torch

from benchmarks.search.regret import FOLDS, page
from benchmarks.shared.chunks import Arrays, Chunk, chunks_of, join_chunks, run_chunks
from benchmarks.shared.places import real_data
from benchmarks.shared.small_studies import (
    Pool,
    pathology_pool,
    small_config,
    sources,
    ultrasound_pool,
)
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.spaces import make_space
from outerfold.pipelines._base import Training
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import FloatArray, Fold, OuterFold
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.run_directory import make_splits

HERE = Path(__file__).parent
COUNTS = {"bus-bra": 12, "breast-usg": 37}
"""Number of outer folds of each data set: all five of a seed, then those of the next seed."""
CONFIG = small_config("multimodal", trials=16, epochs=100)


@dataclass(frozen=True)
class Setting:
    """Everything that determines the curves of one data set, except the seed."""

    name: str
    config: StudyConfig
    fingerprint: str


def main() -> None:
    options = _options()
    start = time.perf_counter()
    pools = {
        "bus-bra": pathology_pool(options.data / "bus-bra", cache_folder()),
        "breast-usg": ultrasound_pool(options.data / "breast-usg", cache_folder()),
    }
    settings = [Setting(name, CONFIG, pool.data.fingerprint) for name, pool in pools.items()]
    folder = options.out / sources()
    chunks = {
        one.name: chunks_of(one, count, size=1, seed=0, folder=folder)
        for one, count in zip(settings, options.folds, strict=True)
    }
    run_chunks(_in_turn(chunks.values()), partial(_of_its_pool, pools), options.workers)
    text = page({name: join_chunks(parts) for name, parts in chunks.items()}, CONFIG)
    (HERE / "pruners.md").write_text(text + "\n", encoding="utf-8")
    print(text, f"\n{(time.perf_counter() - start) / 60:.1f} min")


def curves(pool: Pool, config: StudyConfig, fold: OuterFold, seed: int) -> Arrays:
    """Train every trial of one outer fold until its patience ends, and pad with NaN.

    Returns:
        inner (1, trials, epochs, folds) scores of the inner folds, outer (1, trials, epochs)
        scores of the test rows, seconds (1,) of CPU time.
    """
    began = time.process_time()
    everything = Fold("outer", fold.train, fold.test, fold.train_patients, fold.test_patients)
    rows = TrainingRows(
        pool.data, [*fold.inner, everything], pool.embeddings, tokens=False, seed=seed
    )
    space = make_space(config.task, build_ranges(config, pool.data))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed % 2**32))
    table = np.full((1, config.trials, config.epochs, len(rows.folds)), np.nan)
    for number in range(config.trials):
        training = space(study.ask()).start(
            rows, budget=config.epochs, seed=derive_seed(seed, number), device="cpu"
        )
        scores = _scores_until_patience_ends(pool, config, rows, training)
        table[0, number, : len(scores)] = scores
    return {
        "inner": table[..., :-1],
        "outer": table[..., -1],
        "seconds": np.array([time.process_time() - began]),
    }


def _scores_until_patience_ends(
    pool: Pool, config: StudyConfig, rows: TrainingRows, training: Training
) -> FloatArray:
    """Scores (epochs, folds) of a training; the last fold's are of the test rows."""
    labels = [pool.data.select(one.fold.val).labels for one in rows.folds]
    score = METRICS[config.metric].score
    scores: list[FloatArray] = []
    for epoch in training:
        pairs = zip(labels, epoch.probabilities, strict=True)
        scores.append(np.array([score(y, p) for y, p in pairs]))
        means = [one[:-1].mean() for one in scores]
        if len(means) - 1 - int(np.argmax(means)) >= config.patience_epochs:
            break
    return np.array(scores)


def _in_turn(chunks: Iterable[list[Chunk]]) -> list[Chunk]:
    """All chunks, so that every data set is equally far at any time."""
    placed = [(i / len(parts), one) for parts in chunks for i, one in enumerate(parts)]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _of_its_pool(pools: dict[str, Pool], chunk: Chunk) -> Arrays:
    quiet_optuna()
    torch.set_num_threads(1)
    pool, (seed, which) = pools[chunk.setting.name], divmod(chunk.first, FOLDS)
    config: StudyConfig = chunk.setting.config
    own = derive_seed(chunk.seed, "pruners", seed)
    fold = make_splits(StudyConfig(**{**vars(config), "seed": own}), pool.data).outer[which]
    return curves(pool, config, fold, derive_seed(own, which))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = real_data()
    parser.add_argument("--data", type=Path, default=data, help="holds bus-bra/ and breast-usg/")
    parser.add_argument(
        "--folds",
        type=int,
        nargs=2,
        default=list(COUNTS.values()),
        help=f"outer folds of {' and '.join(COUNTS)}",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "pruners")
    return parser.parse_args()


if __name__ == "__main__":
    main()
