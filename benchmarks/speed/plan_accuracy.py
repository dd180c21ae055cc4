"""Planned time and time taken, part by part: `python -m benchmarks.speed.plan_accuracy`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.shared.places import ROOT

FOLDS = ["--outer-folds", "3", "--inner-folds", "3", "--quiet"]
STUDIES = {
    "multimodal, 10 trials of 20 epochs": [
        "--task",
        "multimodal",
        "--data",
        "demo",
        "--trials",
        "10",
        "--epochs",
        "20",
    ],
    "dbt, 6 trials of 15 epochs": [
        "--task",
        "dbt",
        "--data",
        "demo",
        "--trials",
        "6",
        "--epochs",
        "15",
    ],
    "multimodal, no pruner, 6 trials of 20 epochs": [
        "--task",
        "multimodal",
        "--data",
        "demo",
        "--trials",
        "6",
        "--epochs",
        "20",
        "--pruner",
        "none",
    ],
}


def timing(words: list[str], run: Path) -> dict[str, dict[str, float]]:
    """Carry out a study; return ``timing`` of its results, with the report that it took."""
    command = [sys.executable, str(ROOT / "run_study.py"), *words, *FOLDS, "--run", str(run)]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - began
    found: dict[str, Any] = json.loads((run / "report" / "results.json").read_text())["timing"]
    found["parts"]["report"] = whole - found["wall_seconds"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each study")
    chosen = parser.parse_args()
    workers, ratios = ["--workers", str(chosen.workers)], []
    print(f"{'study':46s} part      expected     took  expected/took")
    with TemporaryDirectory() as folder:
        for number, (name, words) in enumerate(list(STUDIES.items()) * chosen.repeats):
            where = Path(folder) / str(number)
            os.environ["OUTERFOLD_CACHE"] = str(where / "cache")  # nothing is encoded yet
            took = timing([*words, *workers], where / "run")
            expected, parts = took["expected_parts"], took["parts"]
            whole = {"sum": (sum(expected.values()), sum(parts.values()))}
            for part, (plan, real) in {
                **{part: (expected[part], parts[part]) for part in expected},
                **whole,
            }.items():
                ratios.append((part, plan / max(real, 0.1)))
                print(
                    f"{name:46s} {part:9s} {plan:6.0f} s {real:6.0f} s {plan / max(real, 0.1):9.2f}"
                )
    for part in dict.fromkeys(part for part, _ in ratios):
        each = [ratio for of, ratio in ratios if of == part]
        limit = 1.3 if part == "sum" else 1.6
        within = sum(1 / limit <= ratio <= limit for ratio in each)
        print(f"{part}: {within} of {len(each)} within {limit}")


if __name__ == "__main__":
    main()
