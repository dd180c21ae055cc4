"""Measurement for `--batch-size auto`: the largest batch whose training step fits in memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import Tail, divide
from outerfold.pipelines.training.micro_batches import out_of_memory, release_gpu_memory
from outerfold.pipelines.training.precision import Precision
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import AUTO, StudyConfig

SMALLEST = 8
CPU_CAP, GPU_CAP = 64, 512
"""Largest batches that are tried. A CPU swaps memory to disk long before it refuses a batch; on a
GPU, larger batches gain too little speed to make up for fewer steps."""

STEPS = 8
"""Smallest number of steps in an epoch, so that a small data set is not a single batch."""


def resolve_batch_size(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    *,
    images: int,
    device: str,
) -> tuple[StudyConfig, str]:
    """Configuration with a number in place of ``auto``, and a phrase on how it was found.

    The phrase is empty if nothing was measured. A started run keeps its number, so that it can
    continue on another machine.

    Args:
        config: options of the run.
        folder: directory of the run.
        encoders: encoders of the run by name.
        images: number of images of the data.
        device: device that trains, such as ``cuda:0`` or ``cpu``.
    """
    if config.batch_size != AUTO:
        return config, ""
    if folder.started():
        return replace(config, batch_size=folder.read_config()["batch_size"]), ""
    on_gpu = device.startswith("cuda")
    cap = min(GPU_CAP if on_gpu else CPU_CAP, max(SMALLEST, _power_of_two(images // STEPS)))
    size = min(_measure_batch(config, encoders[name], device, cap) for name in config.encoders)
    why = (
        "a larger one does not fit in memory"
        if size < cap
        else f"the largest that is tried on {'a GPU' if on_gpu else 'a CPU'} with {images} images"
    )
    return replace(config, batch_size=size), f"batch size {size}: {why}"


def _measure_batch(config: StudyConfig, encoder: Encoder, device: str, cap: int) -> int:
    divided = divide(encoder, config.trainable_blocks)
    divided.tail.checkpointing = config.checkpointing
    return largest_batch(
        divided.tail,
        _black_image(encoder, divided.trunk),
        device=device,
        cap=cap,
        others=config.inner_folds - 1,
    )


def largest_batch(tail: Tail, one: torch.Tensor, *, device: str, cap: int, others: int) -> int:
    """Largest batch, in images, whose training step fits in memory; ``SMALLEST`` at least.

    Batches are doubled from ``SMALLEST`` up to ``cap``. The networks of ``others`` inner folds
    are in memory at the same time.

    Args:
        tail: the trained blocks of the encoder.
        one: a black image (1, ...) in the form that the tail takes.
        device: device that trains.
        cap: largest batch that is tried.
        others: number of folds that train at the same time, besides this one.
    """
    size = SMALLEST
    while size < cap and _fits_in_memory(
        tail, one.expand(2 * size, *one.shape[1:]), device, others
    ):
        size *= 2
    return size


def _fits_in_memory(tail: Tail, images: torch.Tensor, device: str, others: int) -> bool:
    try:
        _run_step(tail, images, torch.device(device), others)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    release_gpu_memory()
    return fits


def _run_step(tail: Tail, images: torch.Tensor, device: torch.device, others: int) -> None:
    network = deepcopy(tail).to(device).train()
    weights = sum(parameter.numel() for parameter in network.parameters())
    # Weights, gradients and the two moments of Adam for each other fold that trains meanwhile.
    beside = torch.empty(others * 4 * weights, device=device)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)
    with Precision.of(device).products():
        pooled, _ = network(images.to(device))
    torch.autograd.backward(pooled.float().square().mean())
    optimiser.step()
    del beside


def _black_image(encoder: Encoder, trunk: Encoder | None) -> torch.Tensor:
    side = encoder.image_size
    if trunk is None:
        return torch.zeros((1, side, side, 3), dtype=torch.uint8)
    return torch.zeros((1, trunk.tokens, trunk.token_dim), dtype=torch.float16)


def _power_of_two(number: int) -> int:
    """Largest power of two that is not above ``number``; 1 for numbers below 1."""
    return 1 << max(0, number.bit_length() - 1)
