from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from outerfold.objectives.metrics import METRICS
from outerfold.reports.results.results import gather_evidence, results, results_text, to_json_types
from outerfold.reports.schema import SCHEMA
from outerfold.storage.runs.results import predictions_csv
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished, without_defaults

TOP = {
    "schema",
    "task",
    "synthetic_data",
    "complete",
    "dataset",
    "protocol",
    "overall",
    "per_class",
    "outer",
    "optimism",
    "worth",
    "final",
    "trials",
    "timing",
    "provenance",
    "validation",
    "cut_by_time",
}
ENTRY = {"estimate", "low", "high", "level", "method", "by_fold"}
OUTER = {
    "fold",
    "repeat",
    "train_images",
    "test_images",
    "train_patients",
    "test_patients",
    "params",
    "epochs",
    "inner_score",
    "metrics",
}


def entries(numbers):
    for side in (numbers, numbers["validation"]):
        yield from side["overall"].values()
        for metrics in side["per_class"].values():
            yield from metrics.values()


@pytest.mark.parametrize("name", ["binary", "four", "partial", "nothing"])
def test_the_file_has_the_keys_of_its_schema_whatever_has_finished(name, request):
    numbers = request.getfixturevalue(name).numbers
    assert numbers["schema"] == SCHEMA
    assert set(numbers) >= TOP
    assert all(set(fold) >= OUTER for fold in numbers["outer"])
    assert json.loads(results_text(numbers)) == numbers


def test_every_metric_has_an_estimate_an_interval_and_the_corrected_t(four):
    assert set(four.numbers["overall"]) == set(METRICS) - {"sensitivity", "specificity"}
    for entry in entries(four.numbers):
        assert set(entry) >= ENTRY
        assert entry["low"] <= entry["estimate"] <= entry["high"]
    assert all("low" in entry["corrected_t"] for entry in four.numbers["overall"].values())


def test_an_interval_that_cannot_be_had_is_null_with_a_reason():
    run = without_defaults(make_run(FOUR, patients=24, folds=2))
    labels = [np.where(s.test.labels == 3, 2, s.test.labels) for s in run.outer]
    keep = [replace(s.test, labels=x) for s, x in zip(run.outer, labels, strict=True)]
    rare = tuple(replace(s, test=t) for s, t in zip(run.outer, keep, strict=True))
    gone = [e for e in entries(results(replace(run, outer=rare))) if e["low"] is None]
    assert gone
    assert all(entry["reason"] for entry in gone)


def test_every_image_is_predicted_once_a_repeat_and_read_back_to_the_last_bit(binary):
    text = predictions_csv(binary.test, BINARY)
    rows = list(csv.DictReader(StringIO(text)))
    assert text.splitlines()[0] == "id,patient,fold,repeat,label,p_other,p_cancer,predicted"
    assert len({row["id"] for row in rows}) == len(rows) == 275
    read = np.array([float(row["p_cancer"]) for row in rows])
    assert (read == binary.test.probabilities[:, 1]).all()


def test_estimates_are_recomputed_from_predictions_csv(binary):
    rows = list(csv.DictReader(StringIO(predictions_csv(binary.test, BINARY))))
    truth = [row["label"] for row in rows]
    found = accuracy_score(truth, [row["predicted"] for row in rows])
    assert binary.numbers["overall"]["accuracy"]["estimate"] == pytest.approx(found)
    areas = []
    for fold in sorted({row["fold"] for row in rows}):
        mine = [row for row in rows if row["fold"] == fold]
        scores = [float(row["p_cancer"]) for row in mine]
        areas.append(roc_auc_score([row["label"] == "cancer" for row in mine], scores))
    assert binary.numbers["overall"]["roc_auc"]["estimate"] == pytest.approx(np.mean(areas))


def test_fold_metrics_use_the_decision_of_that_fold():
    run = make_run(BINARY)
    first = run.outer[0]
    flipped = replace(first, test=replace(first.test, predicted=1 - first.test.predicted))
    before = results(run)["outer"][0]["metrics"]
    after = results(replace(run, outer=(flipped, *run.outer[1:])))["outer"][0]["metrics"]
    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])
    assert after["roc_auc"] == before["roc_auc"]


def test_optimism_is_inner_minus_outer_and_flatters_alike_when_low_is_good():
    run = make_run(BINARY)
    found = results(run)["optimism"]
    gaps = [f["inner_score"] - f["metrics"]["roc_auc"] for f in results(run)["outer"]]
    assert found["estimate"] == pytest.approx(np.mean(gaps))
    low = tuple(replace(study, inner_score=0.01) for study in run.outer)
    brier = replace(run, protocol={**run.protocol, "metric": "brier"}, outer=low)
    assert results(brier)["optimism"]["estimate"] > 0


def test_validation_is_of_inner_folds_and_says_that_it_is_optimistic(binary):
    assert "Optimistic" in binary.numbers["validation"]["note"]
    scored = sum(study.train_images for study in binary.run.outer)
    assert sum(map(sum, binary.numbers["validation"]["confusion"])) == scored == 4 * 275


def test_test_numbers_do_not_depend_on_the_inner_folds():
    run = make_run(BINARY)
    wiped = tuple(
        replace(s, validation=replace(s.validation, probabilities=0 * s.validation.probabilities))
        for s in run.outer
    )
    assert results(replace(run, outer=wiped))["overall"] == results(run)["overall"]


def test_repeats_widen_nothing_by_counting_images_twice():
    numbers = gather_evidence(make_run(BINARY, repeats=2)).numbers
    assert len(numbers["outer"]) == 10
    assert (
        numbers["dataset"]["patients_by_class"]
        == gather_evidence(make_run(BINARY)).numbers["dataset"]["patients_by_class"]
    )


def test_an_unfinished_run_reports_what_is_there(partial, nothing):
    assert partial.numbers["complete"] is False
    assert partial.numbers["final"] is None
    assert len(partial.numbers["overall"]["roc_auc"]["by_fold"]) == 3
    assert nothing.numbers["overall"] == {}
    assert nothing.numbers["optimism"]["reason"] == "no outer fold has finished"


def test_the_same_run_gives_the_same_text():
    assert results_text(results(make_run(FOUR))) == results_text(results(make_run(FOUR)))


def test_json_types_only_and_no_nan():
    odd = {"a": np.float64("nan"), 2: np.arange(2), "s": {"y", "x"}, "b": np.bool_(True)}
    assert to_json_types(odd) == {"a": None, "2": [0, 1], "s": ["x", "y"], "b": True}


def test_no_fold_finished_makes_an_empty_predictions_file():
    run = unfinished(make_run(BINARY), folds=0)
    assert predictions_csv(None, run.classes).count("\n") == 1
