"""Importance of image and columns for the outer models: their scores on altered test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outerfold.pipelines.explain.fold_model import FoldModel, Readings
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.reports.explain.importance import COLUMNS, IMAGE, Altered, contribution
from outerfold.reports.results.predictions import join_predictions
from outerfold.reports.wording import Json
from outerfold.storage.records import FloatArray, Predictions
from outerfold.storage.seeds import derive_seed
from outerfold.study.explain.finished_run import FinishedRun

PERMUTATIONS = 20
"""Number of random permutations of each column; their results are averaged."""


def permutation_importance(finished: FinishedRun, sources: Mapping[str, ImageSource]) -> Json:
    """Contribution of the image, of all columns and of each column on the outer test rows.

    Args:
        finished: the run with its outer models.
        sources: source of every image's embeddings, by name of the outer fold.

    Raises:
        DataError: a probability differs from the one that the run kept.
    """
    names = [column.name for column in finished.data.features.columns]
    scored: dict[str, list[list[Predictions]]] = {key: [] for key in ("", IMAGE, COLUMNS, *names)}
    for name, rows in finished.tests.items():
        model, source, ids = finished.models[name], sources[name], rows.ids.tolist()
        rest = model.mean_image(source, finished.folds[name].train)
        images, table = model.readings(source, ids), finished.data.features.select(ids).tabular
        probabilities = altered_probabilities(
            model, RowsToAlter(images, rest, table, names), seed=finished.config.seed, fold=name
        )
        finished.refuse_other_scores(name, ids, probabilities[""][0])
        for key, found in probabilities.items():
            scored[key].append([_replace_probabilities(rows, one, model) for one in found])
    whole, *altered = (
        (key, [_join_folds(parts) for parts in zip(*found, strict=True)])
        for key, found in scored.items()
    )
    return contribution(
        whole[1][0],
        [
            Altered(key, "mean" if key in (IMAGE, COLUMNS) else "permuted", tuple(rows))
            for key, rows in altered
        ],
    )


@dataclass(frozen=True, eq=False)
class RowsToAlter:
    """Test rows of one outer fold, and the mean image that replaces an image.

    Attributes:
        images: readings of n rows (``outerfold.pipelines.explain.fold_model``).
        mean_image: readings of the mean image, from ``FoldModel.mean_image``.
        table: (n, k) values of the columns, NaN where missing.
        names: (k,) names of the columns.
    """

    images: Readings
    mean_image: Readings
    table: FloatArray
    names: Sequence[str]


def altered_probabilities(
    model: FoldModel, rows: RowsToAlter, *, seed: int, fold: str
) -> dict[str, list[FloatArray]]:
    """Probabilities (n, classes) of one fold's test rows, unchanged and altered.

    The image and the columns together are replaced by their means; a single column is permuted.

    Args:
        model: outer model of the fold.
        rows: its test rows.
        seed: seed of the run.
        fold: name of the outer fold.

    Returns:
        Lists of probabilities by the altered part: nothing (``""``), the image, all columns, and
        each column. A list has one entry, or ``PERMUTATIONS`` for a single column.
    """
    images, table = rows.images, rows.table
    columns = model.columns.transform(table)
    shape = np.broadcast_shapes(rows.mean_image.shape, images.shape)
    mean_image = np.broadcast_to(rows.mean_image, shape)
    mean_columns = np.broadcast_to(model.columns_mean[:, None], columns.shape)
    found = {
        "": [model.probabilities(images, columns)],
        IMAGE: [model.probabilities(mean_image, columns)],
        COLUMNS: [model.probabilities(images, mean_columns)],
    }
    for at, name in enumerate(rows.names):
        found[name] = []
        for turn in range(PERMUTATIONS):
            rng = np.random.default_rng(derive_seed(seed, fold, "permute", name, turn))
            mixed = table.copy()
            mixed[:, at] = rng.permutation(table[:, at])
            found[name].append(model.probabilities(images, model.columns.transform(mixed)))
    return found


def _replace_probabilities(
    rows: Predictions, probabilities: FloatArray, model: FoldModel
) -> Predictions:
    return replace(
        rows, probabilities=probabilities, predicted=model.decision.decide(probabilities)
    )


def _join_folds(parts: Sequence[Predictions]) -> Predictions:
    rows = join_predictions(parts)
    assert rows is not None
    return rows
