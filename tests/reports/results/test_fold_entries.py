from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from outerfold.reports.analyses.calibration_slope import SEPARATED, Slope, calibration_slope
from outerfold.reports.intervals.overall import fixed_models, overall
from outerfold.reports.results.fold_entries import odd_decisions, odd_slope
from outerfold.reports.results.results import results
from outerfold.reports.sections.page_one import caution_lines
from outerfold.storage.records import Predictions, Run
from tests.reports.prediction_factory import make
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished


def calibrated(n: int, *, slope: float = 1.0, seed: int = 0, fold: str = "outer-0") -> Predictions:
    """One fold of patients with one image, whose true log-odds are ``slope`` times the stated."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.7, 1.3, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-slope * odds))).astype(np.int64)
    p = 1 / (1 + np.exp(-odds))
    names = np.array([f"{fold}-{i}" for i in range(n)])
    return Predictions(
        names,
        names,
        np.full(n, fold),
        np.zeros(n, dtype=np.int64),
        labels,
        np.stack([1 - p, p], axis=1),
        (p >= 0.4).astype(np.int64),
        BINARY,
    )


def changed(run: Run, fold: int, **rows: np.ndarray) -> Run:
    """The run with other test rows in one outer fold."""
    study = run.outer[fold]
    assert study.test is not None
    test = replace(study.test, **rows)
    outer = tuple(replace(s, test=test) if at == fold else s for at, s in enumerate(run.outer))
    return replace(run, outer=outer)


def odd(run: Run, level: str = "image") -> dict[str, list[str]]:
    return {fold["fold"]: fold["odd"] for fold in results(run)["folds"][level] if fold["odd"]}


def test_a_fold_that_calls_everything_one_class_is_odd_and_its_twin_is_not():
    run = make_run()
    size = len(run.outer[2].test)
    planted = changed(run, 2, predicted=np.ones(size, dtype=np.int64))
    positives = int(run.outer[2].test.labels.sum())
    assert odd(planted) == {
        "outer-2": [f"calls every image cancer (of which {positives} are)"],
    }
    assert odd(run) == {}


def test_a_class_that_one_fold_hardly_finds_is_odd():
    run = make_run(FOUR)
    rows = run.outer[1].test
    missed = np.where(rows.labels == 3, 0, rows.labels)
    assert odd(changed(run, 1, predicted=missed)) == {
        "outer-1": [f"finds 0 of {int((rows.labels == 3).sum())} Cancer"]
    }


@pytest.mark.parametrize(("slope", "word"), [(6.0, "moderate"), (-0.5, "extreme")])
def test_a_calibration_slope_far_off_is_odd(slope, word):
    (said,) = odd_slope(calibration_slope(calibrated(80, slope=slope)), 1.0, folds=5)
    assert "calibration slope of" in said
    assert "where 1.00 is usual in this run" in said
    assert said.endswith(f"probabilities are too {word}")


@pytest.mark.parametrize("usual", [1.0, 1.8])
def test_few_folds_are_odd_that_are_as_the_others(usual):
    folds = [calibrated(40, slope=usual, seed=seed) for seed in range(500)]
    slopes = [calibration_slope(rows, usual) for rows in folds]
    assert sum(bool(odd_slope(slope, usual, folds=1)) for slope in slopes) <= 2
    assert sum(bool(odd_decisions(rows)) for rows in folds) <= 5


def test_one_of_many_folds_has_to_be_further_off_to_be_odd():
    slope = Slope(2.5, 1.4, 3.6, chi2=8.0)  # p = 0.0047
    assert odd_slope(slope, 1.0, folds=2)
    assert not odd_slope(slope, 1.0, folds=3)
    assert not odd_slope(slope, 1.3, folds=1), "less than twice the usual one"
    assert "where 1 is ideal" in odd_slope(slope, None, folds=1)[0]


def run_of_slopes(*slopes: float, patients: int = 80) -> Run:
    """A run whose outer folds have these calibration slopes."""
    run = make_run()
    tests = [
        calibrated(patients, slope=slope, seed=at, fold=study.name)
        for at, (study, slope) in enumerate(zip(run.outer, slopes, strict=True))
    ]
    outer = tuple(
        replace(study, test=test, variation=None, default=None)
        for study, test in zip(run.outer, tests, strict=True)
    )
    return replace(run, outer=outer, data=None, sides={})


def cautions(run: Run) -> list[str]:
    return [line for line in caution_lines(results(run)) if "slope" in line]


def test_a_fold_is_odd_where_it_is_unlike_the_others_and_all_folds_are_a_caution_of_their_own():
    count = len(make_run().outer)
    assert cautions(run_of_slopes(*[1.0] * count)) == []
    assert cautions(run_of_slopes(*[1.6] * count)) == []  # as the mean of networks often is
    (one,) = cautions(run_of_slopes(*[1.0] * (count - 1), 5.0, patients=120))
    assert one.startswith(f"Odd fold, by image: outer-{count - 1} has a calibration slope of")
    assert "is usual in this run: its probabilities are too moderate" in one
    (whole,) = cautions(run_of_slopes(*[4.0] * count))
    assert whole.startswith("The calibration slope over all folds is")
    assert whole.endswith("the probabilities are too moderate throughout.")
    (whole,) = cautions(run_of_slopes(*[0.2] * count))
    assert whole.endswith("the probabilities are too extreme throughout.")


def test_the_slope_is_that_of_a_logistic_regression():
    rows = calibrated(400, slope=0.6)
    odds = np.log(rows.probabilities[:, 1] / rows.probabilities[:, 0])[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds, rows.labels)
    found = calibration_slope(rows)
    assert found.estimate == pytest.approx(model.coef_[0, 0], abs=1e-5)
    assert found.low < 0.6 < found.high < 1


def test_the_interval_of_the_slope_covers():
    held = 0
    for seed in range(200):
        found = calibration_slope(calibrated(80, seed=seed))
        held += found.low <= 1 <= found.high
    assert held >= 180


def test_a_perfectly_separated_fold_has_no_slope():
    rows = calibrated(60)
    odds = np.where(rows.labels == 1, 0.8, 0.2) + np.linspace(0, 0.1, 60)
    found = calibration_slope(replace(rows, probabilities=np.stack([1 - odds, odds], axis=1)))
    assert found.estimate is None
    assert found.reason == SEPARATED


def test_intervals_of_a_fold_are_of_its_own_rows_alone_without_stretch():
    rows = make(patients=120, folds=3, rarest=40)
    first = rows.take(rows.fold == "outer-0")
    alone = fixed_models(first)["outer-0"]
    assert fixed_models(rows)["outer-0"] == alone
    stretched = overall(first, tuned=True)
    for name in ("roc_auc", "accuracy", "sensitivity", "brier"):
        assert alone[name].estimate == pytest.approx(stretched[name].estimate)
        inside = alone[name].high - alone[name].low
        assert inside < stretched[name].high - stretched[name].low
        assert "model fixed" in alone[name].method
    assert "ece" not in alone


def test_below_five_patients_of_a_class_a_fold_has_no_interval():
    rows = calibrated(60)
    few = rows.take(
        np.sort(np.r_[np.flatnonzero(rows.labels == 1)[:4], np.flatnonzero(rows.labels == 0)])
    )
    found = fixed_models(few)["outer-0"]
    assert found["roc_auc"].low is None
    assert "an interval needs 5" in found["roc_auc"].reason
    assert calibration_slope(few).low is None


def test_the_folds_of_a_run_have_their_choices_beside_the_scores():
    run = make_run()
    numbers = results(run)
    for fold, study, outer in zip(
        numbers["folds"]["image"], run.outer, numbers["outer"], strict=True
    ):
        assert fold["fold"] == study.name
        assert (fold["threshold"], fold["epochs"]) == (study.threshold, study.epochs)
        assert fold["metrics"]["roc_auc"]["estimate"] == pytest.approx(outer["metrics"]["roc_auc"])
    low, high = numbers["overall"]["roc_auc"]["fold_range"]
    assert low == min(numbers["overall"]["roc_auc"]["by_fold"])
    assert high == max(numbers["overall"]["roc_auc"]["by_fold"])
    assert results(unfinished(run, folds=0))["folds"] == {}
