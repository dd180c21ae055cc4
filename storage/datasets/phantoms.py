"""Synthetic breast images (phantoms): outline, parenchyma, lesion. They show no patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.storage.records import ByteArray, FloatArray

PHANTOM_SIDE = 224
"""Side of an image, in pixels."""
FIELD = 288
"""Side of a patient's texture field, in pixels; every view is a window of it."""

LesionKind = Literal["spiculated", "round", "distortion"]


@dataclass(frozen=True)
class Anatomy:
    """Properties that all views of a patient share.

    Attributes:
        density: share of bright parenchyma, about 0..1.
        size: breast size relative to the average, about 0.8..1.2.
        coarseness: spectral slope of the texture; a larger value is smoother.
        gain: brightness of the whole image relative to the average.
    """

    density: float
    size: float
    coarseness: float
    gain: float


@dataclass(frozen=True)
class Lesion:
    """Lesion in an image; ``contrast`` is a share of 255 grey values, ``radius`` is in pixels."""

    kind: LesionKind
    radius: float
    contrast: float


def texture(rng: np.random.Generator, coarseness: float, side: int = FIELD) -> FloatArray:
    """Band-limited noise (side, side) of mean 0 and standard deviation 1.

    The amplitude of a frequency f is proportional to 1 / f**coarseness.
    """
    row = np.fft.fftfreq(side)[:, None]
    column = np.fft.rfftfreq(side)[None, :]
    frequency = np.hypot(row, column)
    band = (frequency > 2 / side) & (frequency < 0.3)
    weight = np.where(band, np.maximum(frequency, 1 / side) ** -coarseness, 0.0)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) * weight, (side, side))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float64)


def draw_phantom(
    anatomy: Anatomy,
    field: FloatArray,
    lesion: Lesion | None,
    rng: np.random.Generator,
    *,
    left: bool,
    oblique: bool,
) -> ByteArray:
    """One view (224, 224), 8-bit grey.

    Args:
        anatomy: properties of the patient.
        field: (288, 288) texture of the patient; each view uses another window of it.
        lesion: lesion, drawn at a random position in the breast; None draws none.
        rng: random generator of this view: window, position of the lesion, acquisition noise.
        left: whether the chest wall is at the left edge; else it is at the right.
        oblique: whether the view shows the pectoral muscle.
    """
    inside = _breast_outline(anatomy.size, oblique)
    top, start = rng.integers(0, FIELD - PHANTOM_SIDE, 2)
    own = texture(rng, anatomy.coarseness, PHANTOM_SIDE)
    grain = 0.85 * field[top : top + PHANTOM_SIDE, start : start + PHANTOM_SIDE] + 0.5 * own
    tissue = _draw_tissue(anatomy, grain, inside)
    if lesion is not None:
        spot = _choose_spot(inside, lesion.radius, rng)
        tissue = tissue + _draw_lesion(lesion, spot, rng) * (inside > 0.5)
    if oblique:
        tissue = np.maximum(tissue, 0.62 * _pectoral_muscle())
    image = tissue * np.clip(inside * 1.5, 0, 1) * anatomy.gain
    image = image + 0.015 * rng.standard_normal(image.shape) + 0.02
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels if left else np.ascontiguousarray(pixels[:, ::-1])


def mask(radius: float, rng: np.random.Generator) -> ByteArray:
    """Lesion mask (224, 224), 0 or 255, like those beside the views of the real set.

    A mask is never an input of a model.

    Args:
        radius: radius of the lesion in pixels.
        rng: random generator of the position.
    """
    row, column = _grid()
    center = rng.uniform(60, 150, 2)
    inside = np.hypot(row - center[0], column - center[1]) < radius
    return np.asarray(inside * 255, dtype=np.uint8)


def _grid() -> tuple[FloatArray, FloatArray]:
    axis = np.arange(PHANTOM_SIDE, dtype=np.float64)
    return axis[:, None], axis[None, :]


def _breast_outline(size: float, oblique: bool) -> FloatArray:
    """Map (224, 224): 1 well inside the breast, 0 outside, with a smooth edge of some pixels."""
    row, column = _grid()
    centre = PHANTOM_SIDE * (0.55 if oblique else 0.5)
    reach = np.hypot(
        (row - centre) / (0.42 * PHANTOM_SIDE * size), column / (0.66 * PHANTOM_SIDE * size)
    )
    return np.asarray(1 / (1 + np.exp((reach - 1) * 25)), dtype=np.float64)


def _pectoral_muscle() -> FloatArray:
    row, column = _grid()
    edge = 70 - 0.55 * row
    return np.asarray(1 / (1 + np.exp((column - edge) / 2)), dtype=np.float64)


def _draw_tissue(anatomy: Anatomy, grain: FloatArray, inside: FloatArray) -> FloatArray:
    """Brightness (224, 224) of the breast: even fat, and parenchyma where the texture is high.

    A higher density gives more parenchyma.
    """
    row, column = _grid()
    middle = np.exp(-(((row - PHANTOM_SIDE / 2) / 75) ** 2) - ((column - 55) / 70) ** 2)
    gland = 1 / (1 + np.exp(-(grain + 2.2 * anatomy.density - 1.9 + 1.2 * middle) * 2))
    fat = 0.2 + 0.035 * grain
    return np.asarray((fat + gland * (0.22 + 0.1 * anatomy.density)) * inside, dtype=np.float64)


def _choose_spot(inside: FloatArray, radius: float, rng: np.random.Generator) -> FloatArray:
    """Random (row, column) well inside the breast and away from the edges of the image.

    Columns are more than 25 pixels and one radius from the chest wall.
    """
    row, column = _grid()
    deep = (inside > 0.97) & (column > 25 + radius) & (row > 50) & (row < PHANTOM_SIDE - 40)
    return np.asarray(rng.choice(np.argwhere(deep)), dtype=np.float64)


def _draw_lesion(lesion: Lesion, spot: FloatArray, rng: np.random.Generator) -> FloatArray:
    row, column = _grid()
    distance = np.hypot(row - spot[0], column - spot[1]) / lesion.radius  # (224, 224) radii
    angle = np.arctan2(row - spot[0], column - spot[1])
    if lesion.kind == "round":
        lobes = 1 + 0.06 * np.cos(3 * angle + rng.uniform(0, 2 * np.pi))
        return np.asarray(lesion.contrast / (1 + np.exp((distance / lobes - 1) * 14)))
    rays = _draw_rays(distance, angle, rng)
    if lesion.kind == "distortion":
        return np.asarray(lesion.contrast * (rays - 0.25 * np.exp(-(distance**2))))
    core = np.exp(-((distance / 0.8) ** 2))
    return np.asarray(lesion.contrast * np.maximum(core, rays), dtype=np.float64)


def _draw_rays(distance: FloatArray, angle: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Spicules (224, 224): thin bright lines from the centre that fade over one to two radii."""
    rays = np.zeros_like(distance)
    for start in rng.uniform(0, 2 * np.pi, int(rng.integers(9, 15))):
        turn = np.angle(np.exp(1j * (angle - start)))
        fade = np.exp(-distance / rng.uniform(0.7, 1.3))
        rays = np.maximum(rays, np.exp(-((turn * distance / 0.12) ** 2)) * fade)
    return rays
