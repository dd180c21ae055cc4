"""Inner folds of unlike sizes over small rows kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from outerfold.pipelines._base import Pipeline
from outerfold.pipelines.rows.training_rows import ImageSource, TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.storage.records import Dataset, Fold
from tests.factories import ArraySource, make_rows

CLASSES = {"multimodal": ("other", "cancer"), "dbt": ("normal", "actionable", "benign", "cancer")}
PIPELINES: dict[str, type[DbtPipeline] | type[MultimodalPipeline]] = {
    "dbt": DbtPipeline,
    "multimodal": MultimodalPipeline,
}
UNEVEN = (0.4, 0.3, 0.2, 0.1)
"""Shares of the patients that validate: folds fit on 60 % to 90 % of the rows."""


def cut(data: Dataset, shares: Sequence[float] = UNEVEN) -> list[Fold]:
    """One fold a share; each class lends every fold its share of patients, at least one."""
    val: list[list[str]] = [[] for _ in shares]
    for c in range(len(data.classes)):
        own = sorted(set(data.patients[data.labels == c].tolist()))
        ends = np.cumsum([max(1, int(share * len(own))) for share in shares])
        for k, part in enumerate(np.split(np.array(own), ends)[: len(shares)]):
            val[k] += part.tolist()
    return [fold_of(data, f"inner-{k}", patients) for k, patients in enumerate(val)]


def fold_of(data: Dataset, name: str, patients: Sequence[str]) -> Fold:
    """The fold in which ``patients`` validate and all others fit."""
    held = np.isin(data.patients, list(patients))
    return Fold(
        name,
        tuple(data.ids[~held].tolist()),
        tuple(data.ids[held].tolist()),
        frozenset(data.patients[~held].tolist()),
        frozenset(data.patients[held].tolist()),
    )


def prepared(
    task: str = "multimodal", *, tokens: bool = False, folds: Sequence[float] = UNEVEN, **rows: Any
) -> TrainingRows:
    """Rows of a task, ready to be trained on in ``folds``."""
    data, source = small(task, **rows)
    return TrainingRows(data, cut(data, folds), source, tokens=tokens, seed=5)


def small(task: str = "multimodal", **rows: Any) -> tuple[Dataset, ArraySource]:
    """Some 80 rows of a task's classes."""
    return make_rows(**{"patients": 40, "images": 2, "classes": CLASSES[task], **rows})


def only(rows: TrainingRows, fold: int, source: ImageSource | None = None) -> TrainingRows:
    """The same rows with one of the folds and no other."""
    return TrainingRows(
        rows.train,
        [rows.folds[fold].fold],
        source or rows.source,
        tokens=rows.tokens,
        seed=rows.seed,
    )


def pipeline(task: str = "multimodal", **changes: Any) -> Pipeline:
    """A configuration in which every part of training has something to do."""
    chosen = {
        "learning_rate": 3e-3,
        "dropout": 0.3,
        "focal_gamma": 2.0,
        "sampler": "none",
        "attention": False,
        "batch_size": 16,
        "ens_beta": 0.9,
        "label_smoothing": 0.1,
        "augmented_views": 2,
    }
    return PIPELINES[task](**{**chosen, **changes})
