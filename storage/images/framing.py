"""From an image of any shape to the square an encoder takes: what is cut off, what is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.errors import DataError, unknown
from outerfold.storage.images.breast_crop import breast_box

ByteArray = NDArray[np.uint8]

FITS = ("pad", "stretch")
CROPS = ("none", "breast")

FRAMING = 1
"""Raised when this file or ``storage/images/breast_crop.py`` gives other pixels for an image."""


@dataclass(frozen=True)
class Framing:
    """How an image comes to fill a square.

    Attributes:
        fit: ``pad`` keeps the aspect ratio and fills what is left with black, half on either side;
            ``stretch`` squeezes or widens the image.
        crop: ``breast`` first cuts away the empty background of a mammogram, see ``breast_box``;
            ``none`` keeps every pixel.
    """

    fit: str = "pad"
    crop: str = "none"

    def __post_init__(self) -> None:
        for name, value, known in (("fit", self.fit, FITS), ("crop", self.crop, CROPS)):
            if value not in known:
                raise DataError(f"--{name}: {unknown('value', value, known)}")

    def key(self) -> dict[str, object]:
        """All that the pixels of a square depend on besides the decoded image and its side."""
        return {
            **asdict(self),
            "framing": FRAMING,
            "resize": "bicubic, antialiased",
            "pillow": version("pillow"),
        }

    def square(self, image: ByteArray, side: int) -> ByteArray:
        """An image (h, w, 3) as (side, side, 3)."""
        from PIL import Image

        if self.crop == "breast":
            top, bottom, left, right = breast_box(image)
            image = image[top:bottom, left:right]
        height, width = _sides(image.shape[0], image.shape[1], side, keep=self.fit == "pad")
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        square = np.zeros((side, side, 3), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = np.asarray(resized)
        return square


def _sides(height: int, width: int, side: int, *, keep: bool) -> tuple[int, int]:
    if not keep:
        return side, side
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


PADDED = Framing()
