"""Measured variation of models: what it is, and that it moves widths alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from outerfold.objectives.metrics import all_scores
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.jackknife import (
    WIDENINGS,
    jackknife_error,
    jackknife_interval,
    total_error,
)
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.intervals.overall import overall, paired_difference, per_class
from outerfold.reports.intervals.support import overall_support
from outerfold.reports.intervals.variation import (
    leave_outs,
    overall_scores,
    variance_between,
    variance_within,
)
from outerfold.reports.results.predictions import inner_models
from outerfold.reports.results.predictions import test_rows as rows_of
from outerfold.reports.results.results import results
from outerfold.reports.sections.tables import WAY, overall_table
from outerfold.reports.wording import OF_BOTH, OF_CONSTANT, OF_PROCEDURE
from outerfold.storage.records import WITHOUT, Predictions, Run
from tests.reports.run_factory import BINARY, FOUR, make_run, without_variation

BOUNDS = ("low", "high", "procedure", "method", "notes", "of")


def far_apart(rows: Predictions) -> Predictions:
    """The same rows by models of which every other one is right and the rest are wrong."""
    right = np.char.endswith(rows.fold, "0") | np.char.endswith(rows.fold, "2")
    classes = len(rows.classes)
    decided = np.where(right, rows.labels, (rows.labels + 1) % classes)
    p = np.full(rows.probabilities.shape, 0.1 / (classes - 1))
    p[np.arange(len(rows)), decided] = 0.9
    return replace(rows, probabilities=p, predicted=decided)


def planted(run: Run) -> Run:
    """The same run, whose inner folds' models differ much more."""
    outer = []
    for study in run.outer:
        assert study.variation is not None
        outer.append(replace(study, variation=far_apart(study.variation)))
    return replace(run, outer=tuple(outer))


def without_bounds(thing: Any) -> Any:
    """The same numbers without everything that tells how wide an interval is."""
    if isinstance(thing, dict):
        kept = {key: value for key, value in thing.items() if key not in BOUNDS}
        return {key: without_bounds(value) for key, value in kept.items()}
    return [without_bounds(one) for one in thing] if isinstance(thing, list) else thing


def test_the_variances_within_and_between_folds_are_the_formulas() -> None:
    inner = np.array([[0.6, 0.7, 0.8], [0.5, 0.5, np.nan], [np.nan, 0.9, np.nan]])
    assert variance_within(inner) == pytest.approx((2 / 3 * 0.02 + 0.0) / 2)
    assert variance_within(np.full((2, 2), np.nan)) == 0
    by_fold, noise = np.array([0.6, 0.8, np.nan]), np.array([0.01, 0.004, 0.5])
    assert variance_between(by_fold, noise) == pytest.approx(0.02 - 0.007)
    assert variance_between(np.array([0.5, 0.5]), np.full(2, 0.1)) == pytest.approx(-0.1)
    assert variance_between(np.array([0.5, np.nan]), np.full(2, 0.1)) == 0


@pytest.mark.parametrize("of", ["model", "procedure"])
def test_the_variance_of_models_is_added_to_that_of_patients(of: Any) -> None:
    run = make_run(BINARY)
    rows, variation = rows_of(run), inner_models(run)
    assert rows is not None
    plain = overall_leave_outs(code_rows(rows))
    _, found = leave_outs(rows, overall_leave_outs, variation, overall_scores)
    for name, leave in found.items():
        noise, each = [], []
        for fold in (f"outer-{k}" for k in range(5)):
            alone = overall_leave_outs(code_rows(rows.take(rows.fold == fold)))[name]
            noise.append(jackknife_error(alone.without)[0] ** 2)
            inner = variation[fold]
            each.append(
                [
                    [
                        all_scores(o.labels, o.probabilities, o.predicted)[name]
                        for o in (inner.take(inner.fold == f"{kind}inner-{k}") for k in range(4))
                    ]
                    for kind in ("", WITHOUT)
                ]
            )
        single, others = np.moveaxis(np.array(each), 1, 0)
        between = leave.by_fold.var(ddof=1) - np.mean(noise)
        within = ((others - others.mean(1, keepdims=True)) ** 2).sum(1).mean() * 3 / 4
        se, df = jackknife_error(plain[name].without)
        wide, scored = WIDENINGS[of], name in ("brier", "ece")
        patients = ((wide.probabilities if scored else wide.patients) * se) ** 2
        models = max(0.0, wide.within * within + wide.between * between)
        basis = overall_support(code_rows(rows), name)
        error = total_error(leave, basis, tuned=True, unit=1.0, of=of)
        assert error.size == pytest.approx(np.sqrt(patients + models))
        joint = (patients + models) ** 2 / (patients**2 / df + models**2 / 15)
        assert error.df == pytest.approx(joint)
        gain = (leave.by_fold.mean() - single.mean()) * 3 / 5
        assert error.ahead == pytest.approx(min(0.0, gain) if scored else max(0.0, gain))


