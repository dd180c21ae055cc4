"""Procedural breast phantoms: outline, parenchyma, lesion. They resemble no patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.storage.images.pixels import ByteArray
from outerfold.storage.records import FloatArray

PHANTOM_SIDE = 224
FIELD = 288
"""Side of a patient's texture field; every view is a window of it."""

LesionKind = Literal["spiculated", "round", "distortion"]


@dataclass(frozen=True)
class Anatomy:
    """What a patient's views share.

    Attributes:
        density: share of bright parenchyma, about 0..1.
        size: breast size over the average, about 0.8..1.2.
        coarseness: spectral slope of the texture; larger is smoother.
        gain: brightness of the whole image over the average.
    """

    density: float
    size: float
    coarseness: float
    gain: float


@dataclass(frozen=True)
class Lesion:
    """A finding; ``contrast`` is in grey values over 255, ``radius`` in pixels."""

    kind: LesionKind
    radius: float
    contrast: float


def texture(rng: np.random.Generator, coarseness: float, side: int = FIELD) -> FloatArray:
    """(side, side) band-limited noise of mean 0 and deviation 1, spectrum 1 / f**coarseness."""
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
    """One view (224, 224) of 8-bit grey.

    Args:
        anatomy: the patient.
        field: the patient's texture (288, 288); views look at shifted windows of it.
        lesion: drawn at a random spot of the parenchyma, or nothing.
        rng: chance of this view alone: window, spot, acquisition noise.
        left: chest wall on the left edge, else on the right.
        oblique: with a pectoral muscle.
    """
    inside = _outline(anatomy.size, oblique)
    top, start = rng.integers(0, FIELD - PHANTOM_SIDE, 2)
    own = texture(rng, anatomy.coarseness, PHANTOM_SIDE)
    grain = 0.85 * field[top : top + PHANTOM_SIDE, start : start + PHANTOM_SIDE] + 0.5 * own
    tissue = _tissue(anatomy, grain, inside)
    if lesion is not None:
        tissue = tissue + _lesion(lesion, _spot(inside, lesion.radius, rng), rng) * (inside > 0.5)
    if oblique:
        tissue = np.maximum(tissue, 0.62 * _pectoral())
    image = tissue * np.clip(inside * 1.5, 0, 1) * anatomy.gain
    image = image + 0.015 * rng.standard_normal(image.shape) + 0.02
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels if left else np.ascontiguousarray(pixels[:, ::-1])


def mask(radius: float, rng: np.random.Generator) -> ByteArray:
    """(224, 224) outline image as the real set ships beside its views; never an input."""
    row, column = _grid()
    center = rng.uniform(60, 150, 2)
    inside = np.hypot(row - center[0], column - center[1]) < radius
    return np.asarray(inside * 255, dtype=np.uint8)


def _grid() -> tuple[FloatArray, FloatArray]:
    axis = np.arange(PHANTOM_SIDE, dtype=np.float64)
    return axis[:, None], axis[None, :]


def _outline(size: float, oblique: bool) -> FloatArray:
    """(224, 224) 1 well inside the breast, 0 outside, falling over some pixels at the skin."""
    row, column = _grid()
    centre = PHANTOM_SIDE * (0.55 if oblique else 0.5)
    reach = np.hypot(
        (row - centre) / (0.42 * PHANTOM_SIDE * size), column / (0.66 * PHANTOM_SIDE * size)
    )
    return np.asarray(1 / (1 + np.exp((reach - 1) * 25)), dtype=np.float64)


def _pectoral() -> FloatArray:
    row, column = _grid()
    edge = 70 - 0.55 * row
    return np.asarray(1 / (1 + np.exp((column - edge) / 2)), dtype=np.float64)


def _tissue(anatomy: Anatomy, grain: FloatArray, inside: FloatArray) -> FloatArray:
    """Fat of even grey, and parenchyma where the texture is high, more of it when dense."""
    row, column = _grid()
    middle = np.exp(-(((row - PHANTOM_SIDE / 2) / 75) ** 2) - ((column - 55) / 70) ** 2)
    gland = 1 / (1 + np.exp(-(grain + 2.2 * anatomy.density - 1.9 + 1.2 * middle) * 2))
    fat = 0.2 + 0.035 * grain
    return np.asarray((fat + gland * (0.22 + 0.1 * anatomy.density)) * inside, dtype=np.float64)


def _spot(inside: FloatArray, radius: float, rng: np.random.Generator) -> FloatArray:
    """A (row, column) inside the breast, two radii away from its edge where there is room."""
    row, column = _grid()
    deep = (inside > 0.97) & (column > 25 + radius) & (row > 50) & (row < PHANTOM_SIDE - 40)
    return np.asarray(rng.choice(np.argwhere(deep)), dtype=np.float64)


def _lesion(lesion: Lesion, spot: FloatArray, rng: np.random.Generator) -> FloatArray:
    row, column = _grid()
    distance = np.hypot(row - spot[0], column - spot[1]) / lesion.radius  # (224, 224) radii
    angle = np.arctan2(row - spot[0], column - spot[1])
    if lesion.kind == "round":
        lobes = 1 + 0.06 * np.cos(3 * angle + rng.uniform(0, 2 * np.pi))
        return np.asarray(lesion.contrast / (1 + np.exp((distance / lobes - 1) * 14)))
    rays = _rays(distance, angle, rng)
    if lesion.kind == "distortion":
        return np.asarray(lesion.contrast * (rays - 0.25 * np.exp(-(distance**2))))
    core = np.exp(-((distance / 0.8) ** 2))
    return np.asarray(lesion.contrast * np.maximum(core, rays), dtype=np.float64)


def _rays(distance: FloatArray, angle: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Spicules: thin bright lines out of the centre that fade over one to two radii."""
    rays = np.zeros_like(distance)
    for start in rng.uniform(0, 2 * np.pi, int(rng.integers(9, 15))):
        turn = np.angle(np.exp(1j * (angle - start)))
        fade = np.exp(-distance / rng.uniform(0.7, 1.3))
        rays = np.maximum(rays, np.exp(-((turn * distance / 0.12) ** 2)) * fade)
    return rays
