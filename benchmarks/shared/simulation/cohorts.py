"""Simulated patients whose truth is known: what a model would score on everyone."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from scipy.special import ndtri

from outerfold.storage.records import FloatArray, IntArray

POPULATION = 40_000
MEMBERS = {"images": 4, "spread": 3}
"""A patient has 1-4 images; the signal lies along the first three features."""


@dataclass(frozen=True)
class Cell:
    """One setting of the simulation.

    Attributes:
        prevalence: share of patients (with ``image_labels`` of images) of each class but class 0.
        icc: share of a feature's variance that the images of a patient have in common.
        separation: distance between class means in standard deviations; 1.19 is an AUC of 0.80.
        learner: ``logistic``, ``head`` (a shallow network) or ``tree`` (one deep tree).
        choice: what inner folds decide: ``nothing``, the ``threshold``, or ``configuration``
            and threshold.
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
        """A generator of its own for this cell and replicate, whatever else runs."""
        return np.random.default_rng([crc32(self.name.encode()), seed, replicate])


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images of one simulated study: x (n, features), labels (n,), patients (n,) codes."""

    x: FloatArray
    labels: IntArray
    patients: IntArray


def draw(cell: Cell, rng: np.random.Generator, fewest: int = 5) -> tuple[Cohort, int]:
    """A study whose every class has ``fewest`` patients, and how many draws were refused.

    The study refuses smaller classes before any training, so no interval would be printed.
    """
    refused = 0
    while True:
        cohort = _draw(cell, rng)
        held = [len(np.unique(cohort.patients[cohort.labels == c])) for c in range(cell.classes)]
        if min(held) >= fewest:
            return cohort, refused
        refused += 1


def population(cell: Cell) -> Cohort:
    """Independent images, one a patient, at the exact prevalence; the same for every replicate.

    Two classes and a linear model need no features: standard normal quantiles, see ``project``.
    """
    shares = np.array([1 - sum(cell.prevalence), *cell.prevalence])
    labels = np.repeat(np.arange(cell.classes), np.round(shares * POPULATION).astype(int))
    rng = np.random.default_rng([crc32(cell.name.encode()), 7, 7, 7])
    x = rng.normal(size=(len(labels), cell.features)) + _means(cell)[labels]
    return Cohort(x, labels, np.arange(len(labels)))


def project(cell: Cell, slopes: FloatArray, intercept: float) -> tuple[IntArray, FloatArray]:
    """Labels and linear scores of the exact two-class population: normal quantiles, no chance."""
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
