"""The dbt task's augmentation, for images of classes that have few: albumentations."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Strength:
    """Most that an image is changed by.

    Attributes:
        scale: share that it grows or shrinks by.
        shift: share of its side that it moves by.
        degrees: of rotation besides quarter turns.
        light: share that brightness and contrast change by.
    """

    scale: float
    shift: float
    degrees: float
    light: float


STRENGTHS = {
    "light": Strength(scale=0.05, shift=0.03, degrees=7.5, light=0.1),
    "strong": Strength(scale=0.1, shift=0.06, degrees=15.0, light=0.2),
}


def augment(image: NDArray[np.uint8], *, seed: int, strength: str) -> NDArray[np.uint8]:
    """An augmented copy (h, w, 3) of an image (h, w, 3); the same seed, the same pixels.

    Either flip with probability 0.5, a quarter turn (0 to 3 of them), a shift, a scale and a
    rotation on black, brightness and contrast, as far as ``STRENGTHS`` allows.
    """
    view = _recipe_of(seed, STRENGTHS[strength])(image=image)["image"]
    return np.ascontiguousarray(view, dtype=np.uint8)


def settings() -> str:
    """All that a view depends on besides image and seed."""
    recipes = {
        name: _library().to_dict(_recipe_of(0, strength)) for name, strength in STRENGTHS.items()
    }
    return f"{json.dumps(recipes, sort_keys=True, default=str)} {_opencv()}"


def _recipe_of(seed: int, strength: Strength) -> Any:
    """The transforms with a random state of their own; albumentations reads no global one.

    ``Compose(seed=...)`` of 2.0.8 gives every transform a generator with that same seed: their
    first draws are one number, so either flip comes only with the other and 1 view in 6 is left
    untouched. One state handed to all makes them independent.
    """
    a = _library()
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
    composed = a.Compose(transforms)
    composed.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return composed


@lru_cache(maxsize=1)
def _library() -> ModuleType:
    """albumentations, imported without the look at PyPI that its ``__init__`` would take.

    Only a variable of the environment holds it off (``albumentations/__init__.py``, 2.0.8); it is
    put back as it was.
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


def _opencv() -> str:
    import cv2

    return f"opencv {cv2.__version__} albucore {version('albucore')}"
