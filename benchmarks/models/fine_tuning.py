"""Two trainable blocks compared with a frozen encoder, on the same splits of real images.

    python -m benchmarks.models.fine_tuning --data DATA --out RUNS

The script runs the four studies (a second call continues where it stopped), measures the time of
an epoch with and without cached activations, and writes fine_tuning.md beside this file. DATA
contains breast-usg/ and bus-bra/.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared.places import ROOT, real_data
from outerfold.pipelines.encoders.divide import divide
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.activations import Division, trunk_source
from outerfold.pipelines.images.embed import embedded_squares
from outerfold.reports.sections.comparison import (
    compare_runs,
    comparison_sentence,
    comparison_table,
)
from outerfold.storage.records import Features
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.gather import CACHE_VARIABLE, cache_folder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.setup.provenance import versions

ENCODER = "bundled:efficientnet_lite0"
PATIENTS = 200
SMALL = [
    "--encoder",
    ENCODER,
    "--outer-folds",
    "3",
    "--inner-folds",
    "2",
    "--trials",
    "3",
    "--epochs",
    "6",
    "--networks",
    "1",
    "--batch-size",
    "32",
]
BLOCKS = (0, 2)
BATCH = 32


ABOUT = f"""{ENCODER}; the last two blocks and the layers behind them (2.7 million weights) are
trained with the head, and compared with training the head alone. The splits and the number of
trials are the same. The studies are reduced for a machine with two shared cores and no GPU: 3
outer and 2 inner folds, 3 trials, at most 6 epochs, one network, batches of {BATCH}; bus-bra is
reduced to {PATIENTS} of 1,064 patients. A search this small does not show the best performance of
either way."""
KEPT = """Cached activations: 14 x 14 x 112 in float16 and their mean, 43.3 KiB per image and view;
the rest of the cache are images as squares and embeddings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=real_data())
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--speed-only", action="store_true", help="with the runs there are")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    studies = {
        name: study_words(name, chosen.data, chosen.out) for name in ("breast-usg", "bus-bra")
    }
    if not chosen.speed_only:
        for name, words in studies.items():
            for blocks in BLOCKS:
                carry_out(name, words, blocks, chosen.out, chosen.workers)
    speed = measure_speed(chosen.data / "breast-usg", chosen.out)
    (Path(__file__).parent / "fine_tuning.md").write_text(page(chosen.out, studies, speed))


def study_words(name: str, data: Path, out: Path) -> list[str]:
    """Command-line options of a study for its data and its task."""
    if name == "breast-usg":
        columns = "age,tissue_composition,family_history"
        return ["--task", "multimodal", "--data", str(data / name), "--columns", columns]
    return ["--task", "dbt", "--data", str(subset(data / name, out))]


