"""Random changes of whole images while they train, drawn anew each time they are seen."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

ROTATION = 10.0
"""Degrees, at strength 1."""


def vary(images: Tensor, *, strength: float, seed: int) -> Tensor:
    """Augmented copies of 8-bit images (n, s, s, 3) on their own device.

    Each image is cropped to between 70 and 100 % of its area, flipped left to right in half of
    the cases, rotated by up to 10 degrees, changed in brightness, contrast, saturation and hue,
    and in a quarter of the cases loses a rectangle.

    Args:
        strength: 0 leaves the images alone, 1 is as above, between them the ranges shrink.
        seed: the same seed, the same images, on the same kind of device.
    """
    if strength == 0.0:
        return images
    changes = _changes(round(strength, 6), images.shape[1])
    # torchvision draws from torch's global stream on the CPU; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        varied = [changes(image) for image in images.permute(0, 3, 1, 2)]
    return torch.stack(varied).permute(0, 2, 3, 1)


@lru_cache(maxsize=4)
def _changes(strength: float, side: int) -> nn.Module:
    from torchvision.transforms import v2  # a second to load, which no frozen encoder needs

    colour = 0.2 * strength
    changes: nn.Module = v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=(1 - 0.3 * strength, 1.0), ratio=(0.9, 1.1)),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomRotation(ROTATION * strength, v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(colour, colour, colour, 0.02 * strength),
            v2.RandomErasing(p=0.25 * strength, scale=(0.02, 0.02 + 0.1 * strength)),
        ]
    )
    return changes
