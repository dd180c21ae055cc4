"""Augmented views of one image: chosen by its content and the view's number, by nothing else.

No label, no fold and no other row has a say in a view, so views may be computed once, kept, and
shared by every fold. Which rows are drawn in which view is the training loop's affair; rows that
score are only ever seen in view 0, the untouched image, unless test-time augmentation averages
over light views as well (``scoring_views``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

STRENGTHS = ("light", "strong")
STYLES = ("albumentations", "torchvision")
"""Sets of transforms, each in a file of its own, with a setting for each strength."""
TASK_STYLES = {"dbt": "albumentations", "multimodal": "torchvision"}
"""Which transforms augment each task's images."""


@dataclass(frozen=True)
class Views:
    """Which views there are to be of every image.

    Attributes:
        numbers: of the views, 0 among them, in order.
        style: which transforms make the others, one of ``STYLES``.
    """

    numbers: tuple[int, ...] = (0,)
    style: str = STYLES[0]

    def __post_init__(self) -> None:
        if 0 not in self.numbers or min(self.numbers) < 0:
            raise ValueError(f"a row has view 0 and none below it: found {self.numbers}")


def view_number(strength: str, nth: int) -> int:
    """The number, from 1, of the ``nth`` view (from 1) of a strength.

    Strengths take turns, so that a view keeps its number however many there are.
    """
    return (nth - 1) * len(STRENGTHS) + STRENGTHS.index(strength) + 1


def strength_of(view: int) -> str:
    """The strength of view number ``view``, which is not 0."""
    return STRENGTHS[(view - 1) % len(STRENGTHS)]


def scoring_views(count: int) -> tuple[int, ...]:
    """Numbers of the views that score: the image, and the first ``count`` of the lightest strength.

    Of that strength whatever a trial draws for training, so that all trials, folds and members of
    an ensemble score alike.
    """
    return (0, *(view_number(STRENGTHS[0], nth) for nth in range(1, count + 1)))


def view_of(image: NDArray[np.uint8], content: str, view: int, style: str) -> NDArray[np.uint8]:
    """View number ``view`` of the image whose file has the hash ``content``; 0 is the image."""
    if view == 0:
        return image
    made: NDArray[np.uint8] = _module(style).augment(
        image, seed=view_seed(content, view), strength=strength_of(view)
    )
    return made


def view_seed(content: str, view: int) -> int:
    """The seed, below 2**32, of one view of one image."""
    drawn = hashlib.sha256(f"view {view} of {content}".encode()).digest()
    return int.from_bytes(drawn[:4], "big")


def augmentation_key(style: str) -> str:
    """SHA-256 of the transforms with their settings and of the libraries that apply them."""
    return hashlib.sha256(f"{style} {_module(style).settings()}".encode()).hexdigest()


def _module(style: str) -> ModuleType:
    """Loaded only now: neither library is needed where nothing is augmented."""
    if style == "albumentations":
        from outerfold.pipelines.augmentation import albumentations_views

        return albumentations_views
    if style == "torchvision":
        from outerfold.pipelines.augmentation import torchvision_views

        return torchvision_views
    raise ValueError(f"unknown augmentation {style!r}; known are {STYLES}")