def subset(data: Path, out: Path) -> Path:
    """Write a manifest of ``PATIENTS`` patients of BUS-BRA, always the same; return its path."""
    with (data / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    patients = sorted({row["patient_id"] for row in rows})
    kept = set(np.random.default_rng(0).choice(patients, PATIENTS, replace=False).tolist())
    path = out / "bus-bra.csv"
    lines = [
        f"{data.resolve() / row['file']},{row['file'].split('/')[0]},{row['patient_id']}"
        for row in rows
        if row["patient_id"] in kept
    ]
    path.write_text("\n".join(["file,label,patient_id", *lines]) + "\n", encoding="utf-8")
    return path


def carry_out(name: str, words: list[str], blocks: int, out: Path, workers: str) -> None:
    """Run one study unless it is finished, and measure its largest process and its cache."""
    run = out / f"{name}-{blocks}"
    if finished(name, blocks, out):
        return
    command = [sys.executable, str(ROOT / "run_study.py"), *words, *SMALL]
    command += ["--trainable-blocks", str(blocks), "--run", str(run), "--workers", workers]
    kept = out / f"cache-{name}-{blocks}"
    process = subprocess.Popen([*command, "--quiet"], env={**os.environ, CACHE_VARIABLE: str(kept)})
    _, status, used = os.wait4(process.pid, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise RuntimeError(f"{shlex.join(command)}: ended with exit code {code}")
    disk = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    cost = {"peak_gib": used.ru_maxrss / 2**20, "disk_mib": disk / 2**20}
    (out / f"{name}-{blocks}.json").write_text(json.dumps(cost))


def finished(name: str, blocks: int, out: Path) -> bool:
    """Whether the study has finished."""
    return (out / f"{name}-{blocks}.json").exists()


def measure_speed(data: Path, out: Path) -> dict[str, float]:
    """Images per CPU second in one fold's training epoch, with and without cached activations."""
    kept = out / "speed.json"
    if not kept.exists():
        torch.set_num_threads(1)
        kept.write_text(json.dumps(_rates(data)))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def _rates(data: Path, images: int = 96) -> dict[str, float]:
    """Images per CPU second; only the last two blocks are trained.

    The mean square of their output replaces a loss. The first of three rounds is not counted.
    """
    encoder = build(ENCODER)
    paths = np.array([str(path.resolve()) for path in sorted(data.rglob("*.jpg"))[:images]])
    ids, chosen = paths.tolist(), Features(paths, paths, np.zeros((images, 0)), ())
    kept = trunk_source(chosen, Division(encoder, "", 2), cache=cache_folder())
    squares = embedded_squares(chosen, kept.embeddings, encoder).tokens(ids)
    divided = divide(encoder, 2)
    tail, trunk = divided.tail.train(), divided.trunk
    assert trunk is not None
    optimiser = torch.optim.Adam(tail.parameters(), lr=0.0, fused=True)
    seconds = {"with": 0.0, "without": 0.0}
    for repeat in range(3):
        for how in seconds:
            began = time.process_time()
            for start in range(0, images, BATCH):
                part = slice(start, start + BATCH)
                read = kept.activations(ids[part])
                given = read if how == "with" else trunk.encode(squares[part]).tokens
                torch.autograd.backward(tail(torch.from_numpy(given))[0].square().mean())
                optimiser.step()
                optimiser.zero_grad()
            seconds[how] += (time.process_time() - began) * (repeat > 0)
    return {how: 2 * images / spent for how, spent in seconds.items()}


def page(out: Path, studies: dict[str, list[str]], speed: dict[str, float]) -> str:
    """Text of fine_tuning.md."""
    commands = [
        "python run_study.py " + shlex.join([*short(words), *SMALL, "--trainable-blocks", "N"])
        for words in studies.values()
    ]
    made = "\n".join(
        ["```sh", "python -m benchmarks.models.fine_tuning --out RUNS", *commands, "```"]
    )
    cost = [
        costs(name, blocks, out)
        for name in studies
        for blocks in BLOCKS
        if finished(name, blocks, out)
    ]
    parts = [
        "# Two trainable blocks compared with a frozen encoder",
        ABOUT,
        *(found for name in studies for found in difference_parts(name, out)),
        "## Costs",
        *(
            [
                table(
                    ["Study", "Blocks", "Search and refits", "Largest process", "Cache on disk"],
                    cost,
                )
            ]
            if cost
            else []
        ),
        KEPT,
        f"Training the two blocks for an epoch: {speed['with']:.0f} images/s with cached "
        f"activations, {speed['without']:.0f} with the trunk computed each time, "
        f"{speed['with'] / speed['without']:.1f} times as fast (one core, CPU time, both in one "
        "run; reading from disk included).",
        "## Made by",
        made,
        ", ".join(f"{name} {number}" for name, number in versions().items()),
    ]
    return "\n\n".join(parts) + "\n"


def difference_parts(name: str, out: Path) -> list[str]:
    """Parts of the page on the paired difference of the two runs of one data set."""
    if not all(finished(name, blocks, out) for blocks in BLOCKS):
        return [
            f"## {name}",
            "This study was not run to its end, because the machine was too busy. The command is "
            "below.",
        ]
    frozen, tuned = (read_kept_run(RunFolder(out / f"{name}-{blocks}")) for blocks in BLOCKS)
    found = compare_runs(tuned, frozen, ("2 blocks", "0 blocks"))
    shown = comparison_table(found)
    return [
        f"## {name}",
        comparison_sentence(found),
        table(list(shown.header), [list(r) for r in shown.rows]),
        " ".join(shown.notes),
    ]


def costs(name: str, blocks: int, out: Path) -> list[str]:
    timing = json.loads((out / f"{name}-{blocks}" / "provenance.json").read_text())["timing"]
    kept = json.loads((out / f"{name}-{blocks}.json").read_text())
    return [
        name,
        str(blocks),
        f"{timing['search_seconds']:.0f} s",
        f"{kept['peak_gib']:.2f} GiB",
        f"{kept['disk_mib']:.0f} MiB",
    ]


def short(words: list[str]) -> list[str]:
    """Options in which DATA replaces the folders of this machine."""
    return [
        f"DATA/{Path(word).name}" if "/" in word and ":" not in word else word for word in words
    ]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
