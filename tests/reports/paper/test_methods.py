from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest

from outerfold.objectives.spaces import default_ranges
from outerfold.reports.paper.methods import (
    PRUNERS,
    RULES,
    bibliography,
    methods_text,
    reference_lines,
    space_words,
)
from outerfold.reports.paper.references import REFERENCES
from outerfold.reports.results.results import results
from outerfold.study.config.record import RULES as RULE_NAMES
from outerfold.study.config.search_space import describe_ranges
from tests.reports.run_factory import FOUR, make_run


def told(run, **protocol):
    made = {**run.provenance, "search_space": describe_ranges(default_ranges("multimodal"))}
    return results(replace(run, protocol={**run.protocol, **protocol}, provenance=made))


def test_the_methods_name_what_the_run_did():
    text = methods_text(told(make_run(), pruner="halving", threshold="youden", epochs=30))
    for said in (
        "tree-structured Parzen estimator",
        "AdamW",
        "successive halving",
        "largest sum of sensitivity and specificity",
        "learning rate from 0.0001 to 0.01 (logarithmic)",
        "numpy 2.1.0",
        "5 outer folds",
        "jackknife over patients",
        "Author to complete",
    ):
        assert said in text, said


def test_the_methods_say_which_scores_the_decision_was_fitted_on():
    run = make_run()
    once = methods_text(told(run, threshold="prevalence"))
    assert "both on out-of-fold rows of the inner folds alone. Test rows had no part" in once
    assert "the mean of both scores was taken. Test rows" in methods_text(told(twice(run)))
    mixed = methods_text(told(replace(twice(run), final=run.final)))
    assert "was taken (in final in the inner folds alone)." in mixed
    assert "was taken. The largest" in methods_text(told(twice(make_run(FOUR))))
    biased = methods_text(told(run, protocol="non-nested"))
    assert "both on the out-of-fold rows that are reported." in biased


def twice(run):
    """The same run with two out-of-fold scores of each row, in every study."""
    outer = tuple(replace(study, scores_a_row=2) for study in run.outer)
    return replace(run, outer=outer, final=replace(run.final, scores_a_row=2))


def test_every_pruner_and_rule_has_words():
    assert set(RULES) == set(RULE_NAMES)
    assert "halving" in PRUNERS
    for pruner, words in PRUNERS.items():
        plain = re.sub(r" \[\w+\]", "", words).rstrip(".")
        assert plain.split(" [")[0] in re.sub(
            r" \[\d+\]", "", methods_text(told(make_run(), pruner=pruner))
        )


@pytest.mark.parametrize("run", [make_run(), make_run(FOUR)])
def test_each_citation_is_listed_once_and_each_reference_cited(run):
    numbers = told(run, pruner="hyperband")
    text, lines = methods_text(numbers), reference_lines(numbers)
    cited = {int(n) for n in re.findall(r"\[(\d+)\]", text)}
    assert cited == set(range(1, len(lines) + 1))
    entries = re.findall(r"^@\w+\{(\w+),$", bibliography(numbers), re.MULTILINE)
    assert len(entries) == len(set(entries)) == len(lines)
    assert set(entries) <= set(REFERENCES)
    assert methods_text(numbers) == text


def test_a_run_that_kept_no_space_says_so():
    assert "not kept" in space_words(results(make_run()))


def test_every_parameter_of_a_search_is_told():
    space = describe_ranges(default_ranges("dbt"))
    said = space_words({"provenance": {"search_space": space}})
    assert all(name.replace("_", " ") in said for name in space)


def test_the_provenance_of_a_run_keeps_what_could_be_drawn():
    ranges = default_ranges("multimodal")
    kept = describe_ranges(ranges)
    assert kept["dropout"] == asdict(ranges["dropout"])
    assert kept["batch_size"] == {"values": [32, 64, 128]}
