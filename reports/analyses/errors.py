"""The largest errors of each outer fold, ranked within the fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.storage.records import FloatArray, Predictions

EACH = 2
"""Errors of each true class that are listed a fold."""


@dataclass(frozen=True)
class Mistake:
    """One wrong decision.

    Attributes:
        row: position in the rows that were given.
        number: running number in the list, from 1.
        rank: place among the errors of its true class in its fold; 1 is the largest.
        of: number of these errors.
        percentile: share of the fold's rows with a smaller probability of the true class. The
            probabilities of two folds come from two models, so only ranks within a fold compare.
    """

    row: int
    number: int
    rank: int
    of: int
    percentile: float


def mistakes(rows: Predictions, *, each: int = EACH) -> list[Mistake]:
    """The largest errors of each fold, by fold and true class.

    An error is larger where the probability of the true class is smaller.

    Args:
        rows: outer test rows.
        each: most errors of one true class that are listed a fold.

    The order of the rows makes no difference.
    """
    truth: FloatArray = rows.probabilities[np.arange(len(rows)), rows.labels]
    found: list[Mistake] = []
    coded = code_rows(rows)
    for fold in range(len(coded.fold_names)):
        inside = coded.fold == fold
        for label in range(len(rows.classes)):
            wrong = np.flatnonzero(inside & (rows.labels == label) & (rows.predicted != label))
            ordered = wrong[np.lexsort((rows.ids[wrong], truth[wrong]))]
            for rank, row in enumerate(ordered[:each].tolist(), start=1):
                below = rows.probabilities[inside, label] < truth[row]
                number = len(found) + 1
                found.append(Mistake(row, number, rank, len(wrong), float(below.mean())))
    return found
