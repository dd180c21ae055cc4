"""Simulated patients, for whom a model's true score on the whole population is known."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from scipy.special import ndtri

from outerfold.storage.records import FloatArray, IntArray

POPULATION = 40_000
MEMBERS = {"images": 4, "spread": 3}
"""A patient has 1-4 images; the signal is in the first three features."""


@dataclass(frozen=True)
class Cell:
    """One setting of the simulation.

    Attributes:
        patients: number of patients in a study.
        prevalence: share of patients of each class except class 0 (with ``image_labels``, share of
            images).
        icc: share of a feature's variance that the images of a patient have in common.
        separation: distance between class means in standard deviations; 1.19 gives an AUC of 0.80.
        features: number of features.
        image_labels: whether each image, and not each patient, has its own label.
        learner: ``logistic``, ``head`` (a shallow network) or ``tree`` (one deep tree).
        choice: choice of the inner folds: ``nothing``, the ``threshold``, or the
            ``configuration`` and the threshold.
        split: ``patients`` or, to show a leak, ``images``.
    """

    name: str
    patients: int
    prevalence: tuple[float, ...]
    icc: float
    separation: float = 1.19
    features: int = 10
    image_labels: bool = False
    learner: str = "logistic"
    choice: str = "nothing"
    split: str = "patients"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.prevalence) + 1

    def rng(self, seed: int, replicate: int) -> np.random.Generator:
        """Random generator for this cell and replicate, independent of anything else that runs."""
        return np.random.default_rng([crc32(self.name.encode()), seed, replicate])


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images of one simulated study: x (n, features), labels (n,), patient codes (n,)."""

    x: FloatArray
    labels: IntArray
    patients: IntArray


def draw(cell: Cell, rng: np.random.Generator, fewest: int = 5) -> tuple[Cohort, int]:
    """Draw a study with at least ``fewest`` patients in each class, and count refused draws.

    outerfold refuses smaller classes before any training, so there would be no interval.
    """
    refused = 0
    while True:
        cohort = _draw(cell, rng)
        held = [len(np.unique(cohort.patients[cohort.labels == c])) for c in range(cell.classes)]
        if min(held) >= fewest:
            return cohort, refused
        refused += 1


def population(cell: Cell) -> Cohort:
    """Independent images, one per patient, at the exact prevalence; the same for every replicate.

    Two classes and a linear model need no features but normal quantiles, see ``project``.
    """
    shares = np.array([1 - sum(cell.prevalence), *cell.prevalence])
    labels = np.repeat(np.arange(cell.classes), np.round(shares * POPULATION).astype(int))
    rng = np.random.default_rng([crc32(cell.name.encode()), 7, 7, 7])
    x = rng.normal(size=(len(labels), cell.features)) + _means(cell)[labels]
    return Cohort(x, labels, np.arange(len(labels)))


def project(cell: Cell, slopes: FloatArray, intercept: float) -> tuple[IntArray, FloatArray]:
    """Labels (n,) and linear scores (n,) of the exact two-class population.

    The scores are normal quantiles, so nothing is random.

    Args:
        slopes: (features,) coefficients of the linear model.
    """
    counts = np.round(np.array([1 - cell.prevalence[0], cell.prevalence[0]]) * POPULATION)
    labels = np.repeat([0, 1], counts.astype(int))
    z = np.concatenate([ndtri((np.arange(n) + 0.5) / n) for n in counts])
    centre = intercept + _means(cell) @ slopes
    return labels, centre[labels] + np.linalg.norm(slopes) * z


def _means(cell: Cell) -> FloatArray:
    """Class means (classes, features); class 0 is the origin, the others in separate directions."""
    means = np.zeros((cell.classes, cell.features))
    if cell.classes == 2:
        means[1, : MEMBERS["spread"]] = cell.separation / np.sqrt(MEMBERS["spread"])
        return means
    for c in range(1, cell.classes):
        means[c, c - 1] = cell.separation
    return means


def _draw(cell: Cell, rng: np.random.Generator) -> Cohort:
    images = rng.integers(1, MEMBERS["images"] + 1, cell.patients)
    patients = np.repeat(np.arange(cell.patients), images)
    labels = _labels(cell, patients, rng)
    shared = rng.normal(size=(cell.patients, cell.features))[patients]
    own = rng.normal(size=(len(patients), cell.features))
    noise = np.sqrt(cell.icc) * shared + np.sqrt(1 - cell.icc) * own
    return Cohort(_means(cell)[labels] + noise, labels, patients)


def _labels(cell: Cell, patients: IntArray, rng: np.random.Generator) -> IntArray:
    if cell.image_labels:
        rate = cell.prevalence[0]
        of_patient = rng.beta(2 * rate, 2 * (1 - rate), cell.patients)
        return (rng.random(len(patients)) < of_patient[patients]).astype(np.int64)
    edges = np.cumsum([1 - sum(cell.prevalence), *cell.prevalence])[:-1]
    return np.searchsorted(edges, rng.random(cell.patients), side="right")[patients]
