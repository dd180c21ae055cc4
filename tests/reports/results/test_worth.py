"""What the search was worth: tuned minus default, on the same rows, by the printed estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from outerfold.objectives.metrics import METRICS
from outerfold.reports.results.results import results, results_text
from outerfold.reports.results.worth import ALWAYS_CHOSEN, NOT_KEPT, NOTHING_HELD_OUT
from outerfold.reports.sections.comparison import compare_runs
from outerfold.storage.records import DefaultResult, FoldResult, Predictions, Run
from tests.reports.run_factory import BINARY, DEFAULT, FOUR, make_run, unfinished, without_defaults

CHOSEN = DefaultResult(DEFAULT, chosen=True)


def with_default(run: Run, number: int, default: DefaultResult | None) -> Run:
    """The same run with another result of the default configuration in one outer fold."""
    outer = [
        replace(study, default=default) if at == number else study
        for at, study in enumerate(run.outer)
    ]
    return replace(run, outer=tuple(outer))


def default_rows(study: FoldResult) -> Predictions:
    assert study.default is not None
    assert study.default.test is not None
    return study.default.test


@pytest.mark.parametrize("classes", [BINARY, FOUR])
@pytest.mark.parametrize("repeats", [1, 2])
def test_the_worth_is_what_comparing_the_two_as_runs_gives(
    classes: tuple[str, ...], repeats: int
) -> None:
    run = make_run(classes, repeats=repeats)
    numbers = results(run)
    worth = numbers["worth"]
    outer = (
        replace(study, test=default_rows(study), variation=study.default.variation)
        for study in run.outer
        if study.default is not None
    )
    other = replace(run, outer=tuple(outer))
    compared = compare_runs(run, other).entries
    assert set(worth["overall"]) == set(numbers["overall"])
    for metric, each in compared.items():
        assert worth["overall"][metric]["difference"] == each["difference"]
        assert worth["overall"][metric]["default"] == each["b"]
        assert worth["overall"][metric]["tuned"] == numbers["overall"][metric]["estimate"]
    assert worth["reason"] is None
    assert worth["params"] == DEFAULT
    assert results_text(numbers)


def test_the_difference_is_that_of_the_printed_estimates_recomputed_by_sklearn() -> None:
    run = make_run()
    found = results(run)["worth"]["overall"]
    areas, rows = [], []
    for study in run.outer:
        assert study.test is not None
        pair = (study.test, default_rows(study))
        labels = study.test.labels
        areas.append([roc_auc_score(labels, each.probabilities[:, 1]) for each in pair])
        rows.append(np.stack([labels, *(each.probabilities[:, 1] for each in pair)]))
    tuned, default = np.mean(areas, axis=0)
    assert found["roc_auc"]["difference"]["estimate"] == pytest.approx(tuned - default)
    labels, one, other = np.concatenate(rows, axis=1)
    brier = brier_score_loss(labels, one) - brier_score_loss(labels, other)
    assert found["brier"]["difference"]["estimate"] == pytest.approx(brier)
    change = found["roc_auc"]["difference"]
    assert change["low"] < change["estimate"] < change["high"]


def test_a_fold_that_chose_the_default_adds_nothing_to_the_difference() -> None:
    run = with_default(make_run(), 2, CHOSEN)
    numbers = results(run)
    found = numbers["worth"]["overall"]["roc_auc"]
    assert found["difference"]["by_fold"][2] == 0
    assert numbers["worth"]["chosen"] == ["outer-2"]
    assert numbers["outer"][2]["default"]["metrics"] == numbers["outer"][2]["metrics"]
    assert numbers["outer"][2]["default"]["epochs"] == run.outer[2].epochs
    assert numbers["outer"][1]["default"]["epochs"] == 9
    assert numbers["outer"][1]["default"]["metrics"]["roc_auc"] == pytest.approx(
        roc_auc_score(
            default_rows(run.outer[1]).labels, default_rows(run.outer[1]).probabilities[:, 1]
        )
    )


def test_a_default_that_won_everywhere_is_worth_nothing_without_an_interval() -> None:
    run = make_run()
    run = replace(run, outer=tuple(replace(study, default=CHOSEN) for study in run.outer))
    worth = results(run)["worth"]
    assert set(worth["overall"]) == set(METRICS)
    for each in worth["overall"].values():
        change = each["difference"]
        assert (change["estimate"], change["low"], change["high"]) == (0.0, None, None)
        assert change["reason"] == ALWAYS_CHOSEN
    assert worth["chosen"] == [study.name for study in run.outer]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (without_defaults(make_run()), NOT_KEPT),
        (with_default(make_run(), 3, None), NOT_KEPT),
        (with_default(make_run(), 1, DefaultResult(reason="no range")), "no range"),
        (with_default(make_run(), 1, DefaultResult(DEFAULT, reason="diverged")), "diverged"),
        (unfinished(make_run(), folds=0), "no outer fold has finished"),
        (
            replace(make_run(), protocol={**make_run().protocol, "protocol": "non-nested"}),
            NOTHING_HELD_OUT,
        ),
    ],
)
def test_a_fold_without_a_result_leaves_no_worth_and_says_why(run: Run, reason: str) -> None:
    worth = results(run)["worth"]
    assert (worth["reason"], worth["overall"]) == (reason, {})


def test_the_default_changes_no_other_number() -> None:
    run = make_run()
    told = []
    for each in (run, without_defaults(run), with_default(run, 0, CHOSEN)):
        numbers = results(each)
        numbers.pop("worth")
        told.append([numbers, *(fold.pop("default") for fold in numbers["outer"])][0])
    assert told[0] == told[1] == told[2]


def test_the_final_study_says_whether_it_chose_the_default() -> None:
    run = make_run()
    assert run.final is not None
    for default, chosen in ((CHOSEN, True), (DefaultResult(DEFAULT), False), (None, None)):
        final = replace(run.final, default=default)
        assert results(replace(run, final=final))["worth"]["final_chosen"] is chosen
    assert results(unfinished(run))["worth"]["final_chosen"] is None
