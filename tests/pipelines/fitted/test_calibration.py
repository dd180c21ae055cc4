"""Temperature and threshold: learnt from out-of-fold rows, checked against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from outerfold.pipelines.fitted.calibration import (
    _NARROW,
    _SIGNAL,
    Decision,
    _note_fit,
    _separates,
    fit_threshold,
    middle_threshold,
)
from outerfold.pipelines.fitted.scaling import Scaling
from outerfold.storage.records import FloatArray, IntArray


def softmax(logits: FloatArray) -> FloatArray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def drawn(rows: int, classes: int, seed: int = 0) -> tuple[IntArray, FloatArray]:
    """Labels that really have the probabilities returned."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(size=(rows, classes)) * 1.5)
    labels = (p.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return labels.astype(np.int64), p


def two(scores: NDArray[np.float64] | list[float]) -> FloatArray:
    score = np.asarray(scores, dtype=np.float64)
    return np.column_stack([1 - score, score])


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_probabilities_too_sure_or_too_timid_is_found(
    classes: int, temperature: float
) -> None:
    labels, honest = drawn(6000, classes)
    distorted = softmax(np.log(honest) * temperature)
    found = Decision.fit(labels, distorted)
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    np.testing.assert_allclose(found.calibrate(distorted), honest, atol=0.03)


def test_the_temperature_is_the_one_of_least_log_loss() -> None:
    labels, honest = drawn(3000, 3)
    p = softmax(np.log(honest) * 2)
    found = Decision.fit(labels, p).temperature

    def loss(temperature: float) -> float:
        calibrated = softmax(np.log(p) / temperature)
        return float(-np.log(calibrated[np.arange(3000), labels]).mean())

    grid = [loss(t) for t in np.geomspace(0.05, 20, 4000)]
    assert loss(found) <= min(grid) + 1e-6  # the ridge's share


@pytest.mark.parametrize("shift", [-2.0, -0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_shift_that_class_weights_gave_two_classes_is_undone(
    shift: float, temperature: float
) -> None:
    labels, honest = drawn(6000, 2)
    odds = (np.log(honest[:, 1] / honest[:, 0]) - shift) * temperature
    moved = two(1 / (1 + np.exp(-odds)))
    found = Decision.fit(labels, moved)
    assert found.shift == pytest.approx(shift, abs=0.1)
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    np.testing.assert_allclose(found.calibrate(moved), honest, atol=0.03)
    brier = [np.mean((p[:, 1] - labels) ** 2) for p in (found.calibrate(moved), moved)]
    assert brier[0] < brier[1]


def test_temperature_and_shift_are_those_of_least_log_loss() -> None:
    labels, honest = drawn(3000, 2)
    p = two(honest[:, 1] ** 2)
    found = Decision.fit(labels, p)

    def loss(decision: Decision) -> float:
        return float(-np.log(decision.calibrate(p)[np.arange(3000), labels]).mean())

    grid = [
        loss(Decision(t, None, s)) for t in np.geomspace(0.2, 5, 60) for s in np.linspace(-3, 3, 61)
    ]
    assert loss(found) <= min(grid) + 1e-4  # the ridge's share


def test_a_shift_changes_no_ranking_and_no_decision() -> None:
    labels, honest = drawn(500, 2)
    odds = np.log(honest[:, 1] / honest[:, 0])
    plain, moved = two(1 / (1 + np.exp(-odds))), two(1 / (1 + np.exp(-(odds - 1.5))))
    assert np.array_equal(
        decisions(labels, plain, "youden", 0.9), decisions(labels, moved, "youden", 0.9)
    )
    calibrated = Decision.fit(labels, moved).calibrate(moved)[:, 1]
    assert (np.diff(calibrated[np.argsort(honest[:, 1])]) >= 0).all()


def test_several_classes_are_not_shifted() -> None:
    labels, p = drawn(500, 3)
    assert Decision.fit(labels, softmax(np.log(p) + np.array([0.0, 1.0, 2.0]))).shift == 0.0


def test_a_temperature_of_one_changes_nothing() -> None:
    _, p = drawn(50, 4)
    np.testing.assert_allclose(Decision(1.0, None).calibrate(p), p, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0, 20.0])
def test_calibration_keeps_the_order_of_two_classes_scores_and_of_any_rows_classes(
    temperature: float,
) -> None:
    decision = Decision(temperature, None)
    _, p = drawn(400, 2)
    order = np.argsort(p[:, 1], kind="stable")
    assert (np.diff(decision.calibrate(p)[order, 1]) >= 0).all()
    _, many = drawn(400, 5)
    calibrated = decision.calibrate(many)
    assert np.array_equal(calibrated.argsort(axis=1), many.argsort(axis=1))
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-12)


def rates(labels: IntArray, predicted: IntArray) -> tuple[float, float]:
    sensitivity = float((predicted[labels == 1] == 1).mean())
    specificity = float((predicted[labels == 0] == 0).mean())
    return sensitivity, specificity


def decisions(labels: IntArray, p: FloatArray, rule: str, target: float) -> IntArray:
    found = Decision.fit(labels, p, rule=rule, target=target)  # type: ignore[arg-type]
    return found.decide(found.calibrate(p))


@st.composite
def two_class_rows(draw: st.DrawFn) -> tuple[IntArray, FloatArray]:
    """Both classes are there; few levels, so that ties are common."""
    n = draw(st.integers(2, 30))
    labels = draw(
        st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda x: 0 < sum(x) < len(x))
    )
    levels = draw(st.sampled_from([2, 6, 200]))
    scores = draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    return np.array(labels), two([(s + 0.5) / (levels + 1) for s in scores])


