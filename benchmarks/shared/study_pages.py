"""Common options, work and page of the benchmarks of whole studies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.shared.chunks import Arrays, Chunk, chunks_of, join_chunks, run_chunks
from benchmarks.shared.places import BENCHMARKS
from benchmarks.shared.small_studies import Draw, Pool, Setting, sources, studies
from outerfold.objectives.metrics import METRICS
from outerfold.storage.records import FloatArray
from outerfold.study.setup.provenance import versions

PAGES = BENCHMARKS / "coverage"
"""Folder of the pages."""
CHUNK = 5
QUICK = 4
TOLD = ("python", "numpy", "scikit-learn", "optuna", "torch")


def options(about: str | None, name: str, *, data: bool = False) -> argparse.Namespace:
    """Parse the command line of the benchmark ``name``.

    Args:
        about: module docstring; its first line is the description.
        data: whether the benchmark reads a real data set and needs ``--data``.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument(
        "--replicates", type=int, default=100, help="number of studies (default 100)"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} studies, page under --out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="finished chunks")
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder of BUS-BRA")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.replicates = min(chosen.replicates, QUICK)
    return chosen


def finished_studies(
    work: Sequence[tuple[Setting, Pool]],
    draw: Draw,
    chosen: argparse.Namespace,
    *,
    replicates: int,
) -> list[tuple[Setting, Arrays]]:
    """Run the studies that are not on disk yet, and return all, with their settings.

    The settings take turns, so that all of them progress equally.
    """
    start = time.perf_counter()
    folder = chosen.out / sources()
    each = [
        chunks_of(setting, replicates, size=CHUNK, seed=chosen.seed, folder=folder)
        for setting, _ in work
    ]
    in_turn = [chunk for row in zip(*each, strict=True) for chunk in row]
    pools = {setting.name: pool for setting, pool in work}
    run_chunks(in_turn, partial(_of_its_pool, pools, draw), chosen.workers)
    print(f"{(time.perf_counter() - start) / 60:.1f} min with {chosen.workers} workers")
    return [(setting, join_chunks(parts)) for (setting, _), parts in zip(work, each, strict=True)]


def write_page(chosen: argparse.Namespace, name: str, text: str, *, folder: Path = PAGES) -> None:
    """Write the page beside the code in ``folder``, or under ``--out`` after a quick run."""
    context = (chosen.out if chosen.quick else folder) / f"{name}.md"
    context.parent.mkdir(parents=True, exist_ok=True)
    context.write_text(text + "\n", encoding="utf-8")
    print(context)


def facts(
    name: str, found: Sequence[tuple[Setting, Arrays]], seed: int, *, room: str = "coverage"
) -> str:
    """Section on how the numbers were made by the script ``name`` of a room of benchmarks."""
    seconds = " and ".join(f"{arrays['seconds'].mean():.0f}" for _, arrays in found)
    known = versions()
    most = max(len(arrays["inner"]) for _, arrays in found)
    config = found[0][0].config
    lines = [
        "## Facts",
        "",
        f"- Made with `python -m benchmarks.{room}.{name} --replicates {most} --seed {seed}`.",
        f"- A study: {config.outer_folds} outer and {config.inner_folds} inner folds, "
        f"{config.trials} trials of at most {_each(found, 'epochs')} epochs each, batches of "
        f"{_each(found, 'batch_size')}, pruner `{config.pruner}`, encoder `{config.encoder}`, "
        f"{config.networks} network of the chosen configuration; "
        "without augmented views and attention, which take most of the time. The first trial is "
        "the default configuration, and Optuna's sampler draws the next nine at random, so these "
        "searches are random searches.",
        f"- {seconds} CPU seconds per study, on a machine that also did other work.",
        f"- {', '.join(f'{package} {known[package]}' for package in TOLD)}.",
    ]
    return "\n".join(lines)


def _each(found: Sequence[tuple[Setting, Arrays]], option: str) -> str:
    values = dict.fromkeys(str(getattr(setting.config, option)) for setting, _ in found)
    return " or ".join(values)


def at(values: FloatArray, metric: str) -> FloatArray:
    """Values (studies, ...) of one metric, from values (studies, metrics, ...)."""
    return values[:, list(METRICS).index(metric)]


def share(true: Iterable[bool]) -> str:
    """Count of true values, such as ``96 of 100``."""
    found = list(true)
    return f"{sum(found)} of {len(found)}"


def _of_its_pool(pools: dict[str, Pool], draw: Draw, chunk: Chunk) -> Arrays:
    return studies(pools[chunk.setting.name], draw, chunk)
