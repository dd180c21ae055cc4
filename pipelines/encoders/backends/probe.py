"""Sixteen fixed photographs on which two backends are compared, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outerfold.pipelines.encoders.frozen import Values

ALIKE = 1e-3
"""Largest difference between two backends, in standard deviations over all values of the 16 images,
up to which one may stand for the other."""
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
ROWS, COLUMNS, SIDE = 2, 4, 213
"""Crops of each photograph of 427 x 640 pixels: their grid, and the side of one in pixels."""


@dataclass(frozen=True)
class Verdict:
    """Result of the comparison of a backend with torch.

    Attributes:
        alike: whether the values agree within ``ALIKE``.
        difference: largest difference over the standard deviation, the larger of pooled vectors
            and tokens; None where the backend cannot compute the encoder at all.
        reason: why the values are not alike, as the end of a sentence; empty where they are.
    """

    alike: bool
    difference: float | None
    reason: str = ""


def probe_images(side: int) -> NDArray[np.uint8]:
    """Return the 16 images (16, side, side, 3): crops of the two photographs in scikit-learn."""
    found = find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    crops = []
    for name in PHOTOGRAPHS:
        with Image.open(Path(found.origin).parent / "datasets" / "images" / name) as file:
            picture = file.convert("RGB")
        for top in np.linspace(0, picture.height - SIDE, ROWS).astype(int).tolist():
            for left in np.linspace(0, picture.width - SIDE, COLUMNS).astype(int).tolist():
                crop = picture.crop((left, top, left + SIDE, top + SIDE))
                crops.append(np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(crops)


def compare(expected: Values, found: Values) -> Verdict:
    """Compare the values of the same images by torch, ``expected``, and by another backend."""
    shares = [_largest_share(one, other) for one, other in zip(expected, found, strict=True)]
    worst = max(shares)
    if worst <= ALIKE:
        return Verdict(True, worst)
    return Verdict(False, worst, f"its values differ by {worst:.2g} of their standard deviation")


def _largest_share(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    apart = np.abs(expected.astype(float) - found).max()
    share = float(apart / max(float(expected.std()), 1e-12))
    return share if np.isfinite(share) else 1e9
