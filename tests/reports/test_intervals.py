"""Intervals against a second implementation: each patient deleted, scikit-learn asked again."""

import math
import re
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from objectives.metrics import METRICS
from reports.intervals import (
    corrected_t,
    nadeau_bengio,
    optimism,
    overall,
    paired_difference,
    patient_bootstrap,
    per_class,
)
from reports.jackknife import spread, wilson
from reports.leave_out import class_leave_outs, overall_leave_outs, read
from reports.resampling import ece_without_bias, weighted_ap, weighted_auc
from storage.records import DataError, LeakError, Predictions

FIELDS = ("ids", "patients", "fold", "repeat", "labels", "probabilities", "predicted")


def make(
    patients=40, classes=2, folds=5, repeats=1, seed=0, levels=0, mixed=False, rarest=5, skill=1.5
):
    """Rows of patients of 1-4 images; ``mixed`` gives a patient images of several classes."""
    chance = np.random.default_rng(seed)
    label = np.concatenate([np.repeat(np.arange(1, classes), rarest), chance.integers(
        0, classes, max(0, patients - rarest * (classes - 1)))])  # fmt: skip
    label[rarest * (classes - 1) :][label[rarest * (classes - 1) :] > 0] = 0
    who = np.repeat(np.arange(len(label)), chance.integers(1, 5, len(label)))
    labels = label[who]
    if mixed:
        labels = np.where(
            chance.random(len(who)) < 0.3, chance.integers(0, classes, len(who)), labels
        )
    parts = []
    for r in range(repeats):
        logits = skill * np.eye(classes)[labels] + chance.normal(size=(len(who), classes))
        if levels:
            logits = np.round(logits * levels) / levels
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        deal = chance.permutation(len(label)) % folds
        parts.append(Predictions(
            np.array([f"i{i:04d}" for i in range(len(who))]), np.array([f"P{w:03d}" for w in who]),
            np.array([f"outer-{r * folds + deal[w]}" for w in who]), np.full(len(who), r),
            labels, p, (p[:, 1] > 0.4).astype(int) if classes == 2 else p.argmax(1),
            tuple("abcd"[:classes]),
        ))  # fmt: skip
    return Predictions(*(np.concatenate([getattr(p, f) for p in parts]) for f in FIELDS),
                       parts[0].classes)  # fmt: skip


def take(predictions, at):
    return Predictions(*(getattr(predictions, f)[at] for f in FIELDS), predictions.classes)


def plain_rank(rows, score, classes):
    """Mean over folds, then repeats, of the mean over classes; a fold without a class drops out."""
    by_repeat = []
    for r in np.unique(rows.repeat):
        values = []
        for fold in np.unique(rows.fold[rows.repeat == r]):
            one = take(rows, (rows.repeat == r) & (rows.fold == fold))
            truth = [one.labels == c for c in classes]
            if all(t.any() and not t.all() for t in truth):
                values.append(np.mean([score(t, one.probabilities[:, c])
                                       for c, t in zip(classes, truth, strict=True)]))  # fmt: skip
        if values:
            by_repeat.append(np.mean(values))
    return np.mean(by_repeat) if by_repeat else math.nan


def plain_overall(rows, classes, ap_pooled):
    """Every overall metric by scikit-learn."""
    shown = [1] if classes == 2 else range(classes)
    macro = {"average": "macro", "labels": range(classes), "zero_division": 0}
    found = {"roc_auc": plain_rank(rows, reference.roc_auc_score, shown)}
    if not ap_pooled:
        ap = reference.average_precision_score
        found["average_precision"] = plain_rank(rows, ap, shown)
    pooled = []
    for r in np.unique(rows.repeat):
        one = take(rows, rows.repeat == r)
        y, yhat, p = one.labels, one.predicted, one.probabilities
        values = {
            "accuracy": reference.accuracy_score(y, yhat),
            "balanced_accuracy": reference.balanced_accuracy_score(y, yhat),
            "f1": reference.f1_score(y, yhat, **macro),
            "precision": reference.precision_score(y, yhat, **macro),
            "recall": reference.recall_score(y, yhat, **macro),
            "ece": METRICS["ece"].score(y, p),
        }
        if classes == 2:
            values["sensitivity"] = reference.recall_score(y, yhat)
            values["specificity"] = reference.recall_score(1 - y, 1 - yhat)
            values["brier"] = reference.brier_score_loss(y, p[:, 1])
        else:
            values["brier"] = ((p - np.eye(classes)[y]) ** 2).sum(1).mean()
        if ap_pooled:
            values["average_precision"] = np.mean(
                [reference.average_precision_score(y == c, p[:, c]) for c in shown]
            )
        pooled.append(values)
    return {**found, **{k: np.mean([v[k] for v in pooled]) for k in pooled[0]}}


