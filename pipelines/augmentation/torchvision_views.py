"""Augmentation of the multimodal task, for every training image, by torchvision v2.

The transform classes of torchvision draw from torch's global generator. The threads that make views
would share it, so a view would depend on the order of the threads. Here the parameters are drawn
from a separate generator for each view, and torchvision only applies them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as f

ASPECT = 0.1
"""Share by which a crop may be wider or taller than the image."""


@dataclass(frozen=True)
class Strength:
    """Largest changes of an image.

    Attributes:
        kept: smallest share of the area that a random crop keeps.
        degrees: degrees of rotation.
        jitter: share by which brightness, contrast and saturation change.
        hue: share of the colour circle by which hue changes; grey stays grey.
        erased: probability that a rectangle is made black.
        largest: largest share of the area of that rectangle.
    """

    kept: float
    degrees: float
    jitter: float
    hue: float
    erased: float
    largest: float


STRENGTHS = {
    "light": Strength(kept=0.8, degrees=5.0, jitter=0.1, hue=0.01, erased=0.25, largest=0.1),
    "strong": Strength(kept=0.6, degrees=10.0, jitter=0.2, hue=0.02, erased=0.5, largest=0.2),
}


def augment(image: NDArray[np.uint8], *, seed: int, strength: str) -> NDArray[np.uint8]:
    """Return an augmented copy (h, w, 3) of an 8-bit image (h, w, 3).

    The same seed gives the same pixels. The changes are a random crop scaled back to the image's
    size, each flip with probability 0.5, a rotation on black, colour jitter in a random order, and
    random erasing, up to the limits of ``STRENGTHS``.

    Args:
        image: 8-bit image.
        seed: seed of the changes.
        strength: key of ``STRENGTHS``.
    """
    most, rng = STRENGTHS[strength], np.random.default_rng(seed)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # (3, h, w)
    grey = bool((pixels == pixels[:1]).all())  # no change makes a grey image coloured
    pixels = _flip(_crop(pixels, most, rng), most, rng)
    pixels = _jitter(_rotate(pixels, most, rng, grey=grey), most, rng, grey=grey)
    pixels = _erase(pixels, most, rng)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def settings() -> str:
    """Return everything on which a view depends besides image and seed, as part of a cache key."""
    strengths = {name: asdict(strength) for name, strength in STRENGTHS.items()}
    used = [f"{name} {version(name).split('+')[0]}" for name in ("torch", "torchvision", "numpy")]
    return f"{json.dumps(strengths, sort_keys=True)} aspect {ASPECT} {' '.join(used)}"


def _crop(pixels: Tensor, most: Strength, rng: np.random.Generator) -> Tensor:
    height, width = pixels.shape[1:]
    area, aspect = rng.uniform(most.kept, 1), np.exp(rng.uniform(-1, 1) * np.log1p(ASPECT))
    rows = min(height, max(1, round(height * float(np.sqrt(area / aspect)))))
    columns = min(width, max(1, round(width * float(np.sqrt(area * aspect)))))
    top, left = _draw_position(height - rows, rng), _draw_position(width - columns, rng)
    size = [height, width]
    cut: Tensor = f.resized_crop(pixels, top, left, rows, columns, size, antialias=True)
    return cut


def _flip(pixels: Tensor, most: Strength, rng: np.random.Generator) -> Tensor:
    across, down = rng.random(2) < 0.5
    pixels = f.horizontal_flip(pixels) if across else pixels
    return f.vertical_flip(pixels) if down else pixels


def _rotate(
    pixels: Tensor, most: Strength, rng: np.random.Generator, *, grey: bool = False
) -> Tensor:
    angle = float(rng.uniform(-most.degrees, most.degrees))
    seen = pixels[:1] if grey else pixels  # equal channels stay equal; one takes 1.7 ms, not 2.9
    turned: Tensor = f.rotate(seen, angle, InterpolationMode.BILINEAR, fill=[0.0])
    return turned.expand(len(pixels), -1, -1)


def _jitter(
    pixels: Tensor, most: Strength, rng: np.random.Generator, *, grey: bool = False
) -> Tensor:
    """Change brightness, contrast, saturation and hue in a random order.

    Hue leaves each of the 256 grey levels as it is and takes 4 ms, so grey images skip it. They do
    not skip saturation, which lowers some levels by 1.
    """
    changes: list[Callable[[Tensor, float], Tensor]] = [
        f.adjust_brightness,
        f.adjust_contrast,
        f.adjust_saturation,
        f.adjust_hue,
    ]
    factors = [
        *(1 + rng.uniform(-most.jitter, most.jitter, 3)),
        rng.uniform(-most.hue, most.hue),
    ]
    for which in rng.permutation(len(changes)).tolist():
        if grey and changes[which] is f.adjust_hue:
            continue
        pixels = changes[which](pixels, float(factors[which]))
    return pixels


def _erase(pixels: Tensor, most: Strength, rng: np.random.Generator) -> Tensor:
    height, width = pixels.shape[1:]
    happens = rng.random() < most.erased
    share, aspect = rng.uniform(0.02, most.largest), np.exp(rng.uniform(-1, 1))
    rows = min(height, max(1, round(height * float(np.sqrt(share / aspect)))))
    columns = min(width, max(1, round(width * float(np.sqrt(share * aspect)))))
    top, left = _draw_position(height - rows, rng), _draw_position(width - columns, rng)
    if not happens:
        return pixels
    black = torch.zeros(3, 1, 1, dtype=pixels.dtype)
    erased: Tensor = f.erase(pixels, top, left, rows, columns, v=black)
    return erased


def _draw_position(room: int, rng: np.random.Generator) -> int:
    return int(rng.integers(0, room + 1))
