"""Rates of a GPU, each beside what the same card does in a plain loop in the same call."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.shared.speed.card_rows import (
    PATIENT,
    Subject,
    configuration,
    objective,
    random_rows,
    random_source,
    random_weights,
    write_images,
)
from outerfold.pipelines._base import Epoch
from outerfold.pipelines.augmentation.views import Views, view_number
from outerfold.pipelines.encoders.backends.choose import with_backend
from outerfold.pipelines.encoders.backends.precision import BFLOAT16, DTYPES, FLOAT32
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.activations import Division, trunk_source
from outerfold.pipelines.images.embed import embed
from outerfold.pipelines.images.stand_in import stand_in
from outerfold.storage.readers.read import read_dataset

BLOCKS = 2
VIEWS = tuple([0, *(view_number("light", nth) for nth in (1, 2))])


class Row(NamedTuple):
    """Row of the table: what was measured, its value, and that of the plain loop."""

    what: str
    value: str
    plain: str = ""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements; ``TINY`` tries their code on a CPU.

    Attributes:
        images: number of JPEG files that are decoded and encoded.
        batches: batch sizes of the encoders alone.
        seconds: duration of each loop.
        rows: rows of the training side of heads, and of tails.
        head_batches, tail_batches: batch sizes of the trainings.
        epochs: epochs that are timed after the first.
        folds: inner folds.
    """

    images: int
    batches: tuple[int, ...]
    seconds: float
    rows: tuple[int, int]
    head_batches: tuple[int, ...]
    tail_batches: tuple[int, ...]
    epochs: int
    folds: int


FULL = Sizes(4_000, (16, 64, 256), 3.0, (1_200, 7_800), (32, 128), (32, 128), 2, 4)
TINY = Sizes(6, (2,), 0.01, (40, 20), (16,), (8,), 1, 2)


class Watch:
    """Sampler of a GPU, five times a second while it is open; on a CPU nothing."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device != "cpu"
        self.busy: float | None = None

    def __enter__(self) -> Watch:
        which = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        command = ["nvidia-smi", "-i", which, "--query-gpu=utilization.gpu"]
        command += ["--format=csv,noheader,nounits", "-lms", "200"]
        if self.on_gpu:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self.on_gpu:
            self.process.terminate()
            self.busy = busy_share(self.process.communicate()[0])


def busy_share(text: str) -> float | None:
    """Mean share of the time in which a GPU was busy, from lines with a percentage each."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            found.append(float(line))
    return float(np.mean(found) / 100) if found else None


def encoder_rows(subject: Subject, device: str, sizes: Sizes, work: Path) -> list[Row]:
    """Rates of an encoder alone: the backend in float32 and half, and its trunk in a plain loop."""
    weights = weights_of(subject, work)
    rows = []
    for precision in (FLOAT32, BFLOAT16):
        encoder = with_backend(build(subject.encoder, weights=weights), "torch", work, precision)
        encoder = encoder.to(device)
        assert isinstance(encoder, FrozenEncoder)
        for batch in sizes.batches:
            side = encoder.image_size
            images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
            rate = loop(partial(encoder.encode, images), sizes.seconds) * batch
            plain = plain_encoder(encoder, batch, precision, sizes.seconds)
            rows.append(
                Row(
                    f"{subject.encoder} alone, {batch} images a call, {precision}",
                    f"{rate:,.0f} images/s",
                    f"{plain:,.0f} images/s",
                )
            )
    return rows