@settings(max_examples=40, deadline=None)
@given(two_class_rows())
def test_youdens_threshold_is_as_good_as_any_there_is(rows: tuple[IntArray, FloatArray]) -> None:
    labels, p = rows
    best = max(sum(rates(labels, (p[:, 1] >= cut).astype(np.int64))) for cut in [*p[:, 1], 2.0])
    assert sum(rates(labels, decisions(labels, p, "youden", 0.9))) == pytest.approx(best)


@settings(max_examples=40, deadline=None)
@given(two_class_rows(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_target_sensitivity_is_reached_by_the_most_demanding_threshold(
    rows: tuple[IntArray, FloatArray], target: float
) -> None:
    labels, p = rows
    reached = [rates(labels, (p[:, 1] >= cut).astype(np.int64)) for cut in [*p[:, 1], 2.0]]
    best = max(specificity for sensitivity, specificity in reached if sensitivity >= target)
    sensitivity, specificity = rates(labels, decisions(labels, p, "sensitivity", target))
    assert sensitivity >= target
    assert specificity == pytest.approx(best)


@settings(max_examples=40, deadline=None)
@given(two_class_rows(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_target_specificity_is_reached_by_the_least_demanding_threshold(
    rows: tuple[IntArray, FloatArray], target: float
) -> None:
    labels, p = rows
    reached = [rates(labels, (p[:, 1] >= cut).astype(np.int64)) for cut in [*p[:, 1], 2.0]]
    best = max(sensitivity for sensitivity, specificity in reached if specificity >= target)
    sensitivity, specificity = rates(labels, decisions(labels, p, "specificity", target))
    assert specificity >= target
    assert sensitivity == pytest.approx(best)


def test_a_threshold_lies_between_scores_and_not_on_one() -> None:
    labels, p = np.array([0, 0, 1, 1]), two([0.1, 0.3, 0.6, 0.9])
    found = Decision.fit(labels, p, rule="youden")
    assert found.threshold is not None
    below, above = found.calibrate(p)[[1, 2], 1]
    assert below < found.threshold < above


def test_several_classes_decide_by_the_largest_probability() -> None:
    labels, p = drawn(200, 4)
    found = Decision.fit(labels, p)
    assert found.threshold is None
    assert np.array_equal(found.decide(found.calibrate(p)), p.argmax(axis=1))


@pytest.mark.parametrize("rule", ["prevalence", "youden", "sensitivity", "specificity"])
@pytest.mark.parametrize(
    "scores",
    [
        [0.5] * 6,
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [1e-300, 1e-20, 0.5, 0.5, 1.0, 1 - 1e-16],
    ],
)
@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [0] * 6, [1] * 6])
def test_tied_certain_or_one_sided_scores_still_give_a_decision_of_finite_numbers(
    rule: str, scores: list[float], labels: list[int]
) -> None:
    p = two(scores)
    found = Decision.fit(np.array(labels), p, rule=rule)  # type: ignore[arg-type]
    assert found.threshold is not None
    assert np.isfinite([found.temperature, found.shift, found.threshold]).all()
    assert found.temperature > 0
    calibrated = found.calibrate(p)
    assert np.isfinite(calibrated).all()
    assert set(found.decide(calibrated).tolist()) <= {0, 1}


def test_perfect_and_certain_probabilities_stay_perfect() -> None:
    labels = np.array([0, 0, 1, 1])
    assert np.array_equal(decisions(labels, two([0.0, 0.0, 1.0, 1.0]), "youden", 0.9), labels)


def test_the_same_rows_in_another_order_give_the_same_threshold() -> None:
    labels, p = drawn(200, 2)
    order = np.random.default_rng(1).permutation(200)
    first, second = Decision.fit(labels, p), Decision.fit(labels[order], p[order])
    assert first.temperature == pytest.approx(second.temperature, rel=1e-6)
    assert first.threshold == pytest.approx(second.threshold, rel=1e-6)


def test_the_threshold_of_the_prevalence_is_the_share_of_positive_rows() -> None:
    labels, honest = drawn(4000, 2, seed=3)
    found = Decision.fit(labels, two(honest[:, 1] ** 3))
    assert found.threshold == labels.mean()
    # It has nearly the largest sum of sensitivity and specificity, as theory says of true
    # probabilities.
    calibrated = found.calibrate(two(honest[:, 1] ** 3))
    best = max(
        sum(rates(labels, (calibrated[:, 1] >= cut).astype(np.int64)))
        for cut in np.linspace(0.01, 0.99, 99)
    )
    assert sum(rates(labels, found.decide(calibrated))) > best - 0.02


def test_the_mean_calibrated_probability_is_the_prevalence() -> None:
    labels, honest = drawn(300, 2)
    p = two(0.4 + honest[:, 1] / 50)
    calibrated = Decision.fit(labels, p).calibrate(p)
    assert calibrated[:, 1].mean() == pytest.approx(labels.mean(), abs=1e-6)


def fitted(labels: IntArray, p: FloatArray) -> tuple[Decision, FloatArray]:
    decision = Decision.fit(labels, p)
    return decision, decision.calibrate(p)[:, 1]


def test_scores_without_signal_give_the_prevalence_and_are_said() -> None:
    labels = np.repeat([0, 1], [140, 60])
    noise = np.random.default_rng(0).normal(size=200)
    decision, calibrated = fitted(labels, two(1 / (1 + np.exp(-noise))))
    assert decision.note.startswith("out-of-fold probabilities do not separate the classes")
    assert np.abs(calibrated - 0.3).max() < 0.1
    turned, flat = fitted(labels, two(np.where(labels == 1, 0.1, 0.9)))
    assert turned.note == decision.note
    assert np.ptp(flat) < 0.02
    assert flat[0] >= flat[-1], "the order of the scores stays"


def test_scores_that_separate_perfectly_are_said_and_stay_away_from_certain() -> None:
    labels = np.repeat([0, 1], [14, 6])
    decision, calibrated = fitted(labels, two(np.linspace(0.2, 0.8, 20)))
    assert decision.note.startswith("out-of-fold probabilities separate the classes perfectly")
    assert 0.001 < calibrated[0] < 0.3 < 0.7 < calibrated[-1] < 0.999


def test_scores_of_too_few_steps_are_said() -> None:
    labels, honest = drawn(300, 2)
    moved = two(0.5 + (honest[:, 1] - 0.5) / 100)
    assert Decision.fit(labels, moved).note.startswith("the log-odds of uncalibrated")
    assert Decision.fit(labels, honest).note == ""


@pytest.mark.parametrize("rows", [30, 300])
def test_the_fit_equals_scikit_learns_logistic_regression_of_standardised_log_odds(
    rows: int,
) -> None:
    labels, honest = drawn(rows, 2)
    p = two(honest[:, 1] ** 2)
    odds = np.log(p[:, 1] / p[:, 0])
    z = ((odds - odds.mean()) / odds.std())[:, None]
    model = LogisticRegression(C=1.0, tol=1e-10).fit(z, labels)
    found = Decision.fit(labels, p).calibrate(p)
    np.testing.assert_allclose(found, model.predict_proba(z), atol=1e-5)


def test_the_middle_threshold_is_the_median_on_the_logit_scale() -> None:
    assert middle_threshold([0.9, 0.1, 0.3]) == pytest.approx(0.3)
    low, high = 0.2, 0.8 / (0.8 + 0.2 * 16)  # logits of -log 4 and -log 4
    assert middle_threshold([0.2, 0.2]) == pytest.approx(low) == pytest.approx(high)
    odds = (1 / 9 * 4) ** 0.5  # the middle of the logits of 0.1 and 0.8
    assert middle_threshold([0.1, 0.8]) == pytest.approx(odds / (1 + odds))
    assert middle_threshold([0.01, 0.1, 0.8, 0.999]) == pytest.approx(odds / (1 + odds))


def test_the_middle_of_impossible_and_certain_thresholds_is_between_them() -> None:
    assert middle_threshold([0.0, 1.0]) == pytest.approx(0.5, abs=1e-4)
    assert 0 < middle_threshold([0.0, 0.0]) < 1e-6
    assert 1 - 1e-6 < middle_threshold([1.0, 1.0]) < 1


def test_a_negative_row_that_ties_with_the_lowest_positive_is_no_separation() -> None:
    labels = np.repeat([0, 1], [14, 6])
    score = np.linspace(0.2, 0.8, 20)
    score[14] = score[13]
    decision, _ = fitted(labels, two(score))
    assert decision.note == ""


def test_networks_that_have_hardly_moved_are_told_from_those_that_have() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    odds = labels - 0.5 + rng.normal(size=400)
    few, enough = (fitted(labels, two(1 / (1 + np.exp(-size * odds))))[0] for size in (0.05, 0.2))
    assert "spread by 0.05" in few.note
    assert "too few steps" in few.note
    assert enough.note == ""


def test_notes_begin_below_their_limits() -> None:
    labels, probabilities = np.array([0, 1, 0, 1]), two([0.2, 0.6, 0.7, 0.9])
    plain = Scaling(1.0, 0.0, slope=1.0, error=0.1, spread=1.0)
    at = replace(plain, slope=_SIGNAL * 0.1), replace(plain, spread=_NARROW)
    below = replace(plain, slope=0.9 * _SIGNAL * 0.1), replace(plain, spread=0.9 * _NARROW)
    assert [_note_fit(labels, probabilities, one) for one in (plain, *at)] == ["", "", ""]
    notes = [_note_fit(labels, probabilities, one) for one in below]
    assert "do not separate the classes measurably" in notes[0]
    assert "too few steps" in notes[1]


def test_only_two_classes_that_are_both_there_can_be_separated() -> None:
    assert _separates(np.array([0, 1]), two([0.2, 0.3]))
    assert not _separates(np.array([0, 1]), two([0.3, 0.2]))
    assert not _separates(np.array([1, 1]), two([0.2, 0.3]))
    assert not _separates(np.array([0, 1, 2]), np.eye(3))


def test_without_a_negative_row_a_target_specificity_is_above_every_score() -> None:
    score = np.array([0.2, 0.4, 0.9])
    found = fit_threshold(np.ones(3, dtype=bool), score, "specificity", 0.9)
    assert found > 0.9
