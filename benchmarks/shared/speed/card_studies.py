"""What must be equal on a GPU, and whole studies on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared.places import ROOT
from benchmarks.shared.speed.card_rates import BLOCKS, VIEWS, Row, Sizes, weights_of
from benchmarks.shared.speed.card_rows import (
    DBT,
    MULTIMODAL,
    PATIENT,
    configuration,
    objective,
    random_rows,
    random_source,
    write_images,
)
from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines._base import Epoch
from outerfold.pipelines.augmentation.views import Views
from outerfold.pipelines.encoders.backends.choose import with_backend
from outerfold.pipelines.encoders.backends.probe import probe_images
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.activations import Division
from outerfold.pipelines.images.stand_in import stand_in

TRIALS, STUDIES = 100, 6
"""Trials of each study, and studies, to which the dbt task is extrapolated."""

Run = Callable[[Sequence[str], Path], Mapping[str, Any]]
"""Function that carries out a run with the words of a command in a folder; returns its results."""


def equal_rows(device: str, sizes: Sizes, work: Path) -> list[Row]:
    """Whether values repeat, in a stack and alone, among neighbours, and on the CPU."""
    rows, folds = random_rows(DBT, sizes.rows[0]), sizes.folds
    heads = objective(DBT, rows, random_source(), device, folds=folds)
    batch, small = sizes.head_batches[-1], min(sizes.rows[1], 640)
    source = stand_in(
        Division(
            build(MULTIMODAL.encoder, weights=(file := weights_of(MULTIMODAL, work))),
            str(file),
            BLOCKS,
        ),
        Views(VIEWS, "torchvision"),
    )
    few = random_rows(MULTIMODAL, small)
    tails = objective(MULTIMODAL, few, source, device, folds=folds, blocks=BLOCKS)
    found = []
    for name, own, trial in (
        ("heads", heads, configuration(DBT, batch)),
        ("two blocks", tails, configuration(MULTIMODAL, sizes.tail_batches[0], BLOCKS)),
    ):
        epochs = sizes.epochs
        whole = train(own, trial, epochs)
        found += [
            Row(f"{name}: repeated", verdict(whole, train(own, trial, epochs))),
            Row(f"{name}: in a stack and alone", verdict(whole, alone(own, trial, epochs))),
        ]
        if device != "cpu":
            core = InnerObjective(
                own.train,
                own.folds,
                own.source,
                own.space,
                protocol=own.protocol,
                seed=own.seed,
                device="cpu",
            )
            found.append(Row(f"{name}: CPU and card", largest(whole, train(core, trial, epochs))))
    found.append(Row("an image among other neighbours", neighbours(device, work)))
    return found


def train(own: InnerObjective, trial: Any, epochs: int) -> Epoch:
    """Last of a few epochs of a configuration."""
    return list(islice(iter(own._start_training(trial)), epochs))[-1]


def alone(own: InnerObjective, trial: Any, epochs: int) -> list[Epoch]:
    """The same for each fold by itself."""
    each = [
        InnerObjective(
            own.train,
            [fold],
            own.source,
            own.space,
            protocol=own.protocol,
            seed=own.seed,
            device=own.device,
        )
        for fold in own.folds
    ]
    return [train(one, trial, epochs) for one in each]


def verdict(whole: Epoch, other: Epoch | list[Epoch]) -> str:
    """Whether two trainings give the same bits, else by how much their probabilities differ."""
    same = all(map(np.array_equal, whole.probabilities, _probabilities(other)))
    return "identical" if same else f"DIFFERENT, {largest(whole, other)}"


def largest(whole: Epoch, other: Epoch | list[Epoch]) -> str:
    """Largest difference between the probabilities of two trainings."""
    pairs = zip(whole.probabilities, _probabilities(other), strict=True)
    return f"by at most {max(float(np.abs(a - b).max()) for a, b in pairs):.2g}"


def _probabilities(found: Epoch | list[Epoch]) -> Sequence[Any]:
    return (
        [each.probabilities[0] for each in found]
        if isinstance(found, list)
        else found.probabilities
    )


def neighbours(device: str, work: Path) -> str:
    """Whether an image has the same values alone and in a full batch."""
    encoder = build(MULTIMODAL.encoder, weights=weights_of(MULTIMODAL, work))
    named = with_backend(encoder, "torch", work).to(device)
    images = probe_images(named.image_size)[:5]
    together, apart = named.encode(images).pooled[3], named.encode(images[3:4]).pooled[0]
    return "identical" if np.array_equal(together, apart) else "DIFFERENT"


def resumed_row(work: Path, run: Run, kill_after: float = 30.0) -> Row:
    """Whether a study that was killed and resumed has the results of one that was not."""
    words = ["--task", "multimodal", "--data", "demo", "--trials", "3", "--epochs", "6"]
    words += ["--outer-folds", "2", "--inner-folds", "2", "--train-on", "auto"]
    whole = run(words, work / "whole")
    broken = work / "broken"
    command = [sys.executable, str(ROOT / "run_study.py"), *words, "--run", str(broken), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        until = time.monotonic() + kill_after
        while time.monotonic() < until and process.poll() is None and not _has_trials(broken):
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    found = run(words, broken)
    same = found["metrics"] == whole["metrics"]
    return Row("a study killed and resumed", "identical" if same else "DIFFERENT")


def _has_trials(run: Path) -> bool:
    log = run / "run.log"
    return log.exists() and " trial " in log.read_text(encoding="utf-8")


def demo_rows(work: Path, run: Run) -> list[Row]:
    """Seconds of the demo's study from an empty cache, by part."""
    found = run(["--task", "multimodal", "--data", "demo"], work / "demo")["timing"]
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in found["parts"].items())
    return [Row("the demo's study", f"{found['wall_seconds']:.0f} s: {parts}", "at most 60 s")]


def dbt_rows(work: Path, run: Run, images: int, trials: int = 3) -> list[Row]:
    """Minutes of the dbt task's search and ends, extrapolated from a few trials a study."""
    folder = write_images(work / "dbt-study-images", DBT, images)
    words = ["--task", "dbt", "--data", str(folder), "--patient-regex", PATIENT]
    words += ["--encoder", DBT.encoder, "--weights", str(weights_of(DBT, work))]
    parts = run([*words, "--trials", str(trials)], work / "dbt")["timing"]["parts"]
    search = parts["search"] * TRIALS / trials
    minutes = (search + parts.get("ends", 0.0)) / 60
    what = f"dbt, {images:,} rows: search and ends of {STUDIES} x {TRIALS} trials"
    return [
        Row(f"dbt, {images:,} rows: encoding, 3 views", f"{parts['encoding']:.0f} s"),
        Row(
            what, f"{minutes:.0f} min, EXTRAPOLATED from {trials} trials a study", "at most 20 min"
        ),
    ]


def carry_out(words: Sequence[str], folder: Path, device: str = "cuda") -> Mapping[str, Any]:
    """Carry out a study in processes of its own, with a cache beside it; return its results."""
    environment = {**os.environ, "OUTERFOLD_CACHE": str(folder.parent / f"{folder.name}-cache")}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, str(ROOT / "run_study.py"), *words, "--run", str(folder), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    found: Mapping[str, Any] = json.loads((folder / "report" / "results.json").read_text())
    return found


def card_name(device: str) -> str:
    """Name of the GPU, or of the CPU where none is measured."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
