"""Speed of encoding and search of the two tasks on a GPU at 224 px, and how busy the GPU is.

    python -m benchmarks.speed.gpu                            # minutes to hours; one GPU
    python -m benchmarks.speed.gpu --device cpu --images 60 --trials 1     # tests this file's code

Synthetic images, as many as in the public data sets (dbt 22,000, multimodal 7,800), are written as
JPEG files of 224 px, so that decoding is part of the measured time. The encoders have RANDOM
weights, saved to a file and read from there: speed does not depend on their values, and no other
result of these runs has a meaning. Tables of a GPU are appended to ``benchmarks/RESULTS.md``; those
of a CPU are only printed, since they only show that the code runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.shared.places import RESULTS, ROOT
from outerfold.pipelines.encoders._base import UNNAMED_BATCH as BATCH
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.embed import embed
from outerfold.storage.readers.read import read_dataset

SIDE, VIEWS, PER_PATIENT = 224, 3, 4
"""Pixels of an image's side, views per image in a search (the image and two augmented ones), and
images per patient (one if ``--images`` makes a study too small for its folds)."""
WIDE = 256
"""Images per batch for the encoder's best rate."""
PATIENT = "(P[0-9]+)_"
SMALL = ["--outer-folds", "2", "--inner-folds", "2", "--epochs", "2", "--networks", "1"]
"""Options of a study on a CPU, which only tests this file's code."""


@dataclass(frozen=True)
class Subject:
    """One task at its realistic size."""

    task: str
    images: int
    encoder: str
    classes: tuple[str, ...]


SUBJECTS = (
    Subject("dbt", 22_000, "clip:ViT-B/32", ("Normal", "Actionable", "Benign", "Cancer")),
    Subject("multimodal", 7_800, "timm:efficientnet_b0", ("Benign", "Cancer")),
)


@dataclass(frozen=True)
class Watched:
    """Use of a GPU: mean share of the time in which it was busy, and peak memory in GiB."""

    busy: float | None
    memory: float


@dataclass(frozen=True)
class Measured:
    """One row of the table; rates are images (or views) per second."""

    task: str
    encoder: str
    images: int
    bare: float
    bare_wide: float
    decoded: float
    augmented: float
    encoding: Watched
    trials_a_minute: float
    workers: int
    searching: Watched