def plain_encoder(encoder: FrozenEncoder, batch: int, precision: str, seconds: float) -> float:
    """Images a second of an encoder's trunk on pixels that lie on the device."""
    device, dtype = encoder.device, DTYPES.get(precision)
    trunk = encoder.trunk.to(memory_format=torch.channels_last)
    pixels = torch.rand(batch, 3, encoder.image_size, encoder.image_size, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            trunk(pixels)
        synchronise(str(device))

    return loop(once, seconds) * batch


def file_rows(subject: Subject, device: str, sizes: Sizes, work: Path) -> list[Row]:
    """Rates of files decoded and encoded, of views, and of activations at the cut."""
    weights = weights_of(subject, work)
    folder = write_images(work / f"{subject.task}-images", subject, sizes.images)
    data = read_dataset(folder, task=subject.task, patient_regex=PATIENT, columns=None)  # type: ignore[arg-type]
    encoder = with_backend(build(subject.encoder, weights=weights), "torch", work)
    style = "albumentations" if subject.task == "dbt" else "torchvision"
    views, cache = Views(VIEWS, style), work / f"{subject.task}-cache"
    rows = []
    for what, numbers in (("files decoded and encoded", 1), ("augmented views encoded", views)):
        with Watch(device) as watch:
            took = timed(
                lambda numbers=numbers: embed(  # type: ignore[misc]
                    data.features, encoder, cache=cache, views=numbers, device=device
                )
            )
        count = len(data) * (1 if numbers == 1 else len(VIEWS) - 1)
        rows.append(Row(f"{subject.encoder}: {what}", f"{count / took:,.0f}/s{said(watch)}"))
    if subject.task == "multimodal":
        division = Division(encoder, str(weights), BLOCKS)
        with Watch(device) as watch:
            took = timed(
                lambda: trunk_source(
                    data.features, division, cache=cache, views=views, device=device
                )
            )
        rate = len(data) * len(VIEWS) / took
        rows.append(
            Row(f"{subject.encoder}: activations at the cut", f"{rate:,.0f}/s{said(watch)}")
        )
    return rows


def head_rows(subject: Subject, device: str, sizes: Sizes) -> list[Row]:
    """Durations of an epoch of heads, and of one on a CPU thread beside it."""
    rows = random_rows(subject, sizes.rows[0])
    found = []
    for batch in sizes.head_batches:
        each = []
        for where in (device, "cpu"):
            own = objective(subject, rows, random_source(), where, folds=sizes.folds)
            trial = configuration(subject, batch)
            each.append(epoch_time(lambda: iter(own._start_training(trial)), where, sizes.epochs))  # noqa: B023
        (seconds, share), (core, _) = each
        kernels = f", kernels {share:.0%}" if share else ""
        found.append(
            Row(
                f"{subject.task}: an epoch of heads, batches of {batch}",
                f"{1000 * seconds:.0f} ms{kernels}",
                f"one CPU thread: {1000 * core:.0f} ms",
            )
        )
    return found


def tail_rows(subject: Subject, device: str, sizes: Sizes, work: Path) -> list[Row]:
    """Rates of training blocks from activations, one fold after the other."""
    weights = weights_of(subject, work)
    found = []
    for batch in sizes.tail_batches:
        rate, share = tail_rate(subject, device, sizes, batch, weights)
        plain = plain_tail(subject, device, batch, sizes.seconds, weights)
        kernels = f", kernels {share:.0%}" if share else ""
        found.append(
            Row(
                f"{subject.encoder}: two blocks trained, batches of {batch}",
                f"{rate:,.0f} images/s{kernels}",
                f"{plain:,.0f} images/s",
            )
        )
    return found


def tail_rate(
    subject: Subject, device: str, sizes: Sizes, batch: int, weights: Path
) -> tuple[float, float | None]:
    """Training images a second of all inner folds, and the share of the time in kernels."""
    if device == "cpu":
        torch.set_num_threads(1)
    encoder = build(subject.encoder, weights=weights)
    source = stand_in(Division(encoder, str(weights), BLOCKS), Views(VIEWS, "torchvision"))
    rows = random_rows(subject, sizes.rows[1])
    own = objective(subject, rows, source, device, folds=sizes.folds, blocks=BLOCKS)
    trial = configuration(subject, batch, BLOCKS)
    seconds, share = epoch_time(lambda: iter(own._start_training(trial)), device, sizes.epochs)
    return sum(len(fold.fit) for fold in own.folds) / seconds, share


def tails_together(
    subject: Subject, device: str, sizes: Sizes, work: Path, workers: int
) -> list[Row]:
    """Rate of several processes that train blocks on one device at once."""
    weights, batch = weights_of(subject, work), sizes.tail_batches[-1]
    how = (subject, device, sizes, batch, weights)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(tail_rate, *how) for _ in range(workers)]
        rates = [job.result()[0] for job in running]
    what = f"{subject.encoder}: two blocks, {workers} workers side by side, batches of {batch}"
    return [Row(what, f"{sum(rates):,.0f} images/s")]


def plain_tail(subject: Subject, device: str, batch: int, seconds: float, weights: Path) -> float:
    """Images a second of a tail's bare steps on activations that lie on the device, in bfloat16."""
    encoder = build(subject.encoder, weights=weights)
    source = stand_in(Division(encoder, str(weights), BLOCKS), Views(VIEWS, "torchvision"))
    tail = source.tail().to(device).to(memory_format=torch.channels_last).train()  # type: ignore[union-attr]
    optimiser = torch.optim.AdamW(tail.parameters(), 1e-4, fused=True)
    kept = torch.from_numpy(source.activations(["a"] * 256)).to(device)  # type: ignore[union-attr]

    def once() -> None:
        x = kept[torch.randint(0, len(kept), (batch,), device=device)]
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            y = tail(x)[0].float().square().mean()
        torch.autograd.backward(y)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return loop(once, seconds, device) * batch


def epoch_time(
    start: Callable[[], Iterator[Epoch]], device: str, epochs: int
) -> tuple[float, float | None]:
    """Seconds of an epoch after the first, and on a GPU the share of one in kernels."""
    training = start()
    next(training)
    synchronise(device)
    seconds = timed(lambda: [next(training) for _ in range(epochs)], device) / epochs
    if device == "cpu":
        return seconds, None
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        took = timed(lambda: next(training), device)
    kernels = sum(event.self_device_time_total for event in found.key_averages()) / 1e6
    return seconds, kernels / took


def weights_of(subject: Subject, work: Path) -> Path:
    """File of random weights of a subject's encoder, written once."""
    path = work / f"{subject.task}-weights.pt"
    return path if path.exists() else random_weights(path, subject.encoder)


def loop(work: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """Calls a second of ``work`` after one that is not counted."""
    work()
    synchronise(device)
    started, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - started < seconds:
        work()
        calls += 1
    synchronise(device)
    return calls / (time.perf_counter() - started)


def timed(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall seconds of a call of ``work``, to the end of its kernels."""
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: str) -> None:
    """Wait for the kernels of a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def said(watch: Watch) -> str:
    """Words on how busy the GPU was; empty on a CPU."""
    return "" if watch.busy is None else f", GPU busy {watch.busy:.0%}"


def table(rows: Sequence[Row]) -> str:
    """Markdown table of rows."""
    lines = ["| What | Measured | Plain loop, same card |", "| --- | --- | --- |"]
    return "\n".join(
        [*lines, *(f"| {row.what} | {row.value} | {row.plain or '–'} |" for row in rows)]
    )
