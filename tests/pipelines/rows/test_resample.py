"""Samplers balance one fold's training rows and make nothing but mixtures of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from outerfold.pipelines.rows.resample import NEIGHBOURS, Resampled, resample, resample_many
from outerfold.pipelines.rows.samplers import SAMPLERS
from outerfold.storage.records import IntArray

MAKING = ("smote", "smote_tomek")


def rows(*sizes: int, width: int = 4, apart: float = 1.0) -> tuple[NDArray[np.float32], IntArray]:
    """Inputs (n, width) and labels of classes of these sizes, in a mixed order."""
    rng = np.random.default_rng(len(sizes))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    inputs = rng.normal(size=(len(labels), width)) + apart * labels[:, None]
    return inputs.astype(np.float32), labels.astype(np.int64)


def counts(found: Resampled, classes: int) -> list[int]:
    return np.bincount(found.labels, minlength=classes).tolist()


def epochs(found: Resampled, number: int, seed: int = 0) -> list[IntArray]:
    shuffle, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return [found.order(shuffle=shuffle, draw=draw) for _ in range(number)]


def test_none_leaves_every_row_as_it_is() -> None:
    inputs, labels = rows(20, 5)
    found = resample("none", inputs, labels, seed=1)
    assert found.rows.tolist() == list(range(25))
    assert found.labels.tolist() == labels.tolist()
    assert len(found.synthetic) == 0
    assert found.note == ""


@pytest.mark.parametrize("sampler", ["over", "smote", "smote_tomek"])
@pytest.mark.parametrize("sizes", [(40, 10), (30, 12, 7), (25, 25, 9, 6)])
def test_samplers_that_add_rows_make_the_classes_equal(
    sampler: str, sizes: tuple[int, ...]
) -> None:
    inputs, labels = rows(*sizes, apart=9.0)  # far apart, so that there are no Tomek links
    found = resample(sampler, inputs, labels, seed=1)
    assert counts(found, len(sizes)) == [max(sizes)] * len(sizes)
    assert found.seen(len(sizes)).tolist() == [max(sizes)] * len(sizes)
    assert found.note == ""


def test_the_weighted_sampler_draws_the_classes_in_equal_shares() -> None:
    inputs, labels = rows(70, 20, 10)
    found = resample("weighted", inputs, labels, seed=1)
    np.testing.assert_allclose(found.seen(3), 100 / 3)
    drawn = np.concatenate(epochs(found, 200))
    assert len(drawn) == 200 * 100
    shares = np.bincount(labels[drawn]) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.015)  # 4.5 standard errors
    rarest = np.flatnonzero(labels == 2)
    within = np.bincount(drawn, minlength=100)[rarest] / np.isin(drawn, rarest).sum()
    np.testing.assert_allclose(within, 0.1, atol=0.02)


def test_all_but_the_weighted_sampler_deliver_every_row_once_an_epoch_in_a_new_order() -> None:
    inputs, labels = rows(20, 8)
    for sampler in set(SAMPLERS) - {"weighted"}:
        found = resample(sampler, inputs, labels, seed=1)
        first, second = epochs(found, 2)
        assert sorted(first.tolist()) == list(range(len(found.labels)))
        assert sorted(second.tolist()) == list(range(len(found.labels)))
        assert first.tolist() != second.tolist()


@pytest.mark.parametrize("sampler", MAKING)
@pytest.mark.parametrize("sizes", [(30, 8), (24, 11, 3), (12, 2)])
def test_made_rows_lie_between_two_training_rows_of_their_class(
    sampler: str, sizes: tuple[int, ...]
) -> None:
    inputs, labels = rows(*sizes, apart=0.5)
    found = resample(sampler, inputs, labels, seed=3)
    made = found.labels[len(found.rows) :]
    assert len(made) == len(found.synthetic) > 0
    for row, label in zip(found.synthetic, made, strict=True):
        own = inputs[labels == label].astype(np.float64)
        start, step = own[:, None, :], own[None, :, :] - own[:, None, :]
        length = np.square(step).sum(-1)
        along = ((row - start) * step).sum(-1) / np.where(length > 0, length, 1)
        nearest = start + np.clip(along, 0, 1)[..., None] * step
        assert np.linalg.norm(row - nearest, axis=-1).min() < 1e-5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_real_rows_are_the_given_ones_with_their_own_labels(sampler: str) -> None:
    inputs, labels = rows(25, 9, 4, apart=0.3)
    before = inputs.copy(), labels.copy()
    found = resample(sampler, inputs, labels, seed=5)
    assert found.rows.dtype == found.labels.dtype == np.int64
    assert found.rows.min() >= 0
    assert found.rows.max() < len(labels)
    assert found.labels[: len(found.rows)].tolist() == labels[found.rows].tolist()
    assert len(found.labels) == len(found.rows) + len(found.synthetic)
    assert np.array_equal(inputs, before[0])
    assert np.array_equal(labels, before[1])


def test_tomek_links_take_neighbours_of_unlike_classes_out_in_pairs() -> None:
    inputs, labels = rows(40, 15, apart=0.4)
    plain = resample("smote", inputs, labels, seed=2)
    cleaned = resample("smote_tomek", inputs, labels, seed=2)
    assert counts(plain, 2) == [40, 40]
    assert counts(cleaned, 2)[0] == counts(cleaned, 2)[1] < 40
    gone = set(plain.rows.tolist()) - set(cleaned.rows.tolist())
    assert {0, 1} >= set(labels[sorted(gone)].tolist())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_rows(sampler: str) -> None:
    inputs, labels = rows(30, 9)
    first, second = (resample(sampler, inputs, labels, seed=2**62 + 5) for _ in range(2))
    assert first.rows.tolist() == second.rows.tolist()
    assert first.synthetic.tobytes() == second.synthetic.tobytes()
    for a, b in zip(epochs(first, 3), epochs(second, 3), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("sampler", ["over", *MAKING])
def test_another_seed_repeats_or_mixes_other_rows(sampler: str) -> None:
    inputs, labels = rows(30, 9)
    first, second = (resample(sampler, inputs, labels, seed=seed) for seed in (1, 2))
    assert (
        first.rows.tolist() != second.rows.tolist()
        or first.synthetic.tobytes() != second.synthetic.tobytes()
    )


@pytest.mark.parametrize("sampler", MAKING)
def test_a_class_of_one_row_is_repeated_instead_and_the_note_says_so(sampler: str) -> None:
    inputs, labels = rows(20, 1)
    found = resample(sampler, inputs, labels, seed=1)
    assert counts(found, 2) == [20, 20]
    assert len(found.synthetic) == 0
    assert found.note == (f"{sampler}: a class has 1 training image, so rows were repeated instead")


@pytest.mark.parametrize("sampler", MAKING)
@pytest.mark.parametrize("size", [2, 3, NEIGHBOURS])
def test_a_class_smaller_than_its_neighbours_uses_fewer_and_the_note_says_so(
    sampler: str, size: int
) -> None:
    inputs, labels = rows(20, size, apart=9.0)
    found = resample(sampler, inputs, labels, seed=1)
    assert counts(found, 2) == [20, 20]
    assert found.note == (
        f"{sampler}: {size - 1} neighbours instead of {NEIGHBOURS}, "
        f"for a class of {size} training images"
    )


@pytest.mark.parametrize("sampler", MAKING)
def test_a_class_with_neighbours_enough_gets_no_note(sampler: str) -> None:
    inputs, labels = rows(20, NEIGHBOURS + 1)
    assert resample(sampler, inputs, labels, seed=1).note == ""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_class_absent_from_a_fold_or_alone_in_it_breaks_nothing(sampler: str) -> None:
    inputs, labels = rows(0, 12, 7)
    assert resample(sampler, inputs, labels, seed=1).seen(3)[0] == 0
    alone = resample(sampler, inputs, np.ones(19, dtype=np.int64), seed=1)
    assert alone.seen(2).tolist() == [0, 19]
    assert len(epochs(alone, 1)[0]) == 19


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown sampler 'adasyn'; known are \['none', 'over'"):
        resample("adasyn", *rows(5, 5), seed=1)


@pytest.mark.parametrize("sampler", MAKING)
def test_two_rows_of_a_class_are_enough_and_one_class_alone_is_repeated(sampler: str) -> None:
    inputs, labels = rows(12, 2, apart=9.0)
    for found in (
        resample(sampler, inputs, labels, seed=1),
        resample_many(sampler, lambda at: inputs[at], labels, seed=1),
    ):
        assert counts(found, 2) == [12, 12]
        assert "repeated" not in found.note
    for sizes in ((12, 1), (12,)):
        inputs, labels = rows(*sizes)
        for found in (
            resample(sampler, inputs, labels, seed=1),
            resample_many(sampler, lambda at, held=inputs: held[at], labels, seed=1),
        ):
            assert counts(found, len(sizes)) == [12] * len(sizes)
            assert len(found.synthetic) == 0
            assert "so rows were repeated instead" in found.note


def test_many_rows_of_a_fold_that_lacks_the_first_class_are_interpolated() -> None:
    labels = np.repeat([1, 2], [12, 6])
    rows = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    made = resample_many("smote", lambda at: rows[at], labels, seed=0)
    assert np.bincount(made.labels).tolist() == [0, 12, 12]
    assert len(made.pairs.first) == 6
    alone = resample_many("smote", lambda at: rows[at], np.ones(18, dtype=np.int64), seed=0)
    assert alone.labels.tolist() == [1] * 18
    assert "instead" in alone.note


def test_the_weight_of_a_row_is_the_inverse_of_its_classs_count() -> None:
    found = resample("weighted", np.zeros((4, 2), np.float32), np.array([0, 0, 0, 2]), seed=0)
    assert found.weights is not None
    np.testing.assert_allclose(found.weights, [1 / 3, 1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize("labels", [[0, 0, 0, 2], [0, 0, 0, 0]])
def test_many_rows_of_one_class_or_with_a_class_of_one_are_repeated(labels: list[int]) -> None:
    def read(at: IntArray) -> NDArray[np.float32]:
        raise AssertionError("no row is interpolated")

    found = resample_many("smote", read, np.array(labels), seed=0)
    counts = np.unique(found.labels, return_counts=True)[1]
    assert set(counts.tolist()) == {max(labels.count(0), 0)}
    assert f"a class has {min(labels.count(x) for x in labels)} training image" in found.note


def test_a_class_that_no_row_has_is_no_smallest_class() -> None:
    inputs = np.random.default_rng(0).random((12, 2)).astype(np.float32)
    found = resample("smote", inputs, np.array([0] * 8 + [2] * 4), seed=0)
    assert np.bincount(found.labels).tolist() == [8, 0, 8]
    assert found.note == "smote: 3 neighbours instead of 5, for a class of 4 training images"
