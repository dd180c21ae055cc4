"""Corrected t, optimism, patient bootstrap and paired differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from outerfold.objectives.measures.metric import (
    CORRELATION,
    GAP,
    POSITIVE,
    REAL,
    UNIT,
    Scale,
)
from outerfold.objectives.measures.ranks import roc_auc, weighted_ap, weighted_auc
from outerfold.reports.intervals.corrected_t import NO_LOGARITHM, NO_SPREAD, _refusal
from outerfold.reports.intervals.overall import (
    corrected_t,
    nadeau_bengio,
    optimism,
    overall,
    paired_difference,
    patient_bootstrap,
)
from outerfold.storage.records import DataError
from tests.reports.prediction_factory import make, take

WIDE = Scale("logit", -1.0, 2.0)


def test_nadeau_bengio_is_the_corrected_t_on_the_logit_scale():
    scores = [0.8, 0.85, 0.7, 0.9, 0.75]
    found = nadeau_bengio(scores, test_share=0.25)
    p, se = 0.8, np.std(scores, ddof=1) * math.sqrt(1 / 5 + 0.25)
    reach = stats.t.ppf(0.975, 4) * se / (p * (1 - p))
    expected = 1 / (1 + math.exp(-(math.log(p / (1 - p)) + reach)))
    assert found.high == pytest.approx(expected)
    assert found.estimate == pytest.approx(0.8)
    assert found.notes == ()


def test_nadeau_bengio_of_repeats_keeps_the_folds_degrees_of_freedom_and_says_so():
    scores = [0.8, 0.85, 0.7, 0.9, 0.75]
    two = nadeau_bengio(scores * 2, test_share=0.25, repeats=2)
    p, se = 0.8, np.std(scores * 2, ddof=1) * math.sqrt(1 / 10 + 0.25)
    reach = stats.t.ppf(0.975, 4) * se / (p * (1 - p))
    assert math.log(two.high / (1 - two.high)) - math.log(4) == pytest.approx(reach)
    assert "covers less than its level" in two.notes[0]


def test_a_bounded_scale_is_moved_to_the_unit_interval_and_back():
    shares = [0.8, 0.85, 0.7, 0.9, 0.75]
    usual = nadeau_bengio(shares, test_share=0.25)
    found = nadeau_bengio([3 * share - 1 for share in shares], test_share=0.25, scale=WIDE)
    assert (found.low, found.high) == pytest.approx((3 * usual.low - 1, 3 * usual.high - 1))
    assert found.estimate == pytest.approx(3 * usual.estimate - 1)


def test_nadeau_bengio_has_no_interval_without_spread():
    assert nadeau_bengio([1.0] * 5, test_share=0.25).reason.startswith(
        "all folds have the same score"
    )
    assert nadeau_bengio([0.8], test_share=0.25).reason == "fewer than two folds have a score"
    with pytest.raises(ValueError, match="must be positive, found 0"):
        nadeau_bengio([0.8, 0.9], test_share=0)


def test_corrected_t_holds_every_overall_metric():
    rows = make(patients=120, rarest=40)
    found = corrected_t(rows)
    assert set(found) == set(overall(rows, tuned=True))
    scores = overall(rows, tuned=True)["roc_auc"].by_fold
    assert found["roc_auc"] == nadeau_bengio(scores, test_share=0.25)


def test_optimism_is_inner_minus_outer_with_a_corrected_t():
    inner, outer = [0.9, 0.92, 0.88, 0.95, 0.9], [0.8, 0.85, 0.82, 0.84, 0.79]
    found = optimism(inner, outer)
    gaps = np.subtract(inner, outer)
    half = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) * math.sqrt(0.2 + 0.25)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (gaps.mean(), gaps.mean() - half, gaps.mean() + half)
    )
    assert found.by_fold == pytest.approx(tuple(gaps))
    with pytest.raises(ValueError, match="found 5 and 4 scores"):
        optimism(inner, outer[:4])


def test_patient_bootstrap_resamples_whole_patients_given_these_models():
    rows = make(patients=30, rarest=12, levels=2)
    found = patient_bootstrap(rows, resamples=300)
    assert set(found) == set(overall(rows, tuned=True))
    assert all(one.method.endswith("models fixed") for one in found.values())
    assert found == patient_bootstrap(rows, resamples=300)
    rng, names = np.random.default_rng(5), np.unique(rows.patients)
    values = []
    for _ in range(300):
        drawn = rng.choice(names, len(names))
        at = np.concatenate([np.flatnonzero(rows.patients == name) for name in drawn])
        one = take(rows, at)
        folds = [take(one, one.fold == name) for name in np.unique(one.fold)]
        values.append(np.nanmean([roc_auc(f.labels == 1, f.probabilities[:, 1]) for f in folds]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    assert found["roc_auc"].low == pytest.approx(low, abs=0.03)
    assert found["roc_auc"].high == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize("levels", [2, 1000])
def test_weighted_rank_metrics_equal_repeated_rows(levels):
    rng = np.random.default_rng(0)
    positive, scores = rng.random(30) < 0.4, rng.integers(0, levels, 30) / levels
    weights = rng.integers(0, 4, (5, 30)).astype(float)
    for w, auc, ap in zip(
        weights,
        weighted_auc(positive, scores, weights),
        weighted_ap(positive, scores, weights),
        strict=True,
    ):
        at = np.repeat(np.arange(30), w.astype(int))
        assert auc == pytest.approx(reference.roc_auc_score(positive[at], scores[at]))
        assert ap == pytest.approx(reference.average_precision_score(positive[at], scores[at]))


def test_paired_difference_is_narrower_than_two_intervals_and_does_not_need_row_order():
    a = make(patients=120, rarest=40)
    nudged = a.probabilities[:, 1] * 0.97 + 0.03 * np.random.default_rng(1).random(len(a))
    b = replace(a, probabilities=np.stack([1 - nudged, nudged], axis=1))
    order = np.random.default_rng(0).permutation(len(a))
    found, alone = paired_difference(a, take(b, order), tuned=True), overall(a, tuned=True)
    one = found["roc_auc"]
    expected = alone["roc_auc"].estimate - overall(b, tuned=True)["roc_auc"].estimate
    assert one.estimate == pytest.approx(expected)
    assert one.low <= one.estimate <= one.high
    assert one.high - one.low < 0.5 * (alone["roc_auc"].high - alone["roc_auc"].low)
    assert found["accuracy"].reason.startswith("the difference is the same without each patient")
    turned = paired_difference(b, a, tuned=True)["roc_auc"]
    assert (turned.low, turned.high) == pytest.approx((-one.high, -one.low))


@pytest.mark.parametrize("what", ["labels", "fold", "patients", "ids"])
def test_a_paired_difference_of_other_rows_is_refused(what):
    a = make()
    values = getattr(a, what).copy()
    values[3] = 1 - values[3] if what == "labels" else "other"
    with pytest.raises(DataError, match=rf"the same {what} in both runs: rows"):
        paired_difference(a, replace(a, **{what: values}), tuned=True)
    with pytest.raises(DataError, match="needs the same rows"):
        paired_difference(a, take(a, np.arange(10)), tuned=True)
    with pytest.raises(DataError, match="needs the same classes"):
        paired_difference(a, replace(a, classes=("x", "y")), tuned=True)


def test_optimism_of_repeats_has_fewer_degrees_of_freedom_and_says_so():
    inner = [0.9, 0.92, 0.88, 0.95, 0.9, 0.91]
    outer = [0.8, 0.85, 0.82, 0.84, 0.79, 0.86]
    found = optimism(inner, outer, repeats=2)
    gaps = np.subtract(inner, outer)
    half = stats.t.ppf(0.975, 2) * gaps.std(ddof=1) * math.sqrt(1 / 6 + 1 / 2)
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert len(found.notes) == 1
    assert optimism(inner, outer).notes == ()


def test_optimism_of_one_fold_or_of_equal_gaps_has_no_interval_and_says_why():
    for inner, outer in (([0.9], [0.8]), ([0.5, 0.75], [0.25, 0.5])):
        found = optimism(inner, outer)
        assert (found.low, found.high) == (None, None)
        assert found.reason
        assert found.estimate == pytest.approx(inner[0] - outer[0])


def test_two_folds_are_enough_for_a_corrected_t_and_one_is_not():
    found = optimism([0.9, 0.95], [0.8, 0.7])
    assert found.low is not None
    assert found.low < found.estimate < found.high
    assert "fewer than two folds" in optimism([0.9], [0.8]).reason
    half = stats.t.ppf(0.975, 1) * np.std([0.1, 0.25], ddof=1) * np.sqrt(1 / 2 + 1)
    assert (found.low, found.high) == pytest.approx((0.175 - half, 0.175 + half))


def test_a_logarithm_needs_a_positive_mean_and_no_other_scale_does():
    assert nadeau_bengio([0.2, 0.3, 0.25], test_share=0.5, scale=POSITIVE).low > 0
    refused = nadeau_bengio([-0.2, 0.1, 0.05], test_share=0.5, scale=POSITIVE)
    assert refused.low is None
    assert refused.reason
    assert nadeau_bengio([-0.2, 0.1, 0.05], test_share=0.5, scale=REAL).reason is None
    assert nadeau_bengio([-0.5, 0.5], test_share=0.5, scale=POSITIVE).reason == NO_LOGARITHM


@pytest.mark.parametrize(
    ("scale", "words"),
    [(UNIT, "logit"), (CORRELATION, "logit"), (GAP, "logit"), (REAL, "linear"), (POSITIVE, "log")],
)
def test_the_method_names_the_scale_that_was_computed_on(scale, words):
    found = nadeau_bengio([0.5, 0.6, 0.7], test_share=0.25, scale=scale)
    assert found.method == f"Nadeau-Bengio corrected t, {words}"


def test_a_spread_at_the_limit_is_a_spread():
    assert _refusal(0.5, NO_SPREAD) is None
    assert _refusal(0.5, NO_SPREAD / 2) is not None
    assert _refusal(0.5, float("nan")) == "fewer than two folds have a score"
