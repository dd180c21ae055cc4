"""Where the breast lies in a mammogram: the largest bright component, found by Otsu's threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SMALL = 256
"""Longest side, in pixels, that the breast is looked for at; a box is then good to half a percent
of the image, which the margin covers."""
MARGIN = 0.02
"""Kept around the breast, of the image's longer side."""
EMPTY, ALMOST_ALL = 0.9, 0.95
"""An image is cropped only where this share of what would go is background, and where the breast
takes up less than this share of its width. The dark of an ultrasound lies below the tissue, that of
a mammogram beside the breast: of 2,131 ultrasounds three are cropped."""
BRIDGE = 7
"""Pixels of the small image: bright strips thinner than this, film edges above all, are cut off
the breast. Of 40 scanned films, four had an edge that reached from the breast across the image."""
DARK = 24
"""Grey of 255 up to which a pixel may be background: scanned film is 0 to 20 there, the dark
parts of an ultrasound 10 to 60."""


def breast_box(image: ByteArray) -> Box:
    """Rows and columns ``(top, bottom, left, right)`` of the breast in an image (h, w, 3).

    Works for a breast at either side. An image that fills its width, as an ultrasound does, one
    without a background and a constant one come back whole.
    """
    height, width = image.shape[:2]
    whole = (0, height, 0, width)
    grey, scale = _small(image)
    found = _largest(grey > otsu(grey))
    if found is None:
        return whole
    top, bottom, left, right = found
    outside = np.ones(grey.shape, dtype=bool)
    outside[top:bottom, left:right] = False
    if right - left > ALMOST_ALL * grey.shape[1] or (grey[outside] <= DARK).mean() < EMPTY:
        return whole
    margin = round(MARGIN * max(height, width))
    return (
        max(0, int(top / scale) - margin),
        min(height, int(np.ceil(bottom / scale)) + margin),
        max(0, int(left / scale) - margin),
        min(width, int(np.ceil(right / scale)) + margin),
    )


def otsu(grey: ByteArray) -> int:
    """The grey value above which lies the brighter of two classes; 255 for a constant image.

    Square roots of the grey values are parted, so that fat, which is dark, falls to the breast's
    side and not to the background's.

    Reference: Otsu (1979), A threshold selection method from gray-level histograms.
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    values = np.sqrt(np.arange(256))
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * values)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between = np.nan_to_num(between)
    return int(between.argmax()) if between.max() > 0 else 255


def _small(image: ByteArray) -> tuple[ByteArray, float]:
    """The image as grey of at most ``SMALL`` pixels a side, and by how much it was scaled."""
    from PIL import Image

    height, width = image.shape[:2]
    scale = min(1.0, SMALL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray(image).convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.uint8), scale


def _largest(bright: NDArray[np.bool_]) -> Box | None:
    """The box around the largest component, after thin bridges to labels and frames are cut."""
    from scipy import ndimage

    opened = ndimage.binary_opening(bright, np.ones((BRIDGE, BRIDGE)))
    parts, count = ndimage.label(opened)
    if not count:
        return None
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(parts)[largest - 1]
    return rows.start, rows.stop, columns.start, columns.stop
