"""The patient jackknife's intervals, their fall-backs and what is said beside them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from outerfold.objectives.measures.decisions import class_scores, confusion, decision_scores
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.bootstrap import without_bias
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.jackknife import jackknife_error, total_error, wilson_interval
from outerfold.reports.intervals.leave_one_out import (
    class_leave_outs,
    overall_leave_outs,
)
from outerfold.reports.intervals.leave_out_record import fold_thresholds
from outerfold.reports.intervals.overall import overall, per_class
from outerfold.reports.intervals.support import overall_support
from outerfold.storage.records import Predictions
from tests.reports.prediction_factory import FIELDS, make, take


def test_standard_error_and_degrees_of_freedom_are_the_formulas():
    values = np.random.default_rng(0).gamma(1.0, size=30)
    se, df = jackknife_error(values)
    d = values - values.mean()
    assert se == pytest.approx(math.sqrt(29 / 30 * (d**2).sum()))
    assert df == pytest.approx(2 * 30 / (stats.kurtosis(values, fisher=False) - 1))
    assert jackknife_error(np.append(np.zeros(99), 1.0))[1] == pytest.approx(2.06, abs=0.01)
    assert jackknife_error(np.tile([-1.0, 1.0], 10))[1] == 19


def test_wilson_is_scipys():
    expected = stats.binomtest(17, 40).proportion_ci(0.95, method="wilson")
    assert wilson_interval(17 / 40, 40, stats.norm.ppf(0.975)) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("tuned", "stretch"), [(True, 1.4), (False, 1.25)])
def test_interval_is_the_stretched_error_on_the_scale_its_method_names(tuned, stretch):
    rows = make(patients=120, rarest=40)
    found, leaves = overall(rows, tuned=tuned), overall_leave_outs(code_rows(rows))
    for name in ("roc_auc", "balanced_accuracy", "f1", "brier"):
        se, df = jackknife_error(leaves[name].without)
        p, half = found[name].estimate, stretch * se * stats.t.ppf(0.975, df)
        logits = [math.log(x / (1 - x)) for x in (found[name].low, p, found[name].high)]
        assert np.diff(logits) == pytest.approx(half / (p * (1 - p)))
        assert found[name].method == f"patient jackknife, logit, standard error × {stretch}"
    se, df = jackknife_error(leaves["accuracy"].without)
    p = found["accuracy"].estimate
    worth = min(len(rows), p * (1 - p) / (stretch * se) ** 2)
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx(
        wilson_interval(p, worth, stats.t.ppf(0.975, df))
    )
    assert found["accuracy"].method == f"patient jackknife, Wilson, standard error × {stretch}"


def test_every_interval_holds_its_estimate_and_stays_in_range():
    for seed in range(8):
        for classes in (2, 3):
            rows = make(classes=classes, seed=seed, rarest=8, mixed=seed % 2 == 1)
            for name, one in overall(rows, tuned=True).items():
                top = 2 if name == "brier" and classes == 3 else 1
                assert 0 <= one.low <= one.estimate <= one.high <= top, (name, one)


def test_overall_holds_every_metric_and_several_classes_have_no_sensitivity():
    assert list(overall(make(), tuned=True)) == list(METRICS)
    several = overall(make(classes=3), tuned=True)
    assert set(METRICS) - set(several) == {"sensitivity", "specificity"}


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_row_order_and_patient_names_change_nothing(random):
    rows = make(repeats=2, rarest=9)
    order = np.array(random.sample(range(len(rows)), len(rows)))
    names = {name: f"Q{i}" for i, name in enumerate(random.sample(sorted(set(rows.patients)), 40))}
    other = take(rows, order)
    other = replace(other, patients=np.array([names[p] for p in other.patients]))
    before, after = overall(rows, tuned=True), overall(other, tuned=True)
    for name, one in before.items():
        assert after[name].notes == one.notes
        assert after[name].by_fold == pytest.approx(one.by_fold, abs=1e-12, nan_ok=True)
        got = (after[name].estimate, after[name].low, after[name].high)
        assert got == pytest.approx((one.estimate, one.low, one.high), abs=1e-9), name


def test_decisions_are_taken_as_given():
    rows = make(rarest=12)
    flipped = overall(replace(rows, predicted=1 - rows.predicted), tuned=True)
    usual = overall(rows, tuned=True)
    assert flipped["accuracy"].estimate == pytest.approx(1 - usual["accuracy"].estimate)
    assert flipped["roc_auc"] == usual["roc_auc"]


def test_more_images_of_the_same_patients_do_not_narrow_an_interval():
    rows = make(patients=60, rarest=20)
    copies = [replace(rows, ids=np.array([f"{i}-{c}" for i in rows.ids])) for c in range(5)]
    five = Predictions(
        *(np.concatenate([getattr(c, f) for c in copies]) for f in FIELDS), rows.classes
    )
    for name, one in overall(rows, tuned=True).items():
        again = overall(five, tuned=True)[name]
        assert (again.low, again.high) == pytest.approx((one.low, one.high), abs=2e-3), name


def test_identical_repeats_give_the_interval_of_one():
    rows = make(patients=60, rarest=20)
    twice = Predictions(*(np.concatenate([getattr(rows, f)] * 2) for f in FIELDS), rows.classes)
    twice.repeat[len(rows) :] = 1
    for name, one in overall(rows, tuned=True).items():
        again = overall(twice, tuned=True)[name]
        assert (again.estimate, again.low, again.high) == pytest.approx(
            (one.estimate, one.low, one.high), abs=1e-9
        ), name
        assert len(again.by_fold) == 10


def test_four_patients_of_a_class_have_an_estimate_but_no_interval():
    for one in overall(make(rarest=4), tuned=True).values():
        assert math.isfinite(one.estimate)
        assert one.low is None
        assert one.high is None
        assert one.reason == "4 patients with 'b', but an interval needs 5"


def test_few_patients_of_a_class_are_cautioned():
    assert all(
        "caution: only 9 patients with 'b'" in one.notes
        for one in overall(make(rarest=9), tuned=True).values()
    )
    assert not any(
        "caution" in " ".join(one.notes) for one in overall(make(rarest=15), tuned=True).values()
    )


def test_a_rare_class_does_not_cost_the_others_their_intervals():
    found = per_class(make(patients=90, classes=3, rarest=30), tuned=True)
    rows = make(patients=90, classes=3, rarest=30)
    rare = take(rows, ~((rows.labels == 2) & (rows.patients > "P032")))
    mixed = per_class(rare, tuned=True)
    assert set(found) == {"a", "b", "c"}
    assert mixed["c"]["recall"].low is None
    assert mixed["a"]["recall"].low is not None
    assert set(found["a"]) == {
        "precision",
        "recall",
        "f1",
        "specificity",
        "roc_auc",
        "average_precision",
    }


def test_a_perfect_model_falls_back_to_wilson_over_the_patients_that_count():
    found = overall(make(skill=50.0, rarest=10), tuned=True)
    assert found["roc_auc"].estimate == 1
    assert found["roc_auc"].method == "Wilson, 10 patients"
    assert found["roc_auc"].low == pytest.approx(wilson_interval(1.0, 10, 1.959964)[0], abs=1e-6)
    assert found["accuracy"].method == "Wilson, 40 patients"
    assert found["specificity"].method == "Wilson, 30 patients"


def test_a_class_never_predicted_is_flagged():
    rows = make(rarest=10)
    none = replace(rows, predicted=np.zeros_like(rows.predicted))
    macro = overall(none, tuned=True)["precision"]
    assert "'b' is never predicted: its precision counts as 0" in macro.notes
    own = per_class(none, tuned=True)["b"]["precision"]
    assert (own.estimate, own.low, own.reason) == (0, None, "no image is predicted as this class")


def test_a_fold_that_lacks_a_class_drops_out_and_is_named():
    rows = make(patients=60, rarest=20)
    kept = take(rows, ~((rows.fold == "outer-3") & (rows.labels == 1)))
    one = overall(kept, tuned=True)["roc_auc"]
    assert math.isnan(one.by_fold[3])
    assert one.estimate == pytest.approx(np.mean([one.by_fold[k] for k in (0, 1, 2, 4)]))
    assert one.notes[0] == "outer-3 lacks a class and is left out of the mean over folds"


def test_average_precision_pools_folds_with_few_positive_patients_and_says_so():
    few, many = overall(make(rarest=9), tuned=True), overall(make(200, rarest=90), tuned=True)
    note = "folds are pooled, because one has fewer than 5 patients with the class"
    assert note in few["average_precision"].notes
    assert note not in many["average_precision"].notes
    rows = make(rarest=9)
    assert few["average_precision"].estimate == pytest.approx(
        reference.average_precision_score(rows.labels, rows.probabilities[:, 1])
    )


def test_ece_loses_the_share_of_its_bias_that_resampling_can_see():
    rng = np.random.default_rng(0)
    raw, corrected = [], []
    for seed in range(20):
        rows = make(patients=100, rarest=40, seed=seed)
        p = rng.random(len(rows))
        labels = (rng.random(len(rows)) < p).astype(int)
        table = replace(rows, labels=labels, probabilities=np.stack([1 - p, p], axis=1))
        raw.append(METRICS["ece"].score(labels, table.probabilities))
        corrected.append(without_bias(code_rows(table), METRICS["ece"].how, raw[-1]))
    assert np.mean(corrected) / np.mean(raw) == pytest.approx(2 - math.sqrt(2), abs=0.05)


def test_a_level_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"such as 0\.95, found 95"):
        overall(make(rarest=9), tuned=True, level=95)


def test_a_higher_level_is_wider():
    rows = make(rarest=12)
    usual, strict = overall(rows, tuned=True), overall(rows, tuned=True, level=0.99)
    assert all(strict[k].low <= usual[k].low for k in usual)
    assert all(strict[k].high >= usual[k].high for k in usual)


def with_thresholds(rows, thresholds):
    """Each fold decided by its own threshold."""
    each = np.array([thresholds[int(name.split("-")[1])] for name in rows.fold])
    return replace(rows, predicted=(rows.probabilities[:, 1] >= each).astype(int))


def test_a_threshold_is_found_between_what_it_divides():
    rows = make(patients=300, rarest=100)
    told = [0.2, 0.3, 0.4, 0.5, 0.6]
    found = fold_thresholds(code_rows(with_thresholds(rows, told)))
    np.testing.assert_allclose(found, told, atol=0.03)


def test_one_threshold_for_all_folds_adds_no_variance():
    rows = make(patients=300, rarest=100)
    assert not len(fold_thresholds(code_rows(with_thresholds(rows, [0.37] * 5))))
    assert all(leave.moved == 0 for leave in overall_leave_outs(code_rows(rows)).values())


def test_decisions_that_no_threshold_explains_and_several_classes_add_no_variance():
    rows = make(patients=300, rarest=100)
    assert not len(fold_thresholds(code_rows(replace(rows, predicted=1 - rows.predicted))))
    assert not len(fold_thresholds(code_rows(make(classes=3))))


def test_learnt_thresholds_widen_what_they_decide_and_nothing_else():
    rows = make(patients=300, rarest=100)
    spread_out = with_thresholds(rows, [0.2, 0.3, 0.4, 0.5, 0.6])
    leaves = overall_leave_outs(code_rows(spread_out))
    thresholds, positive = fold_thresholds(code_rows(spread_out)), rows.probabilities[:, 1]
    each = [decision_scores(rows.labels, (positive >= t).astype(int), 2) for t in thresholds]
    for name, leave in leaves.items():
        expected = np.var([one[name] for one in each], ddof=1) if name in each[0] else 0.0
        assert leave.moved == pytest.approx(expected), name
    se, df = jackknife_error(leaves["specificity"].without)
    basis = overall_support(code_rows(spread_out), "specificity")
    error = total_error(leaves["specificity"], basis, tuned=True, unit=1.0)
    moved, patients = leaves["specificity"].moved, (1.4 * se) ** 2
    assert error.size == pytest.approx(math.sqrt(patients + moved))
    assert error.df == pytest.approx((patients + moved) ** 2 / (patients**2 / df + moved**2 / 4))
    one = overall(spread_out, tuned=True)["specificity"]
    assert (
        one.method
        == "patient jackknife, Wilson, standard error × 1.4, variance of fold thresholds added"
    )
    assert one.notes == (
        f"unstable: standard deviation of {math.sqrt(moved):.3f} over the folds' thresholds, each "
        "applied to the rows of all folds",
    )
    assert overall(spread_out, tuned=True)["roc_auc"].method.endswith("standard error × 1.4")


def test_learnt_thresholds_widen_the_metrics_of_a_class():
    rows = with_thresholds(make(patients=300, rarest=100), [0.2, 0.3, 0.4, 0.5, 0.6])
    found = class_leave_outs(code_rows(rows), 0)
    values = [
        class_scores(confusion(rows.labels, (rows.probabilities[:, 1] >= t).astype(int), 2))
        for t in fold_thresholds(code_rows(rows))
    ]
    for name in ("precision", "recall", "f1", "specificity"):
        assert found[name].moved == pytest.approx(np.var([v[name][0] for v in values], ddof=1))
