"""Speed of a study compared with OptunaSearchCV over skorch, and of a trial with its bare steps.

    python -m benchmarks.speed.throughput --data DATA/bus-bra

One call measures on the same cores: a nested study by outerfold, and the same study (splits,
search space, number of trials and epochs, embeddings) by OptunaSearchCV over a skorch network; an
image loop that decodes, flips and encodes the images again; the bare optimiser steps of a trial in
a loop. Finished studies are kept under --out, one file per seed, and not run again. The script
writes the section *Throughput* of RESULTS.md with --page. It needs the extra `benchmarks`; --own,
which times outerfold's study alone, does not.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.own_study import trial_by_trial, whole_study
from benchmarks.shared.places import RESULTS
from benchmarks.shared.small_studies import Pool, draw_patients, pathology_pool
from benchmarks.shared.speed.step_cost import matrix_rate, seconds_an_image, trial_cost
from benchmarks.shared.speed.throughput_page import section
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.cache.files import write_text
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import DEMO_ENCODER, StudyConfig
from outerfold.study.config.search_space import build_ranges
from outerfold.study.engines.local import ONE_THREAD, quiet_optuna
from outerfold.study.setup.run_directory import make_splits

HEADING = "## Throughput"
BATCHES = (32, 128)
FIXED: dict[str, dict[str, object]] = {
    "sampler": {"values": ["none"]},
    "attention": {"values": [False]},
    "augmented_views": {"values": [0]},
    "focal_gamma": {"values": [0.0]},
    "ens_beta": {"values": [0.0]},
}
"""Settings that skorch's study cannot search.

Learning rate, dropout, weight decay, batch size and label smoothing remain.
"""
CONFIGURATION = {
    "learning_rate": 1e-3,
    "dropout": 0.3,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
}
"""Configuration of the trials that both programs carry out."""


def main() -> None:
    options = _options()
    os.environ.update(ONE_THREAD)
    quiet_optuna()
    pool = pathology_pool(options.data, cache_folder())
    if options.own:
        for seed in options.seeds:
            print(json.dumps({"seed": seed, **_own(options, pool, seed)}), flush=True)
        return
    found = [_of_seed(options, pool, seed) for seed in options.seeds]
    text = section(found, vars(options))
    if options.page:
        put_section(RESULTS, HEADING, text)
    print(text)


def _own(options: argparse.Namespace, pool: Pool, seed: int) -> dict[str, Any]:
    """Carry out outerfold's study alone, to compare two checkouts call by call."""
    mine = Pool(draw_patients(pool.data, options.patients, seed)[0], pool.embeddings, pool.encoder)
    with tempfile.TemporaryDirectory(prefix="throughput-") as where:
        config = study_config(options, seed)
        found = whole_study(Path(where) / "whole", mine, config, options.workers)
    del found["tested"]
    return found


def study_config(options: argparse.Namespace, seed: int) -> StudyConfig:
    """Default configuration, except for ranges, epochs, patience and encoder."""
    return StudyConfig(
        task="dbt",
        trials=options.trials,
        epochs=options.epochs,
        outer_folds=options.outer_folds,
        inner_folds=options.inner_folds,
        patience_epochs=options.epochs,
        seed=seed,
        encoder=DEMO_ENCODER,
        space=FIXED,
    )


def run_both(pool: Pool, config: StudyConfig, workers: int) -> dict[str, Any]:
    """Run both studies on the same rows."""
    from benchmarks.shared.speed.rival_study import quicker_threads, rival_study

    folds = list(make_splits(config, pool.data).outer)
    with tempfile.TemporaryDirectory(prefix="throughput-") as where:
        own = whole_study(Path(where) / "whole", pool, config, workers)
    inputs = pool.embeddings.pooled(pool.data.ids.tolist())
    threads = quicker_threads(inputs.shape[1])
    torch.set_num_threads(threads)
    rival = rival_study(pool.data, inputs, folds, config, build_ranges(config, pool.data))
    torch.set_num_threads(1)
    if own["tested"] != rival["tested"] or own["inner"] != rival["inner"]:
        raise RuntimeError("the two studies did not use the same splits")
    size = {"images": len(pool.data), "patients": len(set(pool.data.patients.tolist()))}
    for one in (own, rival):
        del one["tested"]
    return {**size, "workers": workers, "threads": threads, "own": own, "rival": rival}


