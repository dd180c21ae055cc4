"""Ways to a decision are compared on kept searches; planted ones have known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from benchmarks.models.batch_statistics import STATISTICS, constant_momentum
from benchmarks.models.operating_point import RULES, page
from benchmarks.models.operating_rules import EPOCHS, MEASURES, Way, measure
from benchmarks.shared.kept_searches import KeptSearch, KeptTrial
from outerfold.pipelines.heads.stacked import BatchNorm
from outerfold.storage.records import FloatArray
from tests.pipelines.rows.fold_factories import prepared
from tests.pipelines.training.test_heads import begin


def trial(
    y: np.ndarray, others: np.ndarray, sharpness: FloatArray, seed: int, shift: float = 0.0
) -> KeptTrial:
    """Four folds, two networks; ``sharpness (epochs,)`` of the log-odds; the refit is shifted."""
    rng = np.random.default_rng(seed)

    def scores(labels: np.ndarray, *shape: int, moved: float = 0.0) -> np.ndarray:
        noise = rng.normal(size=(*shape, len(labels)))
        odds = sharpness.reshape(-1, *[1] * len(shape)) * (2 * labels - 1) + noise + moved
        return expit(odds).astype(np.float32)

    e = len(sharpness)
    return KeptTrial(
        0.5, scores(y, e, 2), scores(others, e, 2, 4), scores(others, e, 2, moved=shift)
    )


def search(shift: float = 0.0) -> KeptSearch:
    rng = np.random.default_rng(0)
    y, others = rng.integers(0, 2, 400), rng.integers(0, 2, 4000)
    fold = np.arange(400) % 4
    weak = trial(y, others, np.full(12, 0.2), 1)
    strong = trial(y, others, np.array([0.0, 0.2, *[1.5] * 9, 0.1]), 2, shift)
    return KeptSearch(y, fold, others, (weak, strong), (0.0, 0.0))


@pytest.mark.parametrize("epoch", EPOCHS)
def test_every_rule_takes_the_trial_and_an_epoch_that_separate(epoch: str) -> None:
    found = dict(
        zip(MEASURES, measure(search(), Way("x", epoch=epoch, model="refit")), strict=True)
    )
    assert found["ROC-AUC"] == pytest.approx(0.98, abs=0.02)
    assert found["balanced accuracy"] > 0.9
    assert abs(found["sensitivity minus out-of-fold"]) < 0.05


def test_a_refit_on_another_scale_shows_as_a_difference_and_the_folds_do_not() -> None:
    refit = measure(search(shift=3.0), Way("x", model="refit"))
    folds = measure(search(shift=3.0), Way("x"))
    at = MEASURES.index("specificity minus out-of-fold")
    assert refit[at] < -0.4
    assert abs(folds[at]) < 0.1


def test_a_mean_of_noisy_networks_ranks_better_than_one() -> None:
    one, mean = (measure(search(), replace(Way("x"), model=m))[0] for m in ("refit", "mean"))
    assert mean > one


def test_the_page_has_a_table_for_each_kind_of_rule() -> None:
    text = page({"planted": [search(), search()]}, {name: [search()] * 2 for name in STATISTICS})
    assert all(f"## {title}" in text for title in RULES)
    assert "nan" not in text


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_statistics_computed_anew_are_those_of_all_rows_and_train_nothing_else(
    task: str, statistics: str
) -> None:
    rows = prepared(task)
    plain, other = begin(rows, task), begin(rows, task)
    next(iter(plain))
    with STATISTICS[statistics]():
        next(iter(other))
    for name, value in plain.network.state_dict().items():
        same = torch.equal(value, other.network.state_dict()[name])
        assert same == ("running" not in name or statistics == "corrected for the start"), name
    counts = [
        [m.steps.tolist() for m in one.network.modules() if isinstance(m, BatchNorm)]
        for one in (plain, other)
    ]
    assert counts[0] == counts[1]


def test_the_former_statistics_hold_their_start() -> None:
    x = 5 + torch.randn(1, 40, 2)
    with constant_momentum():
        before = BatchNorm(1, 2)
        before(x, torch.ones(1, 40, 1))
    after = BatchNorm(1, 2)
    after(x, torch.ones(1, 40, 1))
    assert before.running_mean.mean().item() == pytest.approx(0.5, abs=0.1)
    assert after.running_mean.mean().item() == pytest.approx(5, abs=0.5)