@pytest.mark.parametrize("ties", [0, 2])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("classes", "repeats"), [(2, 1), (2, 2), (3, 1), (4, 2)])
def test_leaving_a_patient_out_equals_deleting_its_rows_and_asking_sklearn(
    classes, repeats, mixed, ties
):
    rows = make(classes=classes, repeats=repeats, levels=ties, mixed=mixed, rarest=9)
    found = overall_leave_outs(read(rows))
    pooled = found["average_precision"].pooled
    whole = plain_overall(rows, classes, pooled)
    assert set(found) == set(whole)
    for name, leave in found.items():
        assert leave.estimate == pytest.approx(whole[name], abs=1e-10), name
    for i, patient in list(enumerate(np.unique(rows.patients)))[::5]:
        left = plain_overall(take(rows, rows.patients != patient), classes, pooled)
        for name, leave in found.items():
            assert leave.without[i] == pytest.approx(left[name], abs=1e-10), (name, patient)


@pytest.mark.parametrize("mixed", [False, True])
def test_leaving_a_patient_out_of_one_class_equals_deleting_its_rows(mixed):
    rows = make(patients=150, classes=3, mixed=mixed, rarest=50)
    found = class_leave_outs(read(rows), 2)
    assert not found["average_precision"].pooled
    for i, patient in list(enumerate(np.unique(rows.patients)))[::5]:
        one = take(rows, rows.patients != patient)
        truth, called = one.labels == 2, one.predicted == 2
        expected = {
            "precision": reference.precision_score(truth, called, zero_division=0),
            "recall": reference.recall_score(truth, called),
            "f1": reference.f1_score(truth, called),
            "specificity": reference.recall_score(~truth, ~called),
            "roc_auc": plain_rank(one, reference.roc_auc_score, [2]),
            "average_precision": plain_rank(one, reference.average_precision_score, [2]),
        }
        for name, value in expected.items():
            assert found[name].without[i] == pytest.approx(value, abs=1e-10), (name, patient)


def test_standard_error_and_degrees_of_freedom_are_the_formulas():
    values = np.random.default_rng(0).gamma(1.0, size=30)
    se, df = spread(values)
    d = values - values.mean()
    assert se == pytest.approx(math.sqrt(29 / 30 * (d**2).sum()))
    assert df == pytest.approx(2 * 30 / (stats.kurtosis(values, fisher=False) - 1))
    assert spread(np.append(np.zeros(99), 1.0))[1] == pytest.approx(2.06, abs=0.01)
    assert spread(np.tile([-1.0, 1.0], 10))[1] == 19


def test_wilson_is_scipys():
    expected = stats.binomtest(17, 40).proportion_ci(0.95, method="wilson")
    assert wilson(17 / 40, 40, stats.norm.ppf(0.975)) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("tuned", "stretch"), [(True, 1.4), (False, 1.25)])
def test_interval_is_the_stretched_error_on_the_scale_its_method_names(tuned, stretch):
    rows = make(patients=120, rarest=40)
    found, leaves = overall(rows, tuned=tuned), overall_leave_outs(read(rows))
    for name in ("roc_auc", "balanced_accuracy", "f1", "brier"):
        se, df = spread(leaves[name].without)
        p, half = found[name].estimate, stretch * se * stats.t.ppf(0.975, df)
        logits = [math.log(x / (1 - x)) for x in (found[name].low, p, found[name].high)]
        assert np.diff(logits) == pytest.approx(half / (p * (1 - p)))
        assert found[name].method == f"patient jackknife, logit, stretch {stretch}"
    se, df = spread(leaves["accuracy"].without)
    p = found["accuracy"].estimate
    worth = min(len(rows), p * (1 - p) / (stretch * se) ** 2)
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx(
        wilson(p, worth, stats.t.ppf(0.975, df))
    )
    assert found["accuracy"].method == f"patient jackknife, Wilson, stretch {stretch}"


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


def test_folds_are_in_natural_order():
    rows = make(patients=120, folds=12, rarest=50)
    assert read(rows).fold_names == tuple(f"outer-{k}" for k in range(12))


def test_four_patients_of_a_class_have_an_estimate_but_no_interval():
    for one in overall(make(rarest=4), tuned=True).values():
        assert math.isfinite(one.estimate)
        assert one.low is None
        assert one.high is None
        assert one.reason == "4 patients with 'b', an interval needs 5"


def test_few_patients_of_a_class_are_cautioned():
    assert all("caution, 9 patients with 'b'" in one.notes
               for one in overall(make(rarest=9), tuned=True).values())  # fmt: skip
    assert not any("caution" in " ".join(one.notes)
                   for one in overall(make(rarest=15), tuned=True).values())  # fmt: skip


def test_a_rare_class_does_not_cost_the_others_their_intervals():
    found = per_class(make(patients=90, classes=3, rarest=30), tuned=True)
    rows = make(patients=90, classes=3, rarest=30)
    rare = take(rows, ~((rows.labels == 2) & (rows.patients > "P032")))
    mixed = per_class(rare, tuned=True)
    assert set(found) == {"a", "b", "c"}
    assert mixed["c"]["recall"].low is None
    assert mixed["a"]["recall"].low is not None
    assert set(found["a"]) == {
        "precision", "recall", "f1", "specificity", "roc_auc", "average_precision"
    }  # fmt: skip


