"""A patient left out, against a second implementation: delete its rows, ask scikit-learn again."""

import math
import re
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.leave_one_out import class_leave_outs, overall_leave_outs
from outerfold.reports.intervals.overall import overall, per_class
from outerfold.storage.records import DataError, LeakError
from tests.reports.prediction_factory import make, take


def plain_rank(rows, score, classes):
    """Mean over folds, then repeats, of the mean over classes; a fold without a class drops out."""
    by_repeat = []
    for r in np.unique(rows.repeat):
        values = []
        for fold in np.unique(rows.fold[rows.repeat == r]):
            one = take(rows, (rows.repeat == r) & (rows.fold == fold))
            truth = [one.labels == c for c in classes]
            if all(t.any() and not t.all() for t in truth):
                values.append(
                    np.mean(
                        [
                            score(t, one.probabilities[:, c])
                            for c, t in zip(classes, truth, strict=True)
                        ]
                    )
                )
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
    found = overall_leave_outs(code_rows(rows))
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
    found = class_leave_outs(code_rows(rows), 2)
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


def test_folds_are_in_natural_order():
    rows = make(patients=120, folds=12, rarest=50)
    assert code_rows(rows).fold_names == tuple(f"outer-{k}" for k in range(12))


def test_a_patient_in_two_folds_is_refused():
    rows = make()
    names = np.array([f"P{i % 7}" for i in range(len(rows))])
    split = replace(rows, patients=names, groups=names)
    with pytest.raises(LeakError, match=re.escape("['P0', 'P1', 'P2'] are tested in two folds")):
        overall(split, tuned=True)


def test_an_image_predicted_twice_is_refused():
    rows = make()
    with pytest.raises(DataError, match=r"\['i0000'\] occur twice \(1 in all\)"):
        overall(take(rows, np.append(np.arange(len(rows)), 0)), tuned=True)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="there is no row"):
        overall(take(make(), np.zeros(0, dtype=int)), tuned=True)


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