def test_the_gain_from_more_patients_lengthens_the_better_side_alone() -> None:
    run = make_run(BINARY)
    rows = rows_of(run)
    assert rows is not None
    _, found = leave_outs(rows, overall_leave_outs, inner_models(run), overall_scores)
    for name, metric in (("roc_auc", 0.1), ("brier", -0.1)):
        leave, basis = replace(found[name], ahead=0.0), overall_support(code_rows(rows), name)
        plain = jackknife_interval(leave, basis, tuned=True, level=0.95)
        longer = jackknife_interval(replace(leave, ahead=metric), basis, tuned=True, level=0.95)
        assert plain.low is not None
        assert plain.high is not None
        assert longer.estimate == plain.estimate
        expected = (plain.low, min(1.0, plain.high + 0.1))
        if name == "brier":
            expected = (max(0.0, plain.low - 0.1), plain.high)
        assert (longer.low, longer.high) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [BINARY, FOUR])
def test_inner_models_move_widths_alone(classes: tuple[str, ...]) -> None:
    run = make_run(classes)
    plain, wild, none = results(run), results(planted(run)), results(without_variation(run))
    assert without_bounds(plain) == without_bounds(wild) == without_bounds(none)
    tables = [numbers["overall"] for numbers in (plain, wild)]
    tables += [numbers["levels"]["patient"]["overall"] for numbers in (plain, wild)]
    for one, other in (tables[:2], tables[2:]):
        wider = [
            other[name]["high"] - other[name]["low"] > one[name]["high"] - one[name]["low"]
            for name in ("accuracy", "balanced_accuracy", "brier")
        ]
        assert all(wider)
    last = classes[-1]
    own, other = (numbers["per_class"][last]["recall"] for numbers in (plain, wild))
    assert other["high"] - other["low"] > own["high"] - own["low"]
    one, two = (numbers["worth"]["overall"]["accuracy"]["difference"] for numbers in (plain, wild))
    assert two["high"] - two["low"] > one["high"] - one["low"]


def test_the_interval_of_models_made_this_way_is_inside() -> None:
    for run in (make_run(BINARY), make_run(FOUR, seed=3), planted(make_run(BINARY))):
        for name, entry in results(run)["overall"].items():
            assert entry["of"] == "model", name
            assert entry["low"] <= entry["procedure"]["low"], name
            assert entry["procedure"]["high"] <= entry["high"], name
    table = overall_table(results(run), "test")
    assert f"{WAY} (95 % CI)" in table.header
    assert OF_BOTH in table.notes


def test_models_that_differ_much_are_called_unstable_and_others_are_not() -> None:
    healthy, wild = (
        results(run)["overall"] for run in (make_run(BINARY), planted(make_run(BINARY)))
    )
    said = [
        [note for note in one["accuracy"]["notes"] if "unstable" in note] for one in (healthy, wild)
    ]
    assert said[0] == []
    assert len(said[1]) == 1
    assert said[1][0].endswith("from the variation of models alone")


def test_without_inner_models_the_constant_holds_and_is_named() -> None:
    run = without_variation(make_run(BINARY))
    numbers = results(run)
    for entry in numbers["overall"].values():
        assert entry["procedure"] == {"low": entry["low"], "high": entry["high"]}
        assert "× 1.4" in entry["method"]
    table = overall_table(numbers, "test")
    assert WAY not in table.header
    assert OF_CONSTANT in table.notes


def test_a_fold_without_inner_models_leaves_all_by_the_constant() -> None:
    run = make_run(BINARY)
    outer = (replace(run.outer[0], variation=None), *run.outer[1:])
    expected = results(without_variation(run))["overall"]
    assert results(replace(run, outer=outer))["overall"] == expected


def test_an_ensemble_has_the_interval_of_the_procedure_alone() -> None:
    run = make_run(BINARY)
    ensemble = replace(run, protocol={**run.protocol, "final": "ensemble"})
    numbers, plain = results(ensemble), results(run)["overall"]
    for name, entry in numbers["overall"].items():
        assert entry["of"] == "procedure"
        assert {"low": entry["low"], "high": entry["high"]} == plain[name]["procedure"]
    table = overall_table(numbers, "test")
    assert OF_PROCEDURE in table.notes
    assert WAY not in table.header


def test_a_difference_pairs_the_models_of_the_same_inner_fold() -> None:
    """Two runs whose inner models move together do not differ by more for it."""
    run = planted(make_run(BINARY))
    rows, variation = rows_of(run), inner_models(run)
    assert rows is not None
    alone = paired_difference(rows, rows, tuned=True, variations=(variation, variation))
    assert all(one.low is None for one in alone.values())
    other = without_variation(make_run(BINARY, seed=0))
    mixed = paired_difference(rows, rows_of(other) or rows, tuned=True, variations=(variation, {}))
    assert all("× 1.4" in one.method for one in mixed.values())


def test_classes_are_measured_against_the_rest() -> None:
    run = make_run(FOUR)
    rows = rows_of(run)
    assert rows is not None
    found = per_class(rows, tuned=True, variation=inner_models(run))
    assert set(found) == set(FOUR)
    for metrics in found.values():
        for name, one in metrics.items():
            assert "measured variation" in one.method, name
    assert overall(rows, tuned=True, variation={})["roc_auc"].method.endswith("× 1.4")
