"""Number format in which a GPU computes an encoder: 16-bit floats where a measurement allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from outerfold.pipelines.encoders._base import FLOAT32, Encoder

BFLOAT16, FLOAT16 = "bfloat16", "float16"
PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16)
DTYPES = {BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}
MOST_LOSS = 0.002
"""ROC-AUC of a linear probe that half precision may cost: the 95 % upper bound of the loss."""


@dataclass(frozen=True)
class Measured:
    """Loss of a linear probe on embeddings in half precision, paired over patients.

    Attributes:
        encoder: name of the encoder.
        weights_sha256: SHA-256 of its weights; other weights may lose more.
        precision: ``bfloat16`` or ``float16``.
        loss: ROC-AUC in float32 minus ROC-AUC in this precision.
        bound: one-sided 95 % upper bound of the loss.
    """

    encoder: str
    weights_sha256: str
    precision: str
    loss: float
    bound: float


_LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEASURED: tuple[Measured, ...] = (
    Measured("bundled:efficientnet_lite0", _LITE0, "bfloat16", 0.004862, 0.016511),
    Measured("bundled:efficientnet_lite0", _LITE0, "float16", 0.000821, 0.00246),
)
"""Encoders measured by ``benchmarks/models/half_precision.py``; neither of these may be computed in
half precision. The weights of others were not at hand."""


@dataclass(frozen=True)
class PrecisionChoice:
    """Precision of the encoders of a run.

    Attributes:
        precision: one of ``PRECISIONS``.
        reason: why it is this one, as the end of a sentence; empty on a CPU.
    """

    precision: str
    reason: str


def choose_precision(
    encoders: Sequence[Encoder],
    device: str,
    *,
    bfloat16: bool | None = None,
    measured: Sequence[Measured] = MEASURED,
) -> PrecisionChoice:
    """Choose half precision on a GPU where it was measured to lose nothing, else float32.

    Args:
        encoders: encoders of a run, with the trunks of those that are cut.
        device: device that encodes.
        bfloat16: whether the GPU computes bfloat16; None to ask it.
        measured: the measurements.
    """
    if not device.startswith("cuda"):
        return PrecisionChoice(FLOAT32, "")
    wide = has_bfloat16(device) if bfloat16 is None else bfloat16
    reason = ""
    for precision in (BFLOAT16, FLOAT16) if wide else (FLOAT16,):
        unmeasured = find_unmeasured(encoders, precision, measured)
        if not unmeasured:
            worst = max(
                found.bound for one in encoders for found in _find(measured, one, precision)
            )
            return PrecisionChoice(
                precision,
                f"a linear probe loses at most {worst:.1g} of ROC-AUC by it, measured beforehand",
            )
        reason = reason or (
            f"half precision was not shown to keep a linear probe's ROC-AUC for {unmeasured[0]}"
        )
    return PrecisionChoice(FLOAT32, reason)


def find_unmeasured(
    encoders: Sequence[Encoder], precision: str, measured: Sequence[Measured] = MEASURED
) -> list[str]:
    """Names of the encoders for which no measurement allows a half precision."""
    return [one.name for one in encoders if not _find(measured, one, precision)]


def has_bfloat16(device: str) -> bool:
    """Whether a GPU computes bfloat16 itself; False where there is none."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def _find(measured: Sequence[Measured], encoder: Encoder, precision: str) -> list[Measured]:
    """Measurement that allows a precision for an encoder with its weights, if there is one."""
    return [
        one
        for one in measured
        if (one.encoder, one.weights_sha256) == (encoder.name, encoder.weights_sha256)
        and one.precision == precision
        and one.bound < MOST_LOSS
    ]
