"""Augmented views of an image, which depend only on the image's content and the view's number.

A view depends on no label, no fold and no other row, so views may be computed once, kept, and
shared by all folds. The training loop decides in which view a row is drawn. Scored rows are read in
view 0 only, the image itself, unless test-time augmentation averages over light views as well
(``scoring_views``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

STRENGTHS = ("light", "strong")
"""Strengths of views, the lightest first."""
STYLES = ("albumentations", "torchvision")
"""Sets of transforms, one file each, with a setting for each strength."""


@dataclass(frozen=True)
class Views:
    """Views to make of every image.

    Attributes:
        numbers: numbers of the views, with 0 among them, in order.
        style: set of transforms that makes the others, one of ``STYLES``.

    Raises:
        ValueError: 0 is not among the numbers, or a number is negative.
    """

    numbers: tuple[int, ...] = (0,)
    style: str = STYLES[0]

    def __post_init__(self) -> None:
        if 0 not in self.numbers or min(self.numbers) < 0:
            raise ValueError(f"a row has view 0 and none below it: found {self.numbers}")


def view_number(strength: str, nth: int) -> int:
    """Return the number, from 1, of the ``nth`` view (from 1) of a strength.

    The strengths alternate, so that a view keeps its number whatever the count of views.

    Example:
        >>> [view_number(strength, nth) for nth in (1, 2) for strength in ("light", "strong")]
        [1, 2, 3, 4]
    """
    return (nth - 1) * len(STRENGTHS) + STRENGTHS.index(strength) + 1


def strength_of(view: int) -> str:
    """Return the strength of view number ``view``, which must not be 0."""
    return STRENGTHS[(view - 1) % len(STRENGTHS)]


def scoring_views(count: int) -> tuple[int, ...]:
    """Return the numbers of the scoring views: 0 and the first ``count`` light views.

    They do not depend on the strength that a trial draws for training, so all trials, folds and
    ensemble members score in the same way.
    """
    return (0, *(view_number(STRENGTHS[0], nth) for nth in range(1, count + 1)))


def view_of(image: NDArray[np.uint8], content: str, view: int, style: str) -> NDArray[np.uint8]:
    """Make one view of an image.

    Args:
        image: (h, w, 3) 8-bit image.
        content: SHA-256 of the image file.
        view: number of the view; 0 returns the image itself.
        style: one of ``STYLES``.

    Raises:
        ValueError: an unknown style.
    """
    if view == 0:
        return image
    made: NDArray[np.uint8] = _import_style(style).augment(
        image, seed=view_seed(content, view), strength=strength_of(view)
    )
    return made


def view_seed(content: str, view: int) -> int:
    """Return the seed, below 2**32, of one view of the image file with hash ``content``."""
    drawn = hashlib.sha256(f"view {view} of {content}".encode()).digest()
    return int.from_bytes(drawn[:4], "big")


def augmentation_key(style: str) -> str:
    """Return the SHA-256 of the transforms with their settings and library versions."""
    return hashlib.sha256(f"{style} {_import_style(style).settings()}".encode()).hexdigest()


def _import_style(style: str) -> ModuleType:
    """Import the module of a style; it is loaded here, since many runs augment nothing."""
    if style == "albumentations":
        from outerfold.pipelines.augmentation import albumentations_views

        return albumentations_views
    if style == "torchvision":
        from outerfold.pipelines.augmentation import torchvision_views

        return torchvision_views
    raise ValueError(f"unknown augmentation {style!r}; known are {STYLES}")
