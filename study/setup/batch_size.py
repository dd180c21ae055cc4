"""`--batch-size auto`: the largest batch whose training step fits in memory, measured."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import Tail, divide
from outerfold.pipelines.training.micro_batches import out_of_memory, release
from outerfold.pipelines.training.precision import Precision
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import AUTO, StudyConfig

SMALLEST = 8
CPU_CAP, GPU_CAP = 64, 512
"""Largest batches tried: a CPU swaps long before it refuses, and larger ones on a GPU gain no
speed that was worth their fewer steps."""

STEPS = 8
"""Least number of steps an epoch shall have, so that small data are not one batch."""


def resolve_batch_size(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    *,
    images: int,
    device: str,
) -> tuple[StudyConfig, str]:
    """The configuration with a number in place of ``auto``, and how it was found, in words.

    A run that was begun keeps the number it began with, so that it can go on elsewhere.
    """
    if config.batch_size != AUTO:
        return config, ""
    if folder.started():
        return replace(config, batch_size=folder.read_config()["batch_size"]), ""
    on_gpu = device.startswith("cuda")
    cap = min(GPU_CAP if on_gpu else CPU_CAP, max(SMALLEST, _power_of_two(images // STEPS)))
    size = min(_fitting(config, encoders[name], device, cap) for name in config.encoders)
    why = (
        "memory holds no more"
        if size < cap
        else (f"the most that is tried on {'a GPU' if on_gpu else 'a CPU'} with {images} images")
    )
    return replace(config, batch_size=size), f"batch size {size}: {why}"


def _fitting(config: StudyConfig, encoder: Encoder, device: str, cap: int) -> int:
    divided = divide(encoder, config.trainable_blocks)
    divided.tail.checkpointing = config.checkpointing
    return largest_batch(
        divided.tail,
        _one_image(encoder, divided.trunk),
        device=device,
        cap=cap,
        others=config.inner_folds - 1,
    )


def largest_batch(tail: Tail, one: torch.Tensor, *, device: str, cap: int, others: int) -> int:
    """Largest power of two up to ``cap`` whose step fits beside the weights of ``others`` folds.

    Args:
        one: a black image (1, ...) as the tail takes it.
    """
    size = SMALLEST
    while size < cap and _fits(tail, one.expand(2 * size, *one.shape[1:]), device, others):
        size *= 2
    return size


def _fits(tail: Tail, images: torch.Tensor, device: str, others: int) -> bool:
    try:
        _step(tail, images, torch.device(device), others)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    release()
    return fits


def _step(tail: Tail, images: torch.Tensor, device: torch.device, others: int) -> None:
    network = deepcopy(tail).to(device).train()
    weights = sum(parameter.numel() for parameter in network.parameters())
    # Weights, gradients and the two moments of Adam, of every fold that trains beside this one.
    beside = torch.empty(others * 4 * weights, device=device)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)
    with Precision.of(device).products():
        pooled, _ = network(images.to(device))
    torch.autograd.backward(pooled.float().square().mean())
    optimiser.step()
    del beside


def _one_image(encoder: Encoder, trunk: Encoder | None) -> torch.Tensor:
    side = encoder.image_size
    if trunk is None:
        return torch.zeros((1, side, side, 3), dtype=torch.uint8)
    return torch.zeros((1, trunk.tokens, trunk.token_dim), dtype=torch.float16)


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above ``number``; 1 for less."""
    return 1 << max(0, number.bit_length() - 1)