def test_a_perfect_model_falls_back_to_wilson_over_the_patients_that_count():
    found = overall(make(skill=50.0, rarest=10), tuned=True)
    assert found["roc_auc"].estimate == 1
    assert found["roc_auc"].method == "Wilson, 10 patients"
    assert found["roc_auc"].low == pytest.approx(wilson(1.0, 10, 1.959964)[0], abs=1e-6)
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
    assert one.notes[0] == "outer-3 lacks a class and drops out of the mean over folds"


def test_average_precision_pools_folds_with_few_positive_patients_and_says_so():
    few, many = overall(make(rarest=9), tuned=True), overall(make(200, rarest=90), tuned=True)
    note = "folds pooled: one has fewer than 5 patients with the class"
    assert note in few["average_precision"].notes
    assert note not in many["average_precision"].notes
    rows = make(rarest=9)
    assert few["average_precision"].estimate == pytest.approx(
        reference.average_precision_score(rows.labels, rows.probabilities[:, 1])
    )


def test_ece_loses_the_share_of_its_bias_that_resampling_can_see():
    chance = np.random.default_rng(0)
    raw, corrected = [], []
    for seed in range(20):
        rows = make(patients=100, rarest=40, seed=seed)
        p = chance.random(len(rows))
        labels = (chance.random(len(rows)) < p).astype(int)
        table = replace(rows, labels=labels, probabilities=np.stack([1 - p, p], axis=1))
        raw.append(METRICS["ece"].score(labels, table.probabilities))
        corrected.append(ece_without_bias(read(table), raw[-1]))
    assert np.mean(corrected) / np.mean(raw) == pytest.approx(2 - math.sqrt(2), abs=0.05)


def test_a_patient_in_two_folds_is_refused():
    rows = make()
    split = replace(rows, patients=np.array([f"P{i % 7}" for i in range(len(rows))]))
    with pytest.raises(LeakError, match=re.escape("['P0', 'P1', 'P2'] are tested in two folds")):
        overall(split, tuned=True)


def test_an_image_predicted_twice_is_refused():
    rows = make()
    with pytest.raises(DataError, match=r"\['i0000'\] occur twice \(1 in all\)"):
        overall(take(rows, np.append(np.arange(len(rows)), 0)), tuned=True)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="found no row"):
        overall(take(make(), np.zeros(0, dtype=int)), tuned=True)


def test_a_level_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"such as 0\.95, found 95"):
        overall(make(rarest=9), tuned=True, level=95)


def test_a_higher_level_is_wider():
    rows = make(rarest=12)
    usual, strict = overall(rows, tuned=True), overall(rows, tuned=True, level=0.99)
    assert all(strict[k].low <= usual[k].low for k in usual)
    assert all(strict[k].high >= usual[k].high for k in usual)


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
    assert "covers less than it says" in two.notes[0]


def test_nadeau_bengio_has_no_interval_without_spread():
    assert nadeau_bengio([1.0] * 5, test_share=0.25).reason.startswith("every fold scored alike")
    assert nadeau_bengio([0.8], test_share=0.25).reason == "fewer than two folds have a score"
    with pytest.raises(ValueError, match="rows tested over rows trained, found 0"):
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
    assert all(one.method.endswith("given these models") for one in found.values())
    assert found == patient_bootstrap(rows, resamples=300)
    chance, names = np.random.default_rng(5), np.unique(rows.patients)
    values = []
    for _ in range(300):
        drawn = chance.choice(names, len(names))
        at = np.concatenate([np.flatnonzero(rows.patients == name) for name in drawn])
        values.append(plain_rank(take(rows, at), reference.roc_auc_score, [1]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    assert found["roc_auc"].low == pytest.approx(low, abs=0.03)
    assert found["roc_auc"].high == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize("levels", [2, 1000])
def test_weighted_rank_metrics_equal_repeated_rows(levels):
    chance = np.random.default_rng(0)
    positive, scores = chance.random(30) < 0.4, chance.integers(0, levels, 30) / levels
    weights = chance.integers(0, 4, (5, 30)).astype(float)
    for w, auc, ap in zip(weights, weighted_auc(positive, scores, weights),
                          weighted_ap(positive, scores, weights), strict=True):  # fmt: skip
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
    assert found["accuracy"].reason.startswith("the two differ by the same without each patient")
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


def test_intervals_of_thousands_of_patients_take_a_second_and_little_memory():
    rows = make(patients=2000, classes=4, rarest=200)
    tracemalloc.start()
    start = time.perf_counter()
    overall(rows, tuned=True)
    per_class(rows, tuned=True)
    took = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 5
    assert peak < 100e6
