"""Grey values and colours of any depth to 8 bits, and the errors that decoders raise."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass


ByteArray = NDArray[np.uint8]


WINDOW = (0.1, 99.9)
"""Percentiles that deeper-than-8-bit grey values are stretched between; the rest is clipped.

Minimum and maximum would let one hot pixel or a burned-in marker darken the whole breast.
"""


DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError)
"""What Pillow raises for files that are no images, empty, cut short or damaged."""


def window(values: NDArray[np.float64], among: NDArray[np.float64] | None = None) -> ByteArray:
    """Deep grey values (h, w) as 0..255 between the ``WINDOW`` percentiles.

    Args:
        among: the values that the percentiles are of, all of ``values`` when None; a constant
            image becomes 0.
    """
    counted = values if among is None else among
    low, high = np.percentile(counted, WINDOW)
    if high <= low:
        low, high = float(counted.min()), float(counted.max())
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
    return np.asarray(np.round(scaled * 255), dtype=np.uint8)
