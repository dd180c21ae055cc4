"""Rank metrics without each patient, and of weighted rows, against scoring the rows anew."""

from __future__ import annotations

import numpy as np
import pytest

from outerfold.objectives.measures.metric import Ranks
from outerfold.objectives.measures.ranks import RANKS
from outerfold.storage.records import BoolArray, FloatArray, IntArray

HOW = {metric.name: metric.how for metric in RANKS if isinstance(metric.how, Ranks)}


def rows(seed: int, patients: int = 9, levels: int = 6) -> tuple[BoolArray, FloatArray, IntArray]:
    """Tied scores of one to five images a patient, some patients with both classes."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), draw.integers(1, 6, patients))
    order = draw.permutation(len(patient))
    positive = draw.random(len(patient)) < 0.4
    scores = draw.integers(0, levels, len(patient)) / levels
    return positive[order], scores, patient[order]


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("levels", [2, 6, 1000])
@pytest.mark.parametrize("seed", range(12))
def test_each_patient_is_left_out_exactly(name: str, levels: int, seed: int) -> None:
    positive, scores, patient = rows(seed, levels=levels)
    whole, without = HOW[name].without(positive, scores, patient, 9)
    assert whole == pytest.approx(HOW[name].of_class(positive, scores), abs=1e-12)
    again = [HOW[name].of_class(positive[patient != p], scores[patient != p]) for p in range(9)]
    np.testing.assert_allclose(without, again, atol=1e-12)


@pytest.mark.parametrize("name", HOW)
def test_without_the_only_patient_of_a_class_nothing_is_defined(name: str) -> None:
    positive = np.array([True, True, False, False, False])
    scores, patient = np.array([0.9, 0.2, 0.5, 0.1, 0.7]), np.array([0, 0, 1, 2, 2])
    assert np.isnan(HOW[name].without(positive, scores, patient, 3)[1]).tolist() == [
        True,
        False,
        False,
    ]
    assert np.isnan(HOW[name].of_class(positive[2:], scores[2:]))


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("levels", [2, 6, 1000])
def test_a_weight_counts_a_row_so_often(name: str, levels: int) -> None:
    positive, scores, _ = rows(3, levels=levels)
    weights = np.random.default_rng(4).integers(0, 4, (8, len(scores)))
    weights[0] = 1
    weights[1] = positive  # no negative is left
    weights[2] = ~positive
    found = HOW[name].weighted(positive, scores, weights.astype(np.float64))
    again = [HOW[name].of_class(np.repeat(positive, w), np.repeat(scores, w)) for w in weights]
    np.testing.assert_allclose(found, again, atol=1e-12)


def test_folds_are_pooled_for_the_average_precision_of_few_patients_alone() -> None:
    assert {name: how.pool_below for name, how in HOW.items()} == {
        "roc_auc": 0,
        "average_precision": 5,
    }