class Watch:
    """Sampler of a GPU, five times per second while it is open; on a CPU, of memory alone."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device != "cpu"

    def __enter__(self) -> Watch:
        which = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        command = [
            "nvidia-smi",
            "-i",
            which,
            "--query-gpu=utilization.gpu,memory.used",
            "--format=csv,noheader,nounits",
            "-lms",
            "200",
        ]
        if self.on_gpu:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        text = ""
        if self.on_gpu:
            self.process.terminate()
            text = self.process.communicate()[0]
        self.found = watched(text)


def watched(text: str) -> Watched:
    """Use of the GPU from lines ``busy %, MiB``; without lines, memory of the largest process."""
    rows = [line.split(",") for line in text.splitlines() if line.count(",") == 1]
    if not rows:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return Watched(None, max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20)
    numbers = np.array(rows, dtype=float)
    return Watched(float(numbers[:, 0].mean() / 100), float(numbers[:, 1].max() / 1024))


def write_images(root: Path, subject: Subject, images: int) -> Path:
    """Write class folders of smooth random JPEGs and, for a task with columns, ``metadata.csv``."""
    rng = np.random.default_rng(0)
    each = PER_PATIENT if images >= 1000 else 1
    patients = -(-images // each)
    label = rng.permutation(np.arange(patients) % len(subject.classes))
    names = [
        f"{subject.classes[label[at // each]]}/P{at // each:05d}_{at}.jpg" for at in range(images)
    ]
    for name in subject.classes:
        (root / name).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda at: _write(root / names[at], at), range(images)))
    age = rng.normal(55, 10, patients).round()
    lines = [f"{name},{age[at // each]:.0f}" for at, name in enumerate(names)]
    if subject.task == "multimodal":
        (root / "metadata.csv").write_text("\n".join(["file,age", *lines]) + "\n")
    return root


def random_weights(path: Path, encoder: str) -> Path:
    """Write a file of random weights that this encoder can read, for measuring speed only."""
    torch.manual_seed(0)
    if encoder == "clip:ViT-B/32":
        from clip.model import CLIP

        # The text tower is as small as possible, since images do not pass through it.
        state = CLIP(512, SIDE, 12, 768, 32, 4, 8, 64, 1, 1).state_dict()
    else:
        import timm

        state = timm.create_model(encoder.partition(":")[2], pretrained=False).state_dict()
    torch.save(state, path)
    return path


def bare_rate(encoder: Encoder, batch: int, seconds: float) -> float:
    """Images per second of the encoder alone, on images in memory."""
    side = encoder.image_size
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    encoder.encode(images)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        encoder.encode(images)  # returns arrays in CPU memory, so the device has then finished
        done += batch
    return done / (time.perf_counter() - started)


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of a call of ``work``."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def study(words: Sequence[str], run: Path, cache: Path, device: str) -> tuple[float, int]:
    """Carry out a study; return its trials per minute (refits included) and its workers."""
    environment = {**os.environ, "OUTERFOLD_CACHE": str(cache)}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    environment["CUDA_VISIBLE_DEVICES"] = "" if device == "cpu" else visible
    command = [sys.executable, str(ROOT / "run_study.py"), *words, "--run", str(run), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    found = json.loads((run / "report" / "results.json").read_text())
    trials = sum(sum(ends.values()) for ends in found["trials"].values())
    minutes = found["timing"]["search_seconds"] / 60
    return trials / minutes, len(found["provenance"]["devices"])


def measure(subject: Subject, folder: Path, options: argparse.Namespace) -> Measured:
    """Measure encoding and search of one task, in an empty folder."""
    images, device = options.images or subject.images, options.device
    data = write_images(folder / "data", subject, images)
    weights = random_weights(folder / "random-weights.pt", subject.encoder)
    rows = read_dataset(data, task=subject.task, patient_regex=PATIENT, columns=None)  # type: ignore[arg-type]
    encoder = build(subject.encoder, weights=weights).to(device)
    seconds = 5.0 if device != "cpu" else 0.2
    bare, wide = (bare_rate(encoder, batch, seconds) for batch in (BATCH, options.wide))
    with Watch(device) as encoding:
        took = [
            timed(
                lambda views=views: embed(  # type: ignore[misc]
                    rows.features,
                    encoder,
                    cache=folder / "cache",
                    views=views,
                    tokens=subject.task == "dbt",
                    device=device,
                )
            )
            for views in (1, VIEWS)
        ]
    words = [
        "--task",
        subject.task,
        "--data",
        str(data),
        "--patient-regex",
        PATIENT,
        "--encoder",
        subject.encoder,
        "--weights",
        str(weights),
        "--trials",
        str(options.trials),
        *(SMALL if device == "cpu" else []),
        *(["--workers-per-gpu", str(options.workers_per_gpu)] if device != "cpu" else []),
    ]
    with Watch(device) as searching:
        trials, workers = study(words, folder / "run", folder / "cache", device)
    return Measured(
        subject.task,
        subject.encoder,
        images,
        bare,
        wide,
        images / took[0],
        images * (VIEWS - 1) / took[1],
        encoding.found,
        trials,
        workers,
        searching.found,
    )


def section(found: Sequence[Measured], device: str, today: date, wide: int = WIDE) -> str:
    """Section of the page with one row per task; ``wide`` is the larger of two batch sizes."""
    lines = [
        f"### {device}, {today.isoformat()}",
        "",
        "Random weights and synthetic images: speeds only. `python -m benchmarks.speed.gpu`, torch "
        f"{torch.__version__}; {SIDE} px, {VIEWS} views of each image.",
        "",
        f"| Task | Encoder | Images | Encoder alone, {BATCH} at once | {wide} at once | "
        "Files decoded and encoded | Augmented views encoded | Share of encoder alone | "
        "GPU busy, encoding | Trials/min, refits included | Workers | GPU busy, search | "
        "Peak memory |",
        "|" + " --- |" * 13,
    ]
    for row in found:
        memory = max(row.encoding.memory, row.searching.memory)
        lines.append(
            f"| {row.task} | {row.encoder} | {row.images:,} | {row.bare:,.0f}/s | "
            f"{row.bare_wide:,.0f}/s | {row.decoded:,.0f}/s | {row.augmented:,.0f}/s | "
            f"{_share(row.augmented / row.bare_wide)} | {_share(row.encoding.busy)} | "
            f"{row.trials_a_minute:.1f} | {row.workers} | {_share(row.searching.busy)} | "
            f"{memory:.1f} GiB |"
        )
    return "\n".join(lines) + "\n"


def appended(text: str, new: str) -> str:
    """``text`` with ``new`` at the end of its section ``## GPU``, which is added if missing."""
    before, heading, after = text.partition("## GPU\n")
    if not heading:
        return f"{text.rstrip()}\n\n## GPU\n\n{new}"
    own, following, rest = after.partition("\n## ")
    return f"{before}{heading}{own.rstrip()}\n\n{new}{following}{rest}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--images", type=int, help="of each task, instead of 22,000 and 7,800")
    parser.add_argument("--trials", type=int, default=10, help="of each of the six studies")
    parser.add_argument("--task", choices=[s.task for s in SUBJECTS], help="only one of the tasks")
    parser.add_argument("--workers-per-gpu", type=int, default=1)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(argv)
    options.wide = WIDE if options.device == "cuda" else BATCH
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.speed.gpu was not run: PyTorch found no CUDA device.", file=sys.stderr)
        return 2
    found = []
    for subject in SUBJECTS:
        if options.task in (None, subject.task):
            with TemporaryDirectory() as folder:
                found.append(measure(subject, Path(folder), options))
    if options.device == "cpu":
        print("TEST ON A CPU AT A SMALL SIZE: these numbers are no result.\n")
        print(section(found, "CPU", date.today(), options.wide))
        return 0
    table = section(found, torch.cuda.get_device_name(), date.today())
    print(table)
    RESULTS.write_text(appended(RESULTS.read_text(), table))
    return 0


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _write(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


if __name__ == "__main__":
    sys.exit(main())
