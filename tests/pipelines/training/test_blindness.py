"""Rows that validate influence nothing about the model that scores them.

A fold is trained twice: on the training side as it is, and with labels, columns, images and every
augmented view of its validating rows replaced by noise. What was learnt must be equal to the last
bit. Planted leaks then show that the comparison can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from outerfold.pipelines._base import Training
from outerfold.pipelines.heads.losses import effective_number_alpha
from outerfold.pipelines.rows import training_rows
from outerfold.pipelines.rows.batches import Batches
from outerfold.pipelines.rows.resample import Resampled
from outerfold.pipelines.rows.samplers import SAMPLERS
from outerfold.pipelines.rows.tabular import TabularColumns
from outerfold.pipelines.rows.training_rows import FoldRows, Scaler, TrainingRows
from outerfold.pipelines.training import heads
from outerfold.storage.records import Dataset, Fold, IntArray
from tests.factories import ArraySource, scrambled
from tests.pipelines.rows.fold_factories import cut, pipeline, small

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 2


def trained(
    data: Dataset, source: ArraySource, fold: Fold, task: str, **changes: Any
) -> tuple[Training, TrainingRows]:
    """One fold after two epochs."""
    chosen = pipeline(task, **changes)
    rows = TrainingRows(data, [fold], source, tokens=chosen.tokens, seed=5)
    training = chosen.start(rows, budget=5, seed=1, device="cpu")
    for _ in islice(training, EPOCHS):
        pass
    return training, rows


def learnt(training: Training, rows: TrainingRows, sampler: str) -> dict[str, Any]:
    """All that one fold learnt, to the last bit."""
    fold, made = rows.folds[0], rows.resampled(0, sampler)
    weights = training.fitted(0).state()
    return {
        "scaler": (fold.scaler.mean.tolist(), fold.scaler.scale.tolist()),
        "encoder": fold.encoder,
        "made": (made.rows.tolist(), made.synthetic.tobytes(), made.labels.tolist()),
        "alpha": training.alpha.tolist(),  # type: ignore[attr-defined]
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
    }


def what_differs(task: str = "multimodal", *, sampler: str = "none", **changes: Any) -> list[str]:
    """Keys of what a fold learnt that change when its validating rows become noise."""
    data, source = small(task)
    fold = cut(data, (0.3,))[0]
    found = [
        learnt(*trained(rows, images, fold, task, sampler=sampler, **changes), sampler)
        for rows, images in ((data, source), scrambled(data, source, fold.val))
    ]
    return [key for key in found[0] if found[0][key] != found[1][key]]


def other_views(data: Dataset, source: ArraySource, fold: Fold) -> tuple[Dataset, ArraySource]:
    """The same rows, with the augmented views of those that validate replaced by noise."""
    values = source.values.copy()
    at = data.features.positions(fold.val)
    noise = np.random.default_rng(3).normal(scale=50, size=values[1:, at].shape)
    values[1:, at] = noise
    return data, replace(source, values=values)


def validation_scores_change_with_the_views() -> bool:
    """Whether a fold scores its validating rows otherwise when only their views change."""
    data, source = small("dbt")
    fold = cut(data, (0.3,))[0]
    scores = []
    for rows, images in ((data, source), other_views(data, source, fold)):
        training = pipeline("dbt").start(
            TrainingRows(rows, [fold], images, tokens=False, seed=5),
            budget=5,
            seed=1,
            device="cpu",
        )
        scores.append([epoch.probabilities[0].tobytes() for epoch in islice(training, EPOCHS)])
    return scores[0] != scores[1]


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_learnt_from_rows_that_validate(task: str, sampler: str) -> None:
    assert what_differs(task, sampler=sampler) == []


def test_nothing_is_learnt_from_tokens_of_rows_that_validate() -> None:
    assert what_differs("dbt", attention=True) == []


def test_rows_that_validate_are_scored_in_view_zero_alone() -> None:
    assert not validation_scores_change_with_the_views()


# Planted leaks: each must be caught.


def plant_in_fold_rows(
    patch: pytest.MonkeyPatch, leak: Callable[[TrainingRows, FoldRows], dict[str, Any]]
) -> None:
    honest = training_rows.TrainingRows._fold_rows

    def leaky(self: TrainingRows, fold: Fold) -> FoldRows:
        rows = honest(self, fold)
        return replace(rows, **leak(self, rows))

    patch.setattr(training_rows.TrainingRows, "_fold_rows", leaky)


def test_planted_scaler_fitted_on_validating_rows_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant_in_fold_rows(
        monkeypatch, lambda rows, _: {"scaler": Scaler.fit(np.asarray(rows.images, np.float32))}
    )
    assert {"scaler", "weights"} <= set(what_differs())


def read_by(encoder: TabularColumns, rows: TrainingRows) -> dict[str, Any]:
    """A fold's encoder, and its columns as that encoder reads them."""
    table = encoder.transform(rows.train.features.tabular)
    return {"encoder": encoder, "tabular": table.astype(np.float32)}


