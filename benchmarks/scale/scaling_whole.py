"""Whole runs by number of images and of trials: `python -m benchmarks.scale.scaling_whole`.

Each run goes from the folds to the report, with the driver and its workers, in a new process. Only
the growth is of interest, so everything else is small: random embeddings of 64 numbers in the
cache's own format, 2 x 2 folds, the mean of the two outer models as the delivered model, epochs
and batches as given. The table shows wall seconds, CPU seconds of driver and workers, and the peak
of anonymous memory of the driver and of the larger worker. Finished runs are kept under --out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

from rich.console import Console

from benchmarks.scale.scaling_stages import anonymous, rows, write_embeddings
from benchmarks.shared.markdown import markdown
from benchmarks.shared.own_study import cpu_with_children
from benchmarks.shared.places import ROOT
from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.pipelines.saved.files import ENCODER_FILE
from outerfold.reports.write import write_report
from outerfold.storage.cache.files import write_json
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import carry_out_run, open_studies
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.local import ONE_THREAD, LocalEngine, quiet_optuna
from outerfold.study.setup.provenance import write_provenance
from outerfold.study.setup.run_directory import make_splits, write_run_directory
from outerfold.study.worker.session import WorkerContext

DIM = 64
LOOK_SECONDS = 0.1
"""Time between two samples of the memory."""


class Peaks:
    """Highest anonymous memory, in bytes, of this process and of any process that it started."""

    def __init__(self) -> None:
        self.driver = self.worker = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.driver = max(self.driver, anonymous())
            for child in _children():
                with suppress(OSError):  # the process has ended
                    self.worker = max(self.worker, anonymous(child))


def _children() -> list[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def config(trials: int, epochs: int, batch_size: int) -> StudyConfig:
    """Configuration: two outer and two inner folds, one network, no augmentation, no resampling."""
    return StudyConfig(
        task="multimodal",
        encoder=f"random:{DIM}",
        trials=trials,
        epochs=epochs,
        batch_size=batch_size,
        outer_folds=2,
        inner_folds=2,
        networks=1,
        final="ensemble",
        space={
            "augmented_views": {"values": [0]},
            "attention": {"values": [False]},
            "sampler": {"values": ["none"]},
        },
    )


def whole_run(folder: Path, images: int, chosen: StudyConfig, workers: int) -> dict[str, float]:
    """Carry out one run in ``folder``, which is emptied first, and measure it."""
    quiet_optuna()
    os.environ.update(ONE_THREAD)
    shutil.rmtree(folder, ignore_errors=True)
    data = rows(images)
    embeddings = Embeddings.load(folder / "cache", write_embeddings(data, folder / "cache", DIM))
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True)
    wall, cpu = time.perf_counter(), cpu_with_children()
    with Peaks() as peaks:
        prepared = write_run_directory(run, chosen, data, make_splits(chosen, data))
        write_json(run.path / ENCODER_FILE, {"name": chosen.encoder, "weights": ""})
        context = WorkerContext(run.path, embeddings)
        open_studies(prepared, context)
        began = time.perf_counter()
        console = Console(quiet=True)
        with StudyProgress(console, trials=chosen.trials, quiet=True, maximise=True) as progress:
            failures = carry_out_run(
                prepared, context, lambda: LocalEngine(("cpu",) * workers), progress
            )
        if failures:
            raise RuntimeError(str(failures))
        searched = time.perf_counter() - began
        write_provenance(
            run,
            devices=["cpu"] * workers,
            command=[],
            timing={
                "wall_seconds": searched,
                "expected_seconds": 0.0,
                "search_seconds": searched,
            },
        )
        found = read_kept_run(run)
        write_report(found, run.report)
    counts = [one.trials for one in found.outer]
    return {
        "wall": time.perf_counter() - wall,
        "cpu": cpu_with_children() - cpu,
        "search": searched,
        "driver_mb": peaks.driver / 2**20,
        "worker_mb": peaks.worker / 2**20,
        "journal_mb": (run.path / "trials.journal").stat().st_size / 1e6,
        "trials": sum(sum(one.values()) for one in counts),
        "pruned": sum(one["pruned"] for one in counts),
    }


def table(found: dict[tuple[int, int], dict[str, float]]) -> str:
    """Table with one line per run."""
    lines = [
        [
            f"{images:,}",
            f"{trials:,}",
            f"{one['trials']:.0f}, {one['pruned']:.0f} pruned",
            f"{one['wall']:.0f}",
            f"{one['cpu']:.0f}",
            f"{one['driver_mb']:.0f}",
            f"{one['worker_mb']:.0f}",
            f"{one['journal_mb']:.2f}",
        ]
        for (images, trials), one in found.items()
    ]
    return markdown(
        [
            "images",
            "trials per study",
            "trials ended",
            "wall s",
            "CPU s",
            "driver MB",
            "worker MB",
            "journal MB",
        ],
        lines,
    )


def main() -> None:
    options = _options()
    context = options.out.resolve()
    if options.one:
        (images,), (trials,) = options.images, options.trials
        chosen = config(trials, options.epochs, options.batch_size)
        print(json.dumps(whole_run(context, images, chosen, options.workers)))
        return
    found = {}
    for images, trials in product(options.images, options.trials):
        known = context / f"{images}-{trials}-{options.epochs}-{options.batch_size}.json"
        if not known.exists():
            known.parent.mkdir(parents=True, exist_ok=True)
            words = [
                "--images",
                images,
                "--trials",
                trials,
                "--epochs",
                options.epochs,
                "--batch-size",
                options.batch_size,
                "--workers",
                options.workers,
            ]
            command = [
                sys.executable,
                "-m",
                "benchmarks.scale.scaling_whole",
                "--one",
                "--out",
                str(context / "work"),
                *map(str, words),
            ]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            known.write_text(done.stdout.splitlines()[-1])
        found[images, trials] = json.loads(known.read_text())
        print(
            f"{images:,} images, {trials:,} trials: {found[images, trials]['wall']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    print(table(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="one run in --out, printed as JSON")
    parser.add_argument("--out", type=Path, default=Path("runs") / "scaling-whole")
    return parser.parse_args()


if __name__ == "__main__":
    main()
