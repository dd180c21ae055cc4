"""What reaches a training step: each row a sampler gives, once, and never one that validates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from outerfold.pipelines.augmentation.views import STRENGTHS
from outerfold.pipelines.rows.batches import Batch, Batches
from outerfold.pipelines.rows.samplers import SAMPLERS
from outerfold.pipelines.rows.training_rows import TrainingRows
from tests.factories import ArraySource
from tests.pipelines.rows.fold_factories import cut, only, small

VIEWS = 2
NUMBERS = 1 + 2 * len(STRENGTHS)
STEP = 100  # 16-bit tokens hold whole numbers up to 2048
"""Row i in view v holds the number i + STEP * v in every place, so that a batch can be read."""


def readable(task: str = "dbt", *, tokens: bool = False) -> TrainingRows:
    data, source = small(task)
    rows, views = np.arange(len(data)), np.arange(NUMBERS)
    numbers = (rows + STEP * views[:, None]).astype(np.float32)
    values = np.broadcast_to(numbers[:, :, None, None], (NUMBERS, *source.values.shape[1:]))
    return TrainingRows(
        data, cut(data), ArraySource(source.ids, values.copy()), tokens=tokens, seed=5
    )


def batches(
    rows: TrainingRows,
    sampler: str,
    *,
    views: int = VIEWS,
    seed: int = 3,
    strength: str = "light",
    every_row: bool = False,
) -> Batches:
    return Batches(
        rows,
        sampler=sampler,
        views=views,
        batch_size=16,
        seed=seed,
        device=torch.device("cpu"),
        strength=strength,
        every_row=every_row,
    )


@dataclass
class Drawn:
    """One unpadded row of a batch."""

    number: float
    label: int

    @property
    def row(self) -> int:
        return round(self.number) % STEP

    @property
    def view(self) -> int:
        return round(self.number) // STEP


def drawn(batch: Batch, fold: int) -> list[Drawn]:
    rows = batch.mask[fold, :, 0].bool()
    images = batch.images[fold][rows].flatten(1)
    assert (images == images[:, :1]).all()
    labels = batch.labels[fold][rows]
    return [Drawn(float(i[0]), int(c)) for i, c in zip(images, labels, strict=True)]


def epoch(of: Batches, fold: int) -> list[Drawn]:
    return [one for batch in of.epoch() for one in drawn(batch, fold)]


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("sampler", ["none", "over"])
def test_every_epoch_delivers_each_row_of_the_sampler_exactly_once(
    sampler: str, tokens: bool
) -> None:
    rows = readable(tokens=tokens)
    of = batches(rows, sampler)
    for k, fold in enumerate(rows.folds):
        wanted = Counter(fold.fit[rows.resampled(k, sampler).rows].tolist())
        for _ in range(2):
            found = epoch(of, k)
            assert Counter(one.row for one in found) == wanted
            assert all(one.label == rows.train.labels[one.row] for one in found)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_that_validates_is_never_drawn_for_training(sampler: str) -> None:
    rows = readable("multimodal")
    of = batches(rows, sampler)
    for k, fold in enumerate(rows.folds):
        made = len(rows.resampled(k, sampler).synthetic)
        real = {int(at) for at in of.orders[k].image_at if at < len(rows.train)}
        assert real <= set(fold.fit.tolist())
        assert (of.orders[k].image_at >= (1 + VIEWS) * len(rows.train)).sum() == made
        if not made:
            seen = {one.row for _ in range(3) for one in epoch(of, k)}
            assert seen <= set(fold.fit.tolist())
            assert not seen & set(fold.val.tolist())


def test_views_are_drawn_for_rows_of_a_minority_class_and_for_no_others() -> None:
    rows = readable()
    of = batches(rows, "none")
    for k, fold in enumerate(rows.folds):
        minority = set(fold.minority.tolist())
        assert minority
        assert len(minority) < 4
        found = [one for _ in range(6) for one in epoch(of, k)]
        assert {one.view for one in found if one.label not in minority} == {0}
        views = Counter(one.view for one in found if one.label in minority)
        assert set(views) == {0, 1, 3}
        for count in views.values():
            assert count / views.total() == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize(("strength", "numbers"), [("light", {0, 1, 3}), ("strong", {0, 2, 4})])
def test_every_row_is_drawn_in_views_of_the_strength_where_all_are_to_be(
    strength: str, numbers: set[int]
) -> None:
    rows = readable()
    of = batches(rows, "over", strength=strength, every_row=True)
    for k, fold in enumerate(rows.folds):
        largest = int(np.bincount(fold.labels[fold.fit]).argmax())
        found = [one for _ in range(6) for one in epoch(of, k)]
        for label in range(4):
            assert {one.view for one in found if one.label == label} == numbers, label
        assert any(one.label == largest and one.view for one in found)


def test_rows_that_validate_are_never_augmented() -> None:
    rows = readable()
    of = batches(rows, "none", every_row=True)
    seen = [images for views, _, _ in of.validation(1000) for images in views]
    assert all(float(images.max()) < STEP for images in seen)


@pytest.mark.parametrize("sampler", ["smote", "smote_tomek"])
def test_made_rows_have_no_views_even_where_every_row_has(sampler: str) -> None:
    rows = readable()
    of = batches(rows, sampler, every_row=True)
    for order in of.orders:
        real = len(order.resampled.rows)
        assert order.varied[:real].all()
        assert not order.varied[real:].any()


def test_without_views_every_row_is_the_image_itself() -> None:
    rows = readable()
    of = batches(rows, "over", views=0)
    assert {one.view for k in range(len(rows.folds)) for one in epoch(of, k)} == {0}


@pytest.mark.parametrize("sampler", ["smote", "smote_tomek"])
def test_made_rows_reach_a_batch_as_they_were_made_and_in_no_other_view(sampler: str) -> None:
    data, source = small("multimodal")
    rows = TrainingRows(data, cut(data), source, tokens=False, seed=5)
    of = batches(rows, sampler)
    all_views = np.concatenate([rows.view(view) for view in range(NUMBERS)])
    for k, fold in enumerate(rows.folds):
        found = rows.resampled(k, sampler)
        width = rows.images.shape[1]
        made = found.synthetic[:, :width] * fold.scaler.scale + fold.scaler.mean
        wanted = np.concatenate([made, found.synthetic[:, width:]], axis=1)
        delivered = np.concatenate(
            [
                torch.cat([b.images, b.tabular], -1)[k][b.mask[k, :, 0].bool()].numpy()
                for b in of.epoch()
            ]
        )
        assert len(delivered) == len(found.labels)
        new = [row for row in delivered if np.abs(all_views - row[:width]).max(1).min() > 1e-6]
        assert len(new) == len(wanted)
        for row in wanted:
            assert np.abs(np.array(new) - row).max(1).min() < 1e-4


def test_a_row_comes_with_the_columns_its_own_fold_encoded() -> None:
    rows = readable()
    of = batches(rows, "over")
    for batch in of.epoch():
        for k, fold in enumerate(rows.folds):
            own = batch.mask[k, :, 0].bool()
            at = [one.row for one in drawn(batch, k)]
            assert np.array_equal(batch.tabular[k][own].numpy(), fold.tabular[at])


def test_batches_are_of_nearly_equal_size_and_a_fold_with_fewer_is_marked_as_over() -> None:
    rows = readable()
    of = batches(rows, "none")
    steps = list(of.epoch())
    for k, fold in enumerate(rows.folds):
        sizes = [int(batch.mask[k].sum()) for batch in steps]
        taken = [size for size in sizes if size]
        assert sum(taken) == len(fold.fit)
        assert len(taken) == -(-len(fold.fit) // 16)
        assert max(taken) - min(taken) <= 1
        assert sizes == taken + [0] * (len(steps) - len(taken))
        assert [bool(batch.active[k]) for batch in steps] == [size > 0 for size in sizes]
    assert len({sum(bool(b.active[k]) for b in steps) for k in range(len(rows.folds))}) > 1


def test_validation_gives_the_rows_that_validate_untouched_and_in_their_order() -> None:
    rows = readable()
    for limit in (5, 1000):
        parts = [(seen[0], *rest) for seen, *rest in batches(rows, "smote").validation(limit)]
        images, tabular, labels = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        assert max(part[0].shape[1] for part in parts) <= limit
        for k, fold in enumerate(rows.folds):
            n = len(fold.val)
            assert images[k, :n, 0].int().tolist() == fold.val.tolist()
            assert labels[k, :n].tolist() == rows.train.labels[fold.val].tolist()
            assert np.array_equal(tabular[k, :n].numpy(), fold.tabular[fold.val])


def test_a_refit_has_no_rows_to_validate() -> None:
    rows = readable()
    everything = cut(rows.train, (0.0,))[0]
    whole = type(everything)(
        "refit",
        tuple(rows.train.ids.tolist()),
        (),
        frozenset(rows.train.patients.tolist()),
        frozenset(),
    )
    refit = TrainingRows(rows.train, [whole], rows.source, tokens=False, seed=5)
    of = batches(refit, "none")
    assert list(of.validation(100)) == []
    assert sorted(one.row for one in epoch(of, 0)) == list(range(len(rows.train)))


@pytest.mark.parametrize("sampler", ["none", "weighted", "over"])
def test_a_folds_order_depends_on_its_own_name_and_seed_and_on_no_other_fold(sampler: str) -> None:
    rows = readable()
    together, again = batches(rows, sampler), batches(rows, sampler)
    other = batches(rows, sampler, seed=4)
    alone = batches(only(rows, 2), sampler)
    for _ in range(2):
        numbers = [one.number for one in epoch(together, 2)]
        assert numbers == [one.number for one in epoch(alone, 0)]
        assert numbers == [one.number for one in epoch(again, 2)]
        assert numbers != [one.number for one in epoch(other, 2)]


def test_the_weighted_sampler_evens_out_the_classes_of_an_epoch() -> None:
    rows = readable()
    of = batches(rows, "weighted")
    counts = Counter(one.label for _ in range(20) for one in epoch(of, 0))
    for count in counts.values():
        assert count / counts.total() == pytest.approx(0.25, abs=0.04)


def test_resampled_rows_are_made_once_a_study_and_kept() -> None:
    rows = readable()
    assert rows.resampled(1, "smote") is rows.resampled(1, "smote")
    assert rows.resampled(1, "smote") is not rows.resampled(2, "smote")
