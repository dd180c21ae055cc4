"""Finished studies whose rows are those of the splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from outerfold.storage.records import Dataset, FoldResult, OuterFold, Predictions


def table_of(ids: Sequence[str], folds: Sequence[str], data: Dataset) -> Predictions:
    """Predictions of these rows, as a study of ``data`` would have made them."""
    rows = data.select(list(ids))
    cancer = np.random.default_rng(0).random(len(rows))
    return Predictions(
        rows.ids,
        rows.patients,
        np.array(folds),
        np.zeros(len(rows), dtype=np.int64),
        rows.labels,
        np.stack([1 - cancer, cancer], axis=1),
        (cancer >= 0.5).astype(np.int64),
        rows.classes,
    )


def of_split(result: FoldResult, study: OuterFold, data: Dataset) -> FoldResult:
    """The result with the rows of a study's folds."""
    held = [(name, fold.name) for fold in study.inner for name in fold.val]
    validation = table_of([name for name, _ in held], [fold for _, fold in held], data)
    test = table_of(study.test, [study.name] * len(study.test), data) if study.test else None
    return replace(
        result, name=study.name, validation=validation, test=test, variation=None, default=None
    )
