"""What the search was worth in plain runs of several data sets, as their reports say it.

    python -m benchmarks.search.worth_runs RUN RUN ...

Reads the ``results.json`` of finished runs and writes worth_runs.md beside this file: the tuned
minus the default configuration on the outer test rows, with its paired interval. The commands that
made the runs stand in the page.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks.shared.markdown import markdown
from outerfold.reports.schema import Results
from outerfold.storage.cache.files import read_json

SHOWN = {"roc_auc": "ROC-AUC", "balanced_accuracy": "balanced accuracy", "brier": "Brier score"}
HEADER = ["data", "images of patients", "trials a study", "folds that chose the default"]


def row(numbers: Results) -> list[str]:
    """Cells of one run: its data, its searches, and the difference of each metric."""
    data, worth = numbers["dataset"], numbers["worth"]
    cells = [
        data_name(numbers),
        f"{data['images']} of {data['patients']}",
        str(numbers["protocol"]["trials"]),
        f"{len(worth['chosen'])} of {len(numbers['outer'])}",
    ]
    for name in SHOWN:
        found = worth["overall"][name]["difference"]
        if found["low"] is None:
            cells.append("0, without an interval")
        else:
            cells.append(f"{found['estimate']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})")
    return cells


def data_name(numbers: Results) -> str:
    """Name of the data; of a ``metadata.csv`` that of its folder."""
    folder = re.search(r"--data \S*?([^/\s]+)/metadata\.csv", numbers["provenance"]["command"])
    return folder[1] if folder else str(numbers["dataset"]["name"])


def page(every: list[Results]) -> str:
    """Text of worth_runs.md."""
    clear = sum(_is_clear(numbers) for numbers in every)
    commands = "\n".join(f"    {plain(numbers['provenance']['command'])}" for numbers in every)
    return "\n\n".join(
        [
            "# What was the search worth in plain runs?",
            "The tuned minus the default configuration, both scored on the outer test rows, with "
            "the paired 95 % interval that the reports print. In "
            f"{clear} of {len(every)} runs the search gained ROC-AUC that the interval tells from "
            "0. How often such intervals hold the truth is measured in [worth.md](worth.md).",
            markdown([*HEADER, *SHOWN.values()], [row(numbers) for numbers in every]),
            "Made with `python -m benchmarks.search.worth_runs RUN ...` from the runs of",
            commands,
        ]
    )


def plain(command: str) -> str:
    """The command without what is of one machine: folders, workers, and how much it prints."""
    short = re.sub(r" (?:--run|--workers) \S+| --quiet", "", command)
    return re.sub(r"--data \S*/data/", "--data DATA/", short)


def _is_clear(numbers: Results) -> bool:
    low = numbers["worth"]["overall"]["roc_auc"]["difference"]["low"]
    return low is not None and low > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    chosen = parser.parse_args()
    text = page([read_json(run / "report" / "results.json") for run in chosen.runs])
    (Path(__file__).parent / "worth_runs.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
