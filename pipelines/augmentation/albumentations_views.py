"""Augmentation of the dbt task, for images of minority classes, by albumentations."""

from __future__ import annotations

import json
import os
import random
import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Strength:
    """Largest changes of an image.

    Attributes:
        scale: share by which the image grows or shrinks.
        shift: share of its side by which the image moves.
        degrees: degrees of rotation, besides quarter turns.
        light: share by which brightness and contrast change.
    """

    scale: float
    shift: float
    degrees: float
    light: float


STRENGTHS = {
    "light": Strength(scale=0.05, shift=0.03, degrees=7.5, light=0.1),
    "strong": Strength(scale=0.1, shift=0.06, degrees=15.0, light=0.2),
}


class _Kept(threading.local):
    """Transforms of the present thread, by strength."""

    def __init__(self) -> None:
        self.made: dict[Strength, Any] = {}


_KEPT = _Kept()


def augment(image: NDArray[np.uint8], *, seed: int, strength: str) -> NDArray[np.uint8]:
    """Return an augmented copy (h, w, 3) of an 8-bit image (h, w, 3).

    The same seed gives the same pixels. The changes are each flip with probability 0.5, 0 to 3
    quarter turns, a shift, scaling and rotation on black, brightness and contrast, up to the limits
    of ``STRENGTHS``.

    Args:
        image: 8-bit image.
        seed: seed of the changes.
        strength: key of ``STRENGTHS``.
    """
    transforms = _kept_transforms(STRENGTHS[strength])
    transforms.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return np.ascontiguousarray(transforms(image=image)["image"], dtype=np.uint8)


def settings() -> str:
    """Return everything on which a view depends besides image and seed, as part of a cache key."""
    recipes = {
        name: _import_library().to_dict(_make_transforms(strength))
        for name, strength in STRENGTHS.items()
    }
    return f"{json.dumps(recipes, sort_keys=True, default=str)} {_opencv_versions()}"


def _kept_transforms(strength: Strength) -> Any:
    """Return the transforms of a strength, which each thread makes once.

    To make them takes 0.6 ms, a third of a view. Threads must not share them: the random state of
    a view is set before the view is made.
    """
    if strength not in _KEPT.made:
        _KEPT.made[strength] = _make_transforms(strength)
    return _KEPT.made[strength]


def _make_transforms(strength: Strength) -> Any:
    """Make the transforms, which get one random state for all before each view.

    ``Compose(seed=...)`` of 2.0.8 gives every transform a generator with the same seed, so their
    first draws are equal: the two flips always come together, and 1 view in 6 is unchanged. One
    shared state makes the draws independent; albumentations then reads no global state.
    """
    a = _import_library()
    light = strength.light
    transforms = [
        a.HorizontalFlip(p=0.5),
        a.VerticalFlip(p=0.5),
        a.RandomRotate90(p=0.75),
        a.Affine(
            scale=(1 - strength.scale, 1 + strength.scale),
            translate_percent=(-strength.shift, strength.shift),
            rotate=(-strength.degrees, strength.degrees),
            keep_ratio=True,
            border_mode=0,
            fill=0,
            p=0.75,
        ),
        a.RandomBrightnessContrast(brightness_limit=light, contrast_limit=light, p=0.75),
    ]
    return a.Compose(transforms)


@lru_cache(maxsize=1)
def _import_library() -> ModuleType:
    """Import albumentations without its request to PyPI for a newer version.

    Only an environment variable prevents the request (``albumentations/__init__.py``, 2.0.8); the
    variable is restored afterwards.
    """
    name = "NO_ALBUMENTATIONS_UPDATE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        import albumentations
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    module: ModuleType = albumentations
    return module


def _opencv_versions() -> str:
    import cv2

    return f"opencv {cv2.__version__} albucore {version('albucore')}"
