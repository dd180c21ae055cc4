"""Test-time augmentation: the mean of the views' probabilities wherever a row scores, if asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from outerfold.pipelines._base import Epoch
from outerfold.pipelines.fitted.head import FittedHead
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Dataset, FloatArray
from tests.factories import ArraySource
from tests.pipelines.rows.fold_factories import cut, pipeline, small

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 2


def trained(
    data: Dataset, source: ArraySource, task: str, tta: int, **changes: Any
) -> tuple[Epoch, list[FittedHead]]:
    """Two folds after two epochs, and the model of each."""
    chosen = pipeline(task, **changes)
    rows = TrainingRows(data, cut(data, (0.3, 0.2)), source, tokens=chosen.tokens, seed=5, tta=tta)
    training = chosen.start(rows, budget=5, seed=1, device="cpu")
    *_, last = islice(training, EPOCHS)
    return last, [training.fitted(0), training.fitted(1)]


def as_view_zero(source: ArraySource, view: int) -> ArraySource:
    """A source whose untouched images are what was view ``view``."""
    return replace(source, values=source.values[[view]])


def by_hand(head: FittedHead, source: ArraySource, data: Dataset, views: int) -> FloatArray:
    """The mean over the image and ``views`` light views, each scored as if it were the image."""
    plain = replace(head, tta=0)
    each = [
        replace(plain, source=as_view_zero(source, view)).predict(data.features)
        for view in (0, 1, 3)[: 1 + views]
    ]
    return np.asarray(np.mean(each, axis=0))


@pytest.mark.parametrize(
    ("task", "changes"),
    [("multimodal", {}), ("dbt", {}), ("dbt", {"attention": True}), ("dbt", {"sampler": "smote"})],
)
@pytest.mark.parametrize("tta", [1, 2])
@pytest.mark.parametrize("drawn", [0, 1])
def test_a_score_is_the_mean_of_the_views_whether_or_not_training_draws_them(
    task: str, changes: dict[str, Any], tta: int, drawn: int
) -> None:
    data, source = small(task)
    epoch, heads = trained(data, source, task, tta, augmented_views=drawn, **changes)
    for fold, head, probabilities in zip(
        cut(data, (0.3, 0.2)), heads, epoch.probabilities, strict=True
    ):
        val = data.select(fold.val)
        expected = by_hand(head, source, val, tta)
        np.testing.assert_allclose(head.predict(val.features), expected, atol=1e-12)
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        assert not np.allclose(expected, by_hand(head, source, val, 0), atol=1e-3)


@pytest.mark.parametrize("tta", [0, 1, 2])
def test_scoring_rows_are_seen_in_the_views_asked_for_and_in_no_other(tta: int) -> None:
    """A score changes with a view of rows that validate if, and only if, that view is averaged."""
    data, source = small()
    held = data.features.positions([name for fold in cut(data, (0.3, 0.2)) for name in fold.val])
    before, _ = trained(data, source, "multimodal", tta, augmented_views=0)
    for view in (1, 2, 3, 4):
        values = source.values.copy()
        values[view, held] += 50
        noise = replace(source, values=values)
        after, _ = trained(data, noise, "multimodal", tta, augmented_views=0)
        same = all(map(np.array_equal, before.probabilities, after.probabilities))
        assert same == (view not in (1, 3)[:tta])


def test_what_is_learnt_does_not_depend_on_how_rows_are_scored() -> None:
    data, source = small()
    weights = [
        [head.state() for head in trained(data, source, "multimodal", tta, sampler="smote")[1]]
        for tta in (0, 1)
    ]
    for one, other in zip(*weights, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_validation_loss_is_that_of_the_mean_probability() -> None:
    """With two equal views it is the loss of the image alone; with unlike ones another."""
    data, source = small()
    twice = replace(source, values=source.values[[0, 0, 0, 0]])
    alone, equal, unlike = (
        trained(data, images, "multimodal", tta, augmented_views=0)[0].val_loss
        for images, tta in ((twice, 0), (twice, 2), (source, 2))
    )
    np.testing.assert_allclose(equal, alone, rtol=1e-5)
    assert not np.allclose(unlike, alone, rtol=1e-3)
