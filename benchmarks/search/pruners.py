"""Comparison of pruners and their settings: epochs trained and outer score of the chosen trial.

    python -m benchmarks.search.pruners --data DATA --workers 2

The default configuration and random ones are trained on the inner folds until their patience ends.
After every epoch the mean of the inner folds' networks, which is the model of a run, is scored on
the test rows of the outer fold. From these curves the search of any pruner is replayed later,
without training: which trials it prunes and when, which trial it then chooses, and the score of
that trial. So all settings are compared on the same trials, in many orders, the default first. The
regret of a pruner is the outer score of the search without pruning minus its own. The script reads
bus-bra/ and breast-usg/ below --data, keeps finished outer folds under --out, and writes pruners.md
beside this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from outerfold.study.config.search_space import build_ranges, default_of
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

    The first trial is the default configuration, the others are random.

    Returns:
        inner (1, trials, epochs, folds) scores of the inner folds, outer (1, trials, epochs)
        scores of the test rows by the mean of the inner folds' networks, seconds (1,) of CPU time.
    """
    began = time.process_time()
    folds = [_with_test_rows(one, fold) for one in fold.inner]
    rows = TrainingRows(pool.data, folds, pool.embeddings, tokens=False, seed=seed)
    ranges = build_ranges(config, pool.data)
    space = make_space(config.task, ranges)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed % 2**32))
    study.enqueue_trial(dict(default_of(config, ranges).params))
    table = np.full((1, config.trials, config.epochs, len(folds) + 1), np.nan)
    for number in range(config.trials):
        training = space(study.ask()).start(
            rows, budget=config.epochs, seed=derive_seed(seed, "trial", number), device="cpu"
        )
        scores = _scores_until_patience_ends(pool, config, fold, training)
        table[0, number, : len(scores)] = scores
    return {
        "inner": table[..., :-1],
        "outer": table[..., -1],
        "seconds": np.array([time.process_time() - began]),
    }


def _with_test_rows(inner: Fold, outer: OuterFold) -> Fold:
    """Inner fold whose network also predicts the test rows of the outer fold, after its own."""
    patients = inner.val_patients | outer.test_patients
    return replace(inner, val=(*inner.val, *outer.test), val_patients=patients)


def _scores_until_patience_ends(
    pool: Pool, config: StudyConfig, fold: OuterFold, training: Training
) -> FloatArray:
    """Scores (epochs, folds + 1) of a training; the last ones are of the test rows."""
    labels = [pool.data.select(one.val).labels for one in fold.inner]
    truth = pool.data.select(fold.test).labels
    score = METRICS[config.metric].score
    scores: list[list[float]] = []
    for epoch in training:
        own = [each[: len(y)] for y, each in zip(labels, epoch.probabilities, strict=True)]
        tested = [each[len(y) :] for y, each in zip(labels, epoch.probabilities, strict=True)]
        inner = [score(y, each) for y, each in zip(labels, own, strict=True)]
        scores.append([*inner, score(truth, np.mean(tested, axis=0))])
        means = [np.mean(one[:-1]) for one in scores]
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
