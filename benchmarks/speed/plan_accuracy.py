"""Time that the plan expects and time of the run: `python -m benchmarks.speed.plan_accuracy`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

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


def timing(words: list[str], run: Path) -> dict[str, float]:
    """Carry out a study and return the ``timing`` of its ``results.json``."""
    command = [sys.executable, str(ROOT / "run_study.py"), *words, *FOLDS, "--run", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = json.loads((run / "report" / "results.json").read_text())["timing"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    workers = ["--workers", str(parser.parse_args().workers)]
    print(f"{'search and refits of':46s} expected     took  expected/took")
    with TemporaryDirectory() as folder:
        for number, (name, words) in enumerate(STUDIES.items()):
            took = timing([*words, *workers], Path(folder) / str(number))
            expected, search = took["expected_seconds"], took["search_seconds"]
            print(f"{name:46s} {expected:6.0f} s {search:6.0f} s {expected / search:14.2f}")


if __name__ == "__main__":
    main()
