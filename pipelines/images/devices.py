"""Encoding on several devices: every GPU of a machine takes the next batch when it is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from outerfold.pipelines.encoders._base import Encoded, Encoder, device_kind
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.images.ahead import results_ahead


def encoding_devices(encoder: Encoder, device: str) -> tuple[str, ...]:
    """Devices that encode for a run on ``device``: this one, and all GPUs of the same model.

    GPUs of two models may round differently, and an image's values must not depend on the GPU.

    Args:
        encoder: the encoder with its backend; one that is no single network has one device.
        device: device of the run, such as ``cpu`` or ``cuda:0``.
    """
    if device_kind(encoder, device) != "cuda" or not isinstance(encoder, FrozenEncoder):
        return (device,)
    names = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
    own = torch.cuda.get_device_name(device)
    alike = [f"cuda:{number}" for number, name in enumerate(names) if name == own]
    return tuple(alike) if device in ("cuda", *alike) else (device,)


def encode_batches(
    encoder: Encoder, devices: Sequence[str], batches: Iterable[NDArray[np.uint8]]
) -> Iterator[Encoded]:
    """Encode batches and yield their values in order.

    Args:
        encoder: the encoder; it is moved to the first device, and copied to the others.
        devices: devices that encode, each one batch at a time.
        batches: 8-bit images (n, s, s, 3) of each batch.
    """
    first = encoder.to(devices[0])
    if len(devices) == 1 or not isinstance(first, FrozenEncoder):
        yield from map(first.encode, batches)
        return
    idle: SimpleQueue[Encoder] = SimpleQueue()
    for each in (first, *(_copy_to(first, device) for device in devices[1:])):
        idle.put(each)

    def encode(images: NDArray[np.uint8]) -> Encoded:
        free = idle.get()
        try:
            return free.encode(images)
        finally:
            idle.put(free)

    with ThreadPoolExecutor(len(devices)) as pool:
        yield from results_ahead(
            lambda images: pool.submit(encode, images), batches, len(devices) + 1
        )


def _copy_to(encoder: FrozenEncoder, device: str) -> Encoder:
    return replace(encoder, trunk=deepcopy(encoder.trunk)).to(device)
