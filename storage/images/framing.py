"""Conversion of an image of any shape to the square that an encoder takes: crop and padding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np

from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.images.breast_crop import breast_box
from outerfold.storage.records import ByteArray

FITS = ("pad", "stretch")
CROPS = ("none", "breast")

FRAMING = 1
"""Version of the framing; add 1 if a change of this file or of ``storage/images/breast_crop.py``
changes the pixels of any image."""


@dataclass(frozen=True)
class Framing:
    """Settings that turn an image into a square.

    Attributes:
        fit: ``pad`` keeps the aspect ratio and fills the rest with black, half on each side;
            ``stretch`` changes the aspect ratio so that the image fills the square.
        crop: ``breast`` first cuts away the empty background of a mammogram, see ``breast_box``;
            ``none`` keeps every pixel.

    Raises:
        DataError: ``fit`` or ``crop`` has another value.
    """

    fit: str = "pad"
    crop: str = "none"

    def __post_init__(self) -> None:
        for name, value, known in (("fit", self.fit, FITS), ("crop", self.crop, CROPS)):
            if value not in known:
                raise DataError(f"--{name}: {unknown_name('value', value, known)}")

    def key(self) -> dict[str, object]:
        """Everything that the pixels of a square depend on, besides the decoded image and its side.

        The result is in JSON's types, for the key of a cache.
        """
        return {
            **asdict(self),
            "framing": FRAMING,
            "resize": "bicubic, antialiased",
            "pillow": version("pillow"),
        }

    def square(self, image: ByteArray, side: int) -> ByteArray:
        """The image (h, w, 3) as a square (side, side, 3), both 8-bit RGB."""
        from PIL import Image

        if self.crop == "breast":
            top, bottom, left, right = breast_box(image)
            image = image[top:bottom, left:right]
        height, width = _resized_shape(
            image.shape[0], image.shape[1], side, keep_ratio=self.fit == "pad"
        )
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        square = np.zeros((side, side, 3), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = np.asarray(resized)
        return square


def _resized_shape(height: int, width: int, side: int, *, keep_ratio: bool) -> tuple[int, int]:
    if not keep_ratio:
        return side, side
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


PADDED = Framing()