def test_planted_imputer_fitted_on_validating_rows_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the value that stands for a missing one comes from all rows."""

    def leak(rows: TrainingRows, fold: FoldRows) -> dict[str, Any]:
        table = rows.train.features.tabular
        everything = TabularColumns.fit(rows.train.features.columns, table)
        pairs = zip(fold.encoder.columns, everything.columns, strict=True)
        encoder = TabularColumns(tuple(replace(own, fill=all_.fill) for own, all_ in pairs))
        return read_by(encoder, rows)

    plant_in_fold_rows(monkeypatch, leak)
    assert {"encoder", "weights"} <= set(what_differs())


def test_planted_encoder_fitted_on_validating_rows_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leak(rows: TrainingRows, fold: FoldRows) -> dict[str, Any]:
        table = rows.train.features.tabular
        encoder = TabularColumns.fit(rows.train.features.columns, table)
        return read_by(encoder, rows)

    plant_in_fold_rows(monkeypatch, leak)
    assert {"encoder", "weights"} <= set(what_differs())


def resampled_before_the_split(self: TrainingRows, which: int, sampler: str) -> Resampled:
    """SMOTE over the whole training side; the rows made are then handed to the fold."""
    fold = self.folds[which]
    everything = replace(fold, fit=np.arange(len(self.train), dtype=np.int64))
    inputs = self._scaled(everything)
    made = training_rows.resample(sampler, inputs, self.train.labels, seed=7)
    new = made.labels[len(made.rows) :]
    labels = np.concatenate([self.train.labels[fold.fit], new])
    return Resampled(np.arange(len(fold.fit)), made.synthetic, labels)


def test_planted_rows_made_of_patients_that_validate_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_rows.TrainingRows, "resampled", resampled_before_the_split)
    assert {"made", "weights"} <= set(what_differs(sampler="smote"))


def test_planted_alpha_from_validating_rows_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(self: Any) -> Any:
        counts = np.bincount(self.rows.train.labels).astype(float)
        return np.stack([effective_number_alpha(counts, 0.9) for _ in self.rows.folds])

    monkeypatch.setattr(heads.StackedTraining, "_class_weights", leaky)
    assert {"alpha", "weights"} <= set(what_differs())


def test_planted_views_of_validating_rows_in_training_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training row is now and then shown as the view of a row that validates."""
    honest = Batches._make_orders

    def leaky(self: Batches, resampled: list[Resampled], seed: int) -> Any:
        orders = honest(self, resampled, seed)
        for order, fold in zip(orders, self.rows.folds, strict=True):
            order.image_at[: len(fold.val)] = fold.val + len(self.rows.train)
        return orders

    monkeypatch.setattr(Batches, "_make_orders", leaky)
    assert what_differs("dbt") == ["weights"]


def test_planted_scoring_of_an_augmented_view_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Batches._gather_images

    def leaky(self: Batches, at: IntArray) -> Any:
        held = np.isin(at, self.rows.folds[0].val)
        return honest(self, np.where(held, at + len(self.rows.train), at))

    monkeypatch.setattr(Batches, "_gather_images", leaky)
    assert validation_scores_change_with_the_views()
