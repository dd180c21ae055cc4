"""Decisions by the classes of the source, where a run merged them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.objectives.measures.metric import PROPORTION
from outerfold.objectives.metrics import METRICS
from outerfold.reports.analyses.measure import measure
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of
from outerfold.reports.intervals.support import Support
from outerfold.reports.intervals.variation import Variation
from outerfold.storage.records import Predictions, StrArray


@dataclass(frozen=True)
class Original:
    """One class of the source.

    Attributes:
        name: its name.
        merged: class of the run that it belongs to.
        patients, rows, right: how many it has, and how many rows were decided for ``merged``.
        share: share of the rows that were decided for ``merged``, which is the specificity among
            a class of the negatives.
    """

    name: str
    merged: str
    patients: int
    rows: int
    right: int
    share: ConfidenceInterval


def by_original(
    rows: Predictions, originals: StrArray, variation: Variation, of: Of
) -> list[Original]:
    """Share of right decisions for each class of the source, in the order of the run's classes.

    Args:
        rows: outer test rows by image.
        originals: (n,) class of each row in the source.
        variation: predictions by the models of inner folds, by outer fold.
        of: what the intervals are of.
    """
    pairs = sorted(set(zip(rows.labels.tolist(), originals.tolist(), strict=True)))
    found = []
    for label, name in pairs:
        own = rows.take((originals == name) & (rows.labels == label))
        known = set(own.ids.tolist())
        inner = {
            fold: one.take(np.array([key in known for key in one.ids.tolist()], dtype=bool))
            for fold, one in variation.items()
        }
        patients = len(set(own.groups.tolist()))
        images = len(set(own.ids.tolist()))
        basis = Support(PROPORTION, patients, images, patients, f"with '{name}'")
        every = all(len(one) for one in inner.values())
        accuracy = METRICS["accuracy"]
        share = measure(own, [accuracy], inner if every else {}, of, lambda *_, b=basis: b)
        right = int((own.predicted == own.labels).sum())
        merged = rows.classes[label]
        found.append(Original(name, merged, patients, len(own), right, share["accuracy"]))
    return found
