"""Calibration over folds: against scikit-learn's logistic regression, and against refitting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from outerfold.reports.analyses import recalibration as recalibrations
from outerfold.reports.analyses.recalibration import (
    intercept_leave_out,
    recalibration,
    slope_leave_out,
)
from outerfold.reports.intervals.coded_rows import code_rows
from tests.reports.prediction_factory import make, take

ROWS = make(patients=80, rarest=30, folds=3, seed=5)


def odds_of(rows):
    return logit(rows.probabilities[:, 1])


def sklearn_slope(rows) -> float:
    folds = np.unique(rows.fold, return_inverse=True)[1]
    design = np.column_stack([odds_of(rows), np.eye(folds.max() + 1)[folds]])
    fitted = LogisticRegression(C=1e10, fit_intercept=False, tol=1e-10, max_iter=2000)
    return float(fitted.fit(design, rows.labels).coef_[0, 0])


def test_the_slope_is_that_of_one_logistic_model_with_an_intercept_a_fold():
    found = recalibration(ROWS, {}, "model")
    assert found.slope.estimate == pytest.approx(sklearn_slope(ROWS), abs=1e-4)
    assert found.slope.low < found.slope.estimate < found.slope.high


def test_leaving_a_patient_out_is_refitting_without_it():
    rows = code_rows(ROWS)
    slope, names = slope_leave_out(rows, odds_of(ROWS)), np.unique(ROWS.patients)
    inter = intercept_leave_out(rows, odds_of(ROWS))
    for patient in (0, 7, 40):
        left = take(ROWS, ROWS.patients != names[patient])
        assert slope.without[patient] == pytest.approx(sklearn_slope(left), abs=2e-3)
        again = intercept_leave_out(code_rows(left), odds_of(left)).estimate
        assert inter.without[patient] == pytest.approx(again, abs=2e-3)


def test_one_step_is_what_newton_takes_first_and_enough_for_many_patients(monkeypatch):
    rows, odds = code_rows(ROWS), odds_of(ROWS)
    monkeypatch.setattr(recalibrations, "_STEPS_WITHOUT", 1)
    first = slope_leave_out(rows, odds).without
    monkeypatch.setattr(recalibrations, "MANY", 1)
    np.testing.assert_allclose(slope_leave_out(rows, odds).without, first, atol=1e-12)


def test_a_fold_that_is_off_shows_in_its_intercept_and_not_in_the_slope():
    """One fold's log-odds are 2 too high; the slope of all rows together would sink."""
    shifted = np.where(ROWS.fold == "outer-1", odds_of(ROWS) + 2, odds_of(ROWS))
    p = 1 / (1 + np.exp(-shifted))
    off = type(ROWS)(**{**vars(ROWS), "probabilities": np.stack([1 - p, p], axis=1)})
    before, found = recalibration(ROWS, {}, "model"), recalibration(off, {}, "model")
    assert found.slope.estimate == pytest.approx(before.slope.estimate, abs=1e-6)
    change = np.subtract(found.intercept.by_fold, before.intercept.by_fold)
    assert change == pytest.approx([0, -2, 0], abs=1e-6)


def test_observed_over_expected_and_the_scaled_brier_score_are_their_definitions():
    found, p = recalibration(ROWS, {}, "model"), ROWS.probabilities[:, 1]
    share = ROWS.labels.mean()
    assert found.ratio.estimate == pytest.approx(ROWS.labels.sum() / p.sum())
    expected = 1 - ((p - ROWS.labels) ** 2).mean() / (share * (1 - share))
    assert found.scaled_brier.estimate == pytest.approx(expected)
    each = [ROWS.labels[ROWS.fold == f].sum() / p[ROWS.fold == f].sum() for f in found.folds]
    assert found.ratio.by_fold == pytest.approx(each)


def test_separated_classes_have_no_slope_and_the_reason_is_said():
    p = np.where(ROWS.labels == 1, 0.9, 0.1)
    apart = type(ROWS)(**{**vars(ROWS), "probabilities": np.stack([1 - p, p], axis=1)})
    found = recalibration(apart, {}, "model").slope
    assert np.isnan(found.estimate)
    assert "separate the classes" in found.reason
