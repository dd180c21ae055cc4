"""The demo's study with many seeds: does a fold's model call everything one class?

    python -m benchmarks.models.demo_seeds --seeds 20

Runs the command of `make demo` once a seed and writes demo_seeds.md beside this file. A fold that
ranks its test rows (ROC-AUC above .7) but has a sensitivity or a specificity of 0 or 1 is counted
as lopsided.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import ROOT
from outerfold.storage.cache.files import read_json

COMMAND = ["run_study.py", "--task", "multimodal", "--data", "demo", "--trials", "10"]
EPOCHS = ["--epochs", "30"]
RANKS = 0.7
"""Least ROC-AUC at which a fold's model has no excuse for calling everything one class."""


@dataclass(frozen=True)
class Fold:
    """Measures of one outer fold of one seed."""

    seed: int
    fold: int
    roc_auc: float
    sensitivity: float
    specificity: float

    @property
    def lopsided(self) -> bool:
        """Whether all, or none, of the rows of one class are called positive."""
        return not (0 < self.sensitivity < 1 and 0 < self.specificity < 1)


def run(seed: int, folder: Path, workers: int) -> list[Fold]:
    """Run the study of one seed, unless it is on disk, and read its outer folds."""
    where = folder / f"seed-{seed}"
    results = where / "report" / "results.json"
    if not results.exists():
        how = ["--seed", str(seed), "--run", str(where), "--workers", str(workers), "--quiet"]
        subprocess.run([sys.executable, *COMMAND, *EPOCHS, *how], cwd=ROOT, check=True)
    overall = read_json(results)["overall"]
    names = ("roc_auc", "sensitivity", "specificity")
    each = zip(*(overall[name]["by_fold"] for name in names), strict=True)
    return [Fold(seed, fold, *values) for fold, values in enumerate(each)]


def page(folds: list[Fold]) -> str:
    """The page, with one line a seed."""
    ranking = [fold for fold in folds if fold.roc_auc > RANKS]
    seeds = sorted({fold.seed for fold in folds})
    rows = [_seed_row([fold for fold in folds if fold.seed == seed]) for seed in seeds]
    return "\n".join(
        [
            f"# The demo over {len(seeds)} seeds",
            "",
            f"{sum(fold.lopsided for fold in ranking)} of {len(ranking)} outer folds with a "
            f"ROC-AUC above {RANKS} have a sensitivity or a specificity of 0 or 1 "
            f"({sum(fold.lopsided for fold in folds)} of all {len(folds)} folds). The seed moves "
            "splits, draws and networks; the images are the same.",
            "",
            markdown(
                ["Seed", "ROC-AUC by fold", "Sensitivity by fold", "Specificity by fold"], rows
            ),
            "",
            f"Made with `python -m benchmarks.models.demo_seeds --seeds {len(seeds)}`.",
        ]
    )


def _seed_row(folds: list[Fold]) -> list[str]:
    def told(name: str) -> str:
        return " ".join(f"{getattr(fold, name):.2f}" for fold in folds)

    return [str(folds[0].seed), told("roc_auc"), told("sensitivity"), told("specificity")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs") / "demo_seeds")
    chosen = parser.parse_args()
    folder = chosen.out.resolve()
    folds = [fold for seed in range(chosen.seeds) for fold in run(seed, folder, chosen.workers)]
    text = page(folds)
    (Path(__file__).parent / "demo_seeds.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
