"""A small, seeded part of the coverage benchmark: an interval that stops covering is seen."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.shared.simulation.cohorts import Cell, population, project
from benchmarks.shared.simulation.learners import fit_logistic
from benchmarks.shared.simulation.simulated_study import CONTROLS, simulate
from outerfold.objectives.measures.ranks import roc_auc

CELL = Cell("guard", 60, (0.3,), 0.6)


@pytest.fixture(scope="module")
def studies():
    everyone = population(CELL)
    return [simulate(CELL, 0, replicate, everyone, whole=False) for replicate in range(90)]


def covered(low, high, truth):
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.slow
def test_patient_jackknife_covers_the_refit_model(studies):
    names = studies[0].metrics
    intervals = np.array([study.intervals for study in studies])
    truth = np.array([study.truth for study in studies])
    for at, name in enumerate(names):
        share = covered(intervals[:, at, 1], intervals[:, at, 2], truth[:, at])
        assert share >= (0.87 if name == "ece" else 0.92), (name, share)


@pytest.mark.slow
def test_intervals_that_are_wrong_fail_in_the_same_harness(studies):
    truth = np.array([study.truth[study.metrics.index("roc_auc")] for study in studies])
    controls = np.array([study.controls for study in studies])
    shares = {
        name: covered(controls[:, at, 0], controls[:, at, 1], truth)
        for at, name in enumerate(CONTROLS)
    }
    assert shares["image bootstrap"] < 0.85
    assert shares["mean +/- 1.96 sd/sqrt(5)"] < 0.88
    assert shares["Nadeau-Bengio"] > 0.92


@pytest.mark.slow
def test_learnt_thresholds_are_covered_too():
    cell = replace(
        CELL, name="guard, threshold", patients=150, prevalence=(0.1,), choice="threshold"
    )
    everyone = population(cell)
    found = [simulate(cell, 0, replicate, everyone, whole=False) for replicate in range(50)]
    at = found[0].metrics.index("specificity")
    low, high = np.array([study.intervals[at, 1:] for study in found]).T
    assert covered(low, high, np.array([study.truth[at] for study in found])) >= 0.88


@pytest.mark.slow
def test_a_split_by_image_is_beyond_repair():
    cell = replace(CELL, name="guard, leak", features=60, icc=0.9, split="images")
    everyone = population(cell)
    found = [simulate(cell, 0, replicate, everyone) for replicate in range(8)]
    at = found[0].metrics.index("roc_auc")
    assert np.mean([study.intervals[at, 0] - study.truth[at] for study in found]) > 0.15
    assert np.mean([study.intervals[at, 1] <= study.truth[at] for study in found]) < 0.2


def test_a_replicate_depends_on_its_number_alone():
    everyone = population(CELL)
    one, two = (simulate(CELL, 0, 3, everyone) for _ in range(2))
    np.testing.assert_array_equal(one.intervals, two.intervals)
    np.testing.assert_array_equal(one.controls, two.controls)


def test_the_batched_regression_is_sklearns():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.random(80) < 0.4
    rows = (rng.random((3, 80)) < 0.8) * 1.0
    betas = fit_logistic(x, y * 1.0, rows, np.full((3, 5), 0.5))
    for beta, seen in zip(betas, rows > 0, strict=True):
        model = LogisticRegression(C=2.0, tol=1e-9, max_iter=1000).fit(x[seen], y[seen])
        np.testing.assert_allclose(beta, [*model.coef_[0], *model.intercept_], atol=2e-3)


def test_the_closed_form_population_is_the_drawn_one():
    slopes = np.random.default_rng(0).normal(size=CELL.features)
    labels, scores = project(CELL, slopes, 0.3)
    drawn = population(CELL)
    expected = roc_auc(drawn.labels == 1, drawn.x @ slopes + 0.3)
    assert roc_auc(labels == 1, scores) == pytest.approx(expected, abs=0.01)
    assert scores.mean() == pytest.approx((drawn.x @ slopes + 0.3).mean(), abs=0.1)
