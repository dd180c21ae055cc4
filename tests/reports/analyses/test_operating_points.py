"""Likelihood ratios, predictive values, fixed points, kappa and the decision curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, roc_auc_score, roc_curve

from outerfold.reports.analyses.decision_curve import (
    THRESHOLDS,
    decision_curve,
    net_benefit,
    treat_all,
)
from outerfold.reports.analyses.operating_points import (
    fixed_points,
    likelihood_ratios,
    ordered_agreement,
    predictive_values,
    sensitivity_at,
    specificity_at,
)
from outerfold.reports.figures.bands import calibration_band, roc_band
from tests.reports.prediction_factory import make, take

ROWS = make(patients=60, rarest=20, seed=3)


def rates() -> tuple[float, float]:
    (tn, fp), (fn, tp) = confusion_matrix(ROWS.labels, ROWS.predicted)
    return tp / (tp + fn), tn / (tn + fp)


def test_likelihood_ratios_are_those_of_the_confusion_matrix():
    found, (sensitivity, specificity) = likelihood_ratios(ROWS, {}, "model"), rates()
    assert found["lr_positive"].estimate == pytest.approx(sensitivity / (1 - specificity))
    assert found["lr_negative"].estimate == pytest.approx((1 - sensitivity) / specificity)
    for one in found.values():
        assert 0 < one.low < one.estimate < one.high


def test_a_ratio_by_zero_has_no_value_and_says_so():
    right = take(ROWS, ROWS.labels == ROWS.predicted)
    found = likelihood_ratios(right, {}, "model")["lr_positive"]
    assert np.isnan(found.estimate)
    assert (found.low, bool(found.reason)) == (None, True)


def test_predictive_values_at_the_data_s_prevalence_are_those_of_the_data():
    (tn, fp), (fn, tp) = confusion_matrix(ROWS.labels, ROWS.predicted)
    ratios = likelihood_ratios(ROWS, {}, "model")
    found = predictive_values(ratios, prevalence=ROWS.labels.mean())
    assert found["ppv"].estimate == pytest.approx(tp / (tp + fp))
    assert found["npv"].estimate == pytest.approx(tn / (tn + fn))
    rare = predictive_values(ratios, prevalence=0.01)
    sensitivity, specificity = rates()
    assert rare["ppv"].estimate == pytest.approx(
        0.01 * sensitivity / (0.01 * sensitivity + 0.99 * (1 - specificity))
    )
    assert 0 < rare["ppv"].low < rare["ppv"].estimate < rare["ppv"].high < 0.2
    assert rare["npv"].low < rare["npv"].estimate < rare["npv"].high < 1


def test_fixed_points_are_read_from_each_fold_s_own_curve():
    found, expected = fixed_points(ROWS, "model"), []
    for fold in sorted(set(ROWS.fold.tolist())):
        at = ROWS.fold == fold
        alarms, hits, _ = roc_curve(
            ROWS.labels[at], ROWS.probabilities[at, 1], drop_intermediate=False
        )
        expected.append(np.interp(0.1 + 1e-9, alarms, hits))
    name = "sensitivity_at_90_specificity"
    assert found[name].estimate == pytest.approx(np.mean(expected), abs=1e-6)
    assert found[name].by_fold == pytest.approx(expected, abs=1e-6)


def test_at_an_edge_of_the_curve_the_better_point_counts():
    positive = np.array([True] * 3 + [False] * 10)
    scores = np.array([0.9, 0.8, 0.05, 0.85, *np.linspace(0.1, 0.7, 9)])
    assert sensitivity_at(positive, scores) == pytest.approx(2 / 3)  # one of ten is called
    assert specificity_at(~positive, -scores, 0.9) == pytest.approx(2 / 3)


@pytest.mark.parametrize("classes", [3, 4])
def test_quadratic_kappa_is_that_of_scikit_learn(classes: int):
    rows = make(patients=50, classes=classes, rarest=9, seed=classes)
    expected = cohen_kappa_score(rows.labels, rows.predicted, weights="quadratic")
    found = ordered_agreement(rows, {}, "model")
    assert found.estimate == pytest.approx(expected)
    assert found.low < expected < found.high


def test_net_benefit_is_that_of_vickers_and_elkin():
    share = float(ROWS.labels.mean())
    for threshold, found in decision_curve(ROWS, {}, "model").items():
        called = (ROWS.probabilities[:, 1] >= threshold).astype(int)
        (_, fp), (_, tp) = confusion_matrix(ROWS.labels, called, labels=[0, 1])
        expected = (tp - fp * threshold / (1 - threshold)) / len(ROWS)
        assert found.estimate == pytest.approx(expected)
        assert net_benefit(ROWS.labels, ROWS.probabilities[:, 1], threshold) == pytest.approx(
            expected
        )
        everyone = net_benefit(ROWS.labels, np.ones(len(ROWS)), threshold)
        assert treat_all(share, threshold) == pytest.approx(everyone)
    assert THRESHOLDS[0] == 0.05
    assert THRESHOLDS[-1] == 0.95


def test_the_area_under_the_drawn_curve_is_the_mean_of_the_folds_areas():
    band = roc_band(ROWS, resamples=50)
    assert band is not None
    each = [
        roc_auc_score(ROWS.labels[at], ROWS.probabilities[at, 1])
        for at in (ROWS.fold == fold for fold in sorted(set(ROWS.fold.tolist())))
    ]
    assert np.trapezoid(band.height, band.x) == pytest.approx(np.mean(each), abs=0.01)
    assert (band.low <= band.height + 1e-9).mean() > 0.95
    assert (band.high >= band.height - 1e-9).mean() > 0.95


def test_the_calibration_curve_of_calibrated_probabilities_is_near_the_diagonal():
    rng = np.random.default_rng(0)
    rows = make(patients=600, rarest=200, seed=1)
    p = rng.uniform(0.05, 0.95, len(rows))
    labels = (rng.random(len(rows)) < p).astype(int)
    fields = {"probabilities": np.stack([1 - p, p], axis=1), "labels": labels}
    band = calibration_band(type(rows)(**{**vars(rows), **fields}), resamples=40)
    assert np.abs(band.height - band.x).max() < 0.08
    assert ((band.low < band.x) & (band.x < band.high)).mean() > 0.6  # neighbours move together