def same_trials(pool: Pool, config: StudyConfig) -> list[dict[str, float]]:
    """CPU seconds per trial of one configuration by both programs, one thread, by batch size."""
    from benchmarks.shared.speed.rival_study import seconds_a_trial

    torch.set_num_threads(1)
    inputs = pool.embeddings.pooled(pool.data.ids.tolist())
    folds, found = list(make_splits(config, pool.data).outer), []
    for size in (32, 64, 128):
        values = {**CONFIGURATION, "batch_size": size}
        space = {**FIXED, **{name: {"values": [value]} for name, value in values.items()}}
        one = replace(config, trials=1, space=space)
        with tempfile.TemporaryDirectory(prefix="throughput-") as where:
            own = trial_by_trial(Path(where) / "each", pool, one)
        rival = seconds_a_trial(pool.data, inputs, folds, one, build_ranges(one, pool.data))
        found.append({"batch_size": size, "own": own["cpu"] / own["trials"], "rival": rival})
    return found


def costs(pool: Pool, config: StudyConfig, images: int) -> dict[str, Any]:
    """Measure the costs that are reported for the first seed alone.

    Returns:
        ``rate``: the machine's matrix rate; ``costs``: a trial and its bare steps, by batch size;
        ``image_seconds``: CPU seconds per image, from file to embedding; ``each``: all trials
        without pruning; ``same_trials``: result of ``same_trials``; and the sizes behind them.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="throughput-") as where:
        each = trial_by_trial(Path(where) / "each", pool, config)
    fold = make_splits(config, pool.data).outer[0]
    train = fold.train_side(pool.data)
    rows = TrainingRows(train, fold.inner, pool.embeddings, tokens=False, seed=0)
    before = matrix_rate()
    found = [asdict(trial_cost(rows, size, config.epochs)) for size in BATCHES]
    # The training rows alone hold no paths of image files.
    paths = pool.data.features.select(list(fold.train)[:images]).images.tolist()
    return {
        "rate": max(before, matrix_rate()),
        "costs": found,
        "encoded": len(paths),
        "image_seconds": seconds_an_image(paths, build(DEMO_ENCODER)) if paths else 0.0,
        "train_images": len(train),
        "inner_folds": len(fold.inner),
        "epochs": config.epochs,
        "each": each,
        "alike": same_trials(pool, config),
    }


def put_section(page: Path, heading: str, text: str) -> None:
    """Replace the section under ``heading`` by ``text``, or append it to the page."""
    old = page.read_text(encoding="utf-8") if page.exists() else "# Results\n"
    before, found, rest = old.partition(f"{heading}\n")
    after = rest[rest.index("\n## ") :] if found and "\n## " in rest else ""
    write_text(page, f"{before.rstrip()}\n\n{heading}\n\n{text.strip()}\n{after}")


def _of_seed(options: argparse.Namespace, pool: Pool, seed: int) -> dict[str, Any]:
    sizes = "-".join(
        str(getattr(options, name))
        for name in ("patients", "outer_folds", "inner_folds", "trials", "epochs", "workers")
    )
    kept: Path = options.out / f"{sizes}-seed{seed}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    config = study_config(options, seed)
    mine = Pool(draw_patients(pool.data, options.patients, seed)[0], pool.embeddings, pool.encoder)
    found = run_both(mine, config, options.workers)
    if seed == options.seeds[0]:
        found |= costs(mine, config, options.images)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(kept, json.dumps(found, indent=1))
    return found


def _options(typed: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of BUS-BRA")
    parser.add_argument("--patients", type=int, default=500, help="drawn from 1,064")
    parser.add_argument("--outer-folds", type=int, default=3)
    parser.add_argument("--inner-folds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one study each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--images", type=int, default=64, help="images in the image loop, which is extrapolated"
    )
    parser.add_argument("--out", type=Path, default=Path("runs") / "throughput")
    parser.add_argument("--own", action="store_true", help="print outerfold's study alone")
    parser.add_argument("--page", action="store_true", help="write RESULTS.md, not only print")
    return parser.parse_args(typed)


if __name__ == "__main__":
    main()
