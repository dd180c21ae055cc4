"""The model against a reader of the same images, whose readings stand in a column of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of
from outerfold.reports.intervals.overall import paired_difference
from outerfold.reports.intervals.variation import Variation
from outerfold.storage.records import IntArray, Predictions

COMPARED = ("sensitivity", "specificity")
"""Metrics in which model and reader are compared: those of decisions at one threshold."""


def against_reader(
    rows: Predictions, calls: IntArray, variation: Variation, of: Of
) -> dict[str, tuple[float, ConfidenceInterval]]:
    """The reader's score and the model's minus the reader's, by metric.

    The difference is paired: the same patient is left out of both.

    Args:
        rows: outer test rows of two classes that the reader read.
        calls: (n,) 1 where the reader's reading is positive, else 0.
        variation: predictions by the models of inner folds, by outer fold.
        of: what the intervals are of.
    """
    reader = _reads(rows, calls)
    by_id = dict(zip(rows.ids.tolist(), calls.tolist(), strict=True))
    known = {name: _known(one, by_id) for name, one in variation.items()}
    theirs = {
        name: _reads(one, np.array([by_id[key] for key in one.ids.tolist()], dtype=np.int64))
        for name, one in known.items()
    }
    changes = paired_difference(rows, reader, tuned=True, variations=(known, theirs), of=of)
    own = _scores(reader)
    return {name: (own[name], changes[name]) for name in COMPARED}


def _known(rows: Predictions, calls: Mapping[str, int]) -> Predictions:
    return rows.take(np.array([key in calls for key in rows.ids.tolist()], dtype=bool))


def _reads(rows: Predictions, calls: IntArray) -> Predictions:
    """The rows as the reader decides them, with probabilities of 0 and 1."""
    return replace(rows, predicted=calls, probabilities=np.eye(2)[calls])


def _scores(reader: Predictions) -> dict[str, float]:
    right = reader.predicted == reader.labels
    return {
        name: float(right[reader.labels == label].mean())
        if (reader.labels == label).any()
        else float("nan")
        for name, label in zip(COMPARED, (1, 0), strict=True)
    }
