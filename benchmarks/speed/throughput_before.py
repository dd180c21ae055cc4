"""Seconds of the nested study of the benchmark of throughput, in an earlier tree and in this one.

    python -m benchmarks.speed.throughput_before --data DATA/bus-bra

For each seed both trees carry out the same study (the same patients, folds, trials and epochs) in
turn, each in a process of its own, with the same way of making models. The other side of the
benchmark of throughput, OptunaSearchCV over skorch, is the same for both: the ratio of the two
trees is the ratio of their advantages over it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import ROOT, real_data
from benchmarks.shared.worktree import BEFORE, ask_child, worktree
from outerfold.study.engines.local import ONE_THREAD

CHILD = ROOT / "benchmarks" / "shared" / "speed" / "study_once.py"
FINALS: dict[str, dict[str, object]] = {
    "refit, before": {"final": "refit", "networks": 5},
    "refit, now": {"final": "refit", "networks": 5},
    "folds, now": {"final": "folds", "networks": 1},
}
"""Way of making models by name of a column; the number of networks is the usual one."""


def measure(tree: Path, request: dict[str, object], folder: Path) -> dict[str, Any]:
    """Carry out a study with the code of a tree; see ``study_once``."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return ask_child(
            CHILD, tree, {**request, "run": f"{place}/study"}, Path(place), **ONE_THREAD
        )


def table(found: dict[str, list[dict[str, Any]]], seeds: Sequence[int]) -> str:
    """Table of seconds and scores by seed, and the ratios of the earlier tree to this one.

    Args:
        found: results by key of ``FINALS``, one a seed.
        seeds: the seeds.
    """
    rows = [
        [str(seed), *(f"{found[name][at]['wall']:.1f}" for name in FINALS)]
        + [f"{np.mean(found[name][at]['scores']):.4f}" for name in FINALS]
        for at, seed in enumerate(seeds)
    ]
    first, *rest = FINALS
    ratios = []
    for name in rest:
        pairs = zip(found[first], found[name], strict=True)
        ratios.append(f"{name}: {geometric_mean(a['wall'] / b['wall'] for a, b in pairs):.2f}")
    header = ["seed", *(f"wall s, {name}" for name in FINALS), *(f"AUC, {n}" for n in FINALS)]
    return f"{markdown(header, rows)}\n\nTimes as quick as before: {'; '.join(ratios)}."


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=real_data() / "bus-bra", help="of BUS-BRA")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    chosen = parser.parse_args(argv)
    options = {"trials": 100, "epochs": 20, "outer_folds": 3, "inner_folds": 4}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in FINALS}
    with worktree(chosen.before) as before, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for seed in chosen.seeds:
            for name, models in FINALS.items():
                old = name.endswith("before")
                request: dict[str, object] = {
                    "data": str(chosen.data.resolve()),
                    "cache": str(folder / ("before" if old else "now")),
                    "patients": 500,
                    "workers": 2,
                    "seed": seed,
                    "models": models,
                    "options": options,
                }
                found[name].append(measure(before if old else ROOT, request, folder))
                print(seed, name, found[name][-1], flush=True)
    print(table(found, chosen.seeds))


if __name__ == "__main__":
    main()
