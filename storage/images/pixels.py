"""Conversion of deep grey values to 8 bits, and the errors that image decoders raise."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.records import ByteArray

WINDOW = (0.1, 99.9)
"""Percentiles of grey values of more than 8 bits that become 0 and 255; values outside are clipped.

With minimum and maximum instead, one hot pixel or a burned-in marker would darken the whole breast.
"""


DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError)
"""Errors that Pillow raises for files that are no images, empty, truncated or damaged."""


def window(values: NDArray[np.float64], among: NDArray[np.float64] | None = None) -> ByteArray:
    """Grey values (h, w) of any depth, stretched to 0..255 between the ``WINDOW`` percentiles.

    Where both percentiles are equal, minimum and maximum are used; a constant image becomes 0.

    Args:
        values: (h, w) grey values.
        among: values from which the percentiles are computed; None takes all of ``values``.
    """
    counted = values if among is None else among
    low, high = np.percentile(counted, WINDOW)
    if high <= low:
        low, high = float(counted.min()), float(counted.max())
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
    return np.asarray(np.round(scaled * 255), dtype=np.uint8)
