"""Augmented views of one image: chosen by its content and the view's number, by nothing else.

No label, no fold and no other row has a say in a view, so views may be computed once, kept, and
shared by every fold. Which rows are drawn in which view is the training loop's affair; rows that
score are only ever seen in view 0, the untouched image.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def augment(image: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """An augmented copy (h, w, 3) of an image (h, w, 3); the same seed, the same pixels.

    Either flip with probability 0.5, a quarter turn (0 to 3 of them), a shift of up to 6 %, a
    scale of 0.9 to 1.1 and a rotation of up to 15 degrees on black, brightness and contrast of up
    to 20 %.
    """
    view = _recipe_of(seed)(image=image)["image"]
    return np.ascontiguousarray(view, dtype=np.uint8)


def view_of(image: NDArray[np.uint8], content: str, view: int) -> NDArray[np.uint8]:
    """View number ``view`` of the image whose file has the hash ``content``; 0 is the image."""
    return image if view == 0 else augment(image, seed=view_seed(content, view))


def view_seed(content: str, view: int) -> int:
    """The seed, below 2**32, of one view of one image."""
    drawn = hashlib.sha256(f"view {view} of {content}".encode()).digest()
    return int.from_bytes(drawn[:4], "big")


def augmentation_key() -> str:
    """SHA-256 of the transforms with their settings and of the libraries that apply them."""
    settings = _library().to_dict(_recipe_of(0))
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {_opencv()}".encode()).hexdigest()


def _recipe_of(seed: int) -> Any:
    """The transforms with a random state of their own; albumentations reads no global one.

    ``Compose(seed=...)`` of 2.0.8 gives every transform a generator with that same seed: their
    first draws are one number, so either flip comes only with the other and 1 view in 6 is left
    untouched. One state handed to all makes them independent.
    """
    a = _library()
    transforms = [
        a.HorizontalFlip(p=0.5),
        a.VerticalFlip(p=0.5),
        a.RandomRotate90(p=0.75),
        a.Affine(
            scale=(0.9, 1.1),
            translate_percent=(-0.06, 0.06),
            rotate=(-15.0, 15.0),
            keep_ratio=True,
            border_mode=0,
            fill=0,
            p=0.75,
        ),
        a.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.75),
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
