"""Choices for `--encoder-backend auto` and `--encoder-precision auto`.

They are the library that computes the frozen encoders of a run, and its number format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from outerfold.pipelines.encoders._base import FLOAT32, Encoder
from outerfold.pipelines.encoders.backends.choose import TORCH, choose_backend, with_backend
from outerfold.pipelines.encoders.backends.precision import (
    BFLOAT16,
    FLOAT16,
    MEASURED,
    Measured,
    choose_precision,
    find_unmeasured,
    has_bfloat16,
)
from outerfold.pipelines.encoders.divide import frozen_parts
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import AUTO, StudyConfig

HALF = (BFLOAT16, FLOAT16)


def resolve_encoder_backend(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    *,
    cache: Path,
    device: str,
) -> tuple[StudyConfig, str]:
    """Configuration with a backend in place of ``auto``, and a phrase on why it is this one.

    The phrase is empty if nothing was chosen. A started run keeps its backend, so that its
    embeddings stay the same on another machine; one that began before backends had names keeps
    none.

    Args:
        config: options of the run.
        folder: directory of the run.
        encoders: encoders of the run by name.
        cache: folder that keeps converted encoders.
        device: device that encodes, such as ``cuda:0`` or ``cpu``.
    """
    if config.encoder_backend != AUTO:
        return config, ""
    if folder.started():
        kept = folder.read_config().get("encoder_backend", "")
        return replace(config, encoder_backend=kept), ""
    chosen = choose_backend(_frozen_parts(config, encoders), cache=cache, device=device)
    if chosen.difference is None:
        why = chosen.reason
    else:
        why = f"on 16 photographs it differs from torch by {chosen.difference:.1g} of the spread"
    found = replace(config, encoder_backend=chosen.backend)
    return found, f"encoder backend {chosen.backend}: {why}"


def resolve_encoder_precision(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    *,
    device: str,
    measured: Sequence[Measured] = MEASURED,
) -> tuple[StudyConfig, str]:
    """Configuration with a precision in place of ``auto``, and a phrase on why it is this one.

    The phrase is empty if nothing was chosen. A started run keeps its precision; one that began
    before precisions had names keeps none, which is float32.

    Args:
        config: options of the run, with a settled backend.
        folder: directory of the run.
        encoders: encoders of the run by name.
        device: device that encodes, such as ``cuda:0`` or ``cpu``.
        measured: measurements that allow half precision.

    Raises:
        DataError: the precision cannot be computed on this device, or was not measured.
    """
    if folder.started():
        if config.encoder_precision == AUTO:
            kept = folder.read_config().get("encoder_precision", "")
            config = replace(config, encoder_precision=kept)
        _refuse_half(config, f"--run {folder.path}: encodes in", device)
        return config, ""
    if config.encoder_precision != AUTO:
        _refuse_half(config, "--encoder-precision", device)
        _refuse_unmeasured(config, _frozen_parts(config, encoders), measured)
        return config, ""
    if config.encoder_backend != TORCH:
        return replace(config, encoder_precision=FLOAT32), ""
    chosen = choose_precision(_frozen_parts(config, encoders), device, measured=measured)
    found = replace(config, encoder_precision=chosen.precision)
    return found, chosen.reason and f"encoder precision {chosen.precision}: {chosen.reason}"


def _refuse_unmeasured(
    config: StudyConfig, encoders: Sequence[Encoder], measured: Sequence[Measured]
) -> None:
    """Refuse a half precision that a user names for an encoder that may lose by it."""
    wanted = config.encoder_precision
    names = find_unmeasured(encoders, wanted, measured) if wanted in HALF else []
    if names:
        raise DataError(
            f"--encoder-precision {wanted}: it was not shown to keep a linear probe's ROC-AUC for "
            f"{names[0]}; use --encoder-precision auto, or measure it with "
            "benchmarks/models/half_precision.py"
        )


def _refuse_half(config: StudyConfig, words: str, device: str) -> None:
    """Refuse half precision where no GPU, or another library than torch, would compute it.

    Args:
        config: options of the run.
        words: words before the precision in the message.
        device: device that encodes.
    """
    wanted = config.encoder_precision
    if wanted not in HALF:
        return
    what = f"{words} {wanted}"
    if not device.startswith("cuda"):
        raise DataError(
            f"{what}, which a GPU computes, and there is none that PyTorch can use; go on where "
            "there is one, or begin a new run with --encoder-precision float32"
        )
    if wanted == BFLOAT16 and torch.cuda.is_available() and not has_bfloat16(device):
        raise DataError(
            f"{what}, and {device} computes no bfloat16; go on where a GPU does, or begin a new "
            "run with --encoder-precision float32"
        )
    if config.encoder_backend != TORCH:
        raise DataError(
            f"{what}, and --encoder-backend {config.encoder_backend} computes float32 alone; "
            "leave one of the two out"
        )


def _frozen_parts(config: StudyConfig, encoders: Mapping[str, Encoder]) -> list[Encoder]:
    """Networks that encode the images of a run."""
    return [
        part
        for name in config.encoders
        for part in frozen_parts(encoders[name], config.trainable_blocks)
    ]


def attach_backend(
    config: StudyConfig, encoders: Mapping[str, Encoder], cache: Path
) -> dict[str, Encoder]:
    """Encoders of a run by name, with the backend and precision of its settled configuration.

    Args:
        config: options of the run, without ``auto``.
        encoders: encoders of the run by name.
        cache: folder that keeps converted encoders.

    Raises:
        DataError: the backend is absent here, or does not compute an encoder as torch does.
    """
    return {
        name: with_backend(
            encoder, config.encoder_backend, cache, config.encoder_precision or FLOAT32
        )
        for name, encoder in encoders.items()
    }
