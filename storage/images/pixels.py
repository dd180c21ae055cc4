"""Conversion of grey and colour values of any depth to 8 bits, and errors of image decoders."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.records import ByteArray, DataError

WINDOW = (0.1, 99.9)
"""Percentiles of grey values of more than 8 bits that become 0 and 255; values outside are clipped.

With minimum and maximum instead, one hot pixel or a burned-in marker would darken the whole breast.
"""

FEW_LEVELS = 32
"""Levels of 256 below which a picture has lost what its file shows, if the file holds more."""

MAX_PIXELS = 200_000_000
"""Pixels of one image at most; large mammograms have 30 million. ``--max-pixels`` lifts it."""

MAX_PIXELS_VARIABLE = "OUTERFOLD_MAX_PIXELS"
"""Environment variable that hands ``--max-pixels`` to all processes that decode images."""

DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    LookupError,
    TypeError,
    ArithmeticError,
)
"""Errors that Pillow raises for files that are no images, empty, truncated or damaged."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels of one file.

    Attributes:
        pixels: (h, w) or (h, w, 3), 0..255.
        crushed: whether they have fewer than 32 levels where the values of the file have more.
    """

    pixels: ByteArray
    crushed: bool = False


def window(values: NDArray[Any], among: NDArray[Any] | None = None) -> ByteArray:
    """Values of any depth and shape, stretched to 0..255 between the ``WINDOW`` percentiles.

    Where both percentiles are equal, minimum and maximum are used; a constant image becomes 0. NaN
    and infinite values become 0. Where fewer than ``FEW_LEVELS`` levels would be left because the
    lowest or highest value lies far apart, as a sentinel such as -9999 does, the limits are those
    of all other values.

    Args:
        values: (h, w) grey or (h, w, 3) colour values; channels share the limits.
        among: values from which the percentiles are computed; None takes all of ``values``.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    counted = values if among is None else np.asarray(among, dtype=np.float64)
    counted = counted[np.isfinite(counted)]
    if not counted.size:
        return np.zeros(values.shape, dtype=np.uint8)
    values = np.where(finite, values, counted.min())
    shown = _stretch(values, counted)
    if count_levels(shown) < FEW_LEVELS:
        shown = _without_sentinels(values, counted, shown)
    return np.asarray(np.where(finite, shown, 0), dtype=np.uint8)


def _stretch(values: NDArray[np.float64], counted: NDArray[np.float64]) -> ByteArray:
    low, high = np.percentile(counted, WINDOW)
    if high <= low:
        low, high = float(counted.min()), float(counted.max())
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
    return np.asarray(np.round(scaled * 255), dtype=np.uint8)


def _without_sentinels(
    values: NDArray[np.float64], counted: NDArray[np.float64], shown: ByteArray
) -> ByteArray:
    """The picture with the limits of all values but those that lie apart; else as it was shown."""
    levels = np.unique(counted)
    if len(levels) <= FEW_LEVELS:
        return shown
    apart = 256 / FEW_LEVELS - 1  # gaps of this many ranges of the rest leave it too few levels
    low, high = 0, len(levels) - 1
    if levels[1] - levels[0] > apart * (levels[high] - levels[1]):
        low = 1
    if levels[high] - levels[high - 1] > apart * (levels[high - 1] - levels[low]):
        high -= 1
    if low == 0 and levels[1] - levels[0] > apart * (levels[high] - levels[1]):
        low = 1
    kept = counted[(counted >= levels[low]) & (counted <= levels[high])]
    return _stretch(values, kept) if len(kept) < len(counted) else shown


def count_levels(shown: ByteArray) -> int:
    """Number of different values in 8-bit pixels of any shape, at most ``FEW_LEVELS``.

    A part of a large picture is enough where it has that many.
    """
    flat = shown.reshape(-1)
    for step in (max(1, flat.size // 100_000), 1):
        found = np.count_nonzero(np.bincount(flat[::step], minlength=256))
        if found >= FEW_LEVELS:
            break
    return min(int(found), FEW_LEVELS)


def is_crushed(shown: ByteArray, values: NDArray[Any]) -> bool:
    """Whether 8-bit pixels have fewer than ``FEW_LEVELS`` levels, and the file's values more."""
    few = count_levels(shown)
    return few < FEW_LEVELS and len(np.unique(values)) > few


def limit_pixels(most: int | None) -> None:
    """Set the limit of ``require_size`` for this process and those that it starts; None resets it.

    Raises:
        DataError: the limit is below 1.
    """
    if most is not None and most < 1:
        raise DataError(f"--max-pixels must be at least 1, found {most}")
    os.environ[MAX_PIXELS_VARIABLE] = str(most or MAX_PIXELS)


def require_size(path: Path, pixels: int) -> None:
    """Check the number of pixels that a file's header gives, before it is decoded.

    Raises:
        DataError: there are more than ``MAX_PIXELS``, or than ``OUTERFOLD_MAX_PIXELS`` says.
    """
    most = int(os.environ.get(MAX_PIXELS_VARIABLE) or MAX_PIXELS)
    if pixels > most:
        raise DataError(
            f"{path}: its header gives {pixels:,} pixels, more than the limit of {most:,}; if that "
            f"is meant, add --max-pixels {pixels}, else replace or remove the file"
        )
