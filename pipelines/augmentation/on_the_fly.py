"""Random changes of whole images during training, drawn again each time an image is read."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

ROTATION = 10.0
"""Largest rotation at strength 1, in degrees."""


def vary(images: Tensor, *, strength: float, seed: int) -> Tensor:
    """Return augmented copies of 8-bit images (n, s, s, 3) on the device of the images.

    At strength 1 each image is cropped to 70 to 100 % of its area, flipped left to right in half of
    the cases, rotated by up to 10 degrees, and changed in brightness, contrast, saturation and hue;
    in a quarter of the cases a rectangle is erased.

    Args:
        images: 8-bit images.
        strength: 0 changes nothing, and 1 changes as above; in between the ranges shrink.
        seed: seed of the changes; it gives the same images on the same kind of device.
    """
    if strength == 0.0:
        return images
    changes = _make_changes(round(strength, 6), images.shape[1])
    # torchvision draws from torch's global stream on the CPU; its state is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        varied = [changes(image) for image in images.permute(0, 3, 1, 2)]
    return torch.stack(varied).permute(0, 2, 3, 1)


@lru_cache(maxsize=4)
def _make_changes(strength: float, side: int) -> nn.Module:
    from torchvision.transforms import v2  # takes a second to load; frozen encoders do not need it

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
