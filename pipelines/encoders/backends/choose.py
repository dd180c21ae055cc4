"""Choice of the backend of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outerfold.pipelines.encoders._base import FLOAT32, Encoder
from outerfold.pipelines.encoders.backends.openvino_backend import OpenVinoBackend
from outerfold.pipelines.encoders.backends.probe import Verdict, compare, probe_images
from outerfold.pipelines.encoders.backends.torch_backend import TorchBackend
from outerfold.pipelines.encoders.frozen import Backend, FrozenEncoder
from outerfold.storage.records import DataError

OPENVINO, TORCH = BACKENDS = ("openvino", "torch")


@dataclass(frozen=True)
class Choice:
    """Backend of the encoders of a run.

    Attributes:
        backend: one of ``BACKENDS``.
        difference: largest difference between OpenVINO and torch on 16 photographs, in standard
            deviations; None where OpenVINO is not the backend.
        reason: why torch is the backend, as the end of a sentence; empty for OpenVINO.
    """

    backend: str
    difference: float | None
    reason: str


def choose_backend(encoders: Sequence[Encoder], *, cache: Path, device: str) -> Choice:
    """Choose OpenVINO where it gives the values of all ``encoders`` on this CPU, else torch.

    Args:
        encoders: encoders of a run, with the trunks of those that are cut.
        cache: folder that keeps converted encoders.
        device: device of the run; a GPU computes with torch.
    """
    if not device.startswith("cpu"):
        return Choice(TORCH, None, f"OpenVINO computes on the CPU, and {device} is at hand")
    worst = 0.0
    for encoder in encoders:
        found = check_openvino(encoder, cache)
        if not found.alike:
            return Choice(TORCH, None, f"OpenVINO does not take {encoder.name}: {found.reason}")
        worst = max(worst, found.difference or 0.0)
    return Choice(OPENVINO, worst, "")


def check_openvino(encoder: Encoder, cache: Path) -> Verdict:
    """Compare OpenVINO with torch for an encoder; see ``OpenVinoBackend.verdict``."""
    if not isinstance(encoder, FrozenEncoder):
        return Verdict(False, None, "it is not a single network")
    backend = OpenVinoBackend(cache)
    return backend.verdict(replace(encoder, computed_by=backend))


def largest_difference(
    encoders: Sequence[Encoder], cache: Path, device: str = "cpu"
) -> float | None:
    """Largest difference from torch in float32, in standard deviations; None where that is used.

    Args:
        encoders: the networks of an encoder, with their backend.
        cache: folder that keeps converted encoders.
        device: device on which half precision is compared.
    """
    found = [check_openvino(one, cache).difference for one in encoders if one.backend == OPENVINO]
    found += [_half_difference(one, device) for one in encoders if one.precision != FLOAT32]
    return max((share for share in found if share is not None), default=None)


def _half_difference(encoder: Encoder, device: str) -> float | None:
    assert isinstance(encoder, FrozenEncoder)
    moved, images = encoder.to(device), probe_images(encoder.image_size)
    assert isinstance(moved, FrozenEncoder)
    full = replace(moved, computed_by=TorchBackend()).encode(images)
    half = moved.encode(images)
    return compare(
        (full.pooled, full.tokens.astype(np.float32)), (half.pooled, half.tokens.astype(np.float32))
    ).difference


def with_backend(encoder: Encoder, name: str, cache: Path, precision: str = FLOAT32) -> Encoder:
    """Return the encoder with its backend.

    Args:
        encoder: encoder as its family builds it.
        name: one of ``BACKENDS``; empty for the trunk as it is, in padded batches of 16, which is
            how runs without a named backend encode.
        cache: folder that keeps converted encoders.
        precision: one of ``PRECISIONS``; torch alone has others than float32.

    Raises:
        DataError: the backend is absent, or does not compute this encoder.
    """
    if not name:
        return encoder
    backend: Backend = (
        TorchBackend(precision=precision) if name == TORCH else OpenVinoBackend(cache)
    )
    if not isinstance(encoder, FrozenEncoder):
        raise DataError(f"--encoder-backend {name}: {encoder.name} is not a single network")
    made = replace(encoder, computed_by=backend)
    if name == OPENVINO:
        found = OpenVinoBackend(cache).verdict(made)
        if not found.alike:
            raise DataError(
                f"--encoder-backend {name}: {encoder.name} cannot be computed by OpenVINO here, "
                f"since {found.reason}; install what is missing, or use --encoder-backend torch in "
                "a new run"
            )
    return made
