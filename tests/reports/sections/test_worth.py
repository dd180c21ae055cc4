"""What the search was worth, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outerfold.reports.blocks import Paragraph
from outerfold.reports.results.results import results
from outerfold.reports.sections.summary import summary
from outerfold.reports.sections.terminal import closing_table
from outerfold.reports.sections.worth import worth_section, worth_sentence
from outerfold.storage.records import DefaultResult
from tests.reports.run_factory import DEFAULT, make_run, without_defaults


def numbers_with(metric: str = "roc_auc", **change: Any) -> dict[str, Any]:
    """Numbers of a run whose difference in the searched metric is ``change``."""
    run = make_run()
    numbers = results(replace(run, protocol={**run.protocol, "metric": metric}))
    numbers["worth"]["overall"][metric]["difference"].update(change)
    return numbers


@pytest.mark.parametrize(
    ("metric", "estimate", "low", "high", "words"),
    [
        (
            "roc_auc",
            0.0123,
            -0.02,
            0.0449,
            "The search gained 0.012 ROC-AUC (95 % CI −0.020 to 0.045): no clear difference from "
            "the default configuration.",
        ),
        (
            "roc_auc",
            0.1,
            0.05,
            0.15,
            "The search gained 0.100 ROC-AUC (95 % CI 0.050 to 0.150): better than the default "
            "configuration.",
        ),
        (
            "roc_auc",
            -0.1,
            -0.15,
            -0.05,
            "The search changed the ROC-AUC by −0.100 (95 % CI −0.150 to −0.050): worse than the "
            "default configuration.",
        ),
        (
            "brier",
            0.02,
            0.01,
            0.03,
            "The search changed the Brier score by 0.020 (95 % CI 0.010 to 0.030): worse than the "
            "default configuration.",
        ),
        (
            "brier",
            -0.02,
            -0.03,
            -0.01,
            "The search lowered the Brier score by 0.020 (95 % CI 0.010 to 0.030): better than "
            "the default configuration.",
        ),
        (
            "brier",
            0.02,
            -0.01,
            0.05,
            "The search changed the Brier score by 0.020 (95 % CI −0.010 to 0.050): no clear "
            "difference from the default configuration.",
        ),
    ],
)
def test_the_sentence_says_how_much_was_gained_and_whether_that_is_clear(
    metric: str, estimate: float, low: float, high: float, words: str
) -> None:
    assert worth_sentence(numbers_with(metric, estimate=estimate, low=low, high=high)) == words


def test_a_difference_without_an_interval_says_why() -> None:
    numbers = numbers_with(estimate=0.01, low=None, high=None, reason="4 patients with 'cancer'")
    assert worth_sentence(numbers) == (
        "The search gained 0.010 ROC-AUC against the default configuration (no interval: "
        "4 patients with 'cancer')."
    )
    undefined = numbers_with(estimate=None, low=None, high=None, reason="a class is missing")
    assert worth_sentence(undefined) == (
        "What the search was worth is not known: a class is missing."
    )


def test_a_default_that_won_everywhere_is_told_in_words() -> None:
    run = make_run()
    chosen = DefaultResult(DEFAULT, chosen=True)
    run = replace(run, outer=tuple(replace(study, default=chosen) for study in run.outer))
    assert worth_sentence(results(run)) == (
        "The search gained nothing: it chose the default configuration in every outer fold, so "
        "the difference in ROC-AUC is 0 and has no interval."
    )
    told = " ".join(str(getattr(block, "text", "")) for block in worth_section(results(run)))
    assert "The search chose it in 5 of 5 outer folds, and not for the delivered model." in told
    assert "learning rate 0.001, dropout 0.3, sampler none." in told


def test_a_run_of_an_earlier_version_says_that_no_default_was_kept() -> None:
    numbers = results(without_defaults(make_run()))
    assert worth_sentence(numbers).startswith(
        "What the search was worth is not known: an earlier version of outerfold"
    )
    assert len(list(worth_section(numbers))) == 2


def test_it_is_said_that_images_are_compared_where_the_report_leads_with_patients() -> None:
    run = make_run()
    numbers = results(replace(run, protocol={**run.protocol, "level": "patient"}))
    assert " ROC-AUC by image (95 % CI" in worth_sentence(numbers)


def test_a_metric_that_several_classes_do_not_have_is_said_to_be_unknown() -> None:
    numbers = numbers_with()
    del numbers["worth"]["overall"]["roc_auc"]
    assert worth_sentence(numbers) == (
        "What the search was worth is not known: ROC-AUC is not reported of these classes."
    )


def test_report_and_terminal_say_it() -> None:
    run = make_run()
    words = worth_sentence(results(run))
    assert Paragraph(words) in summary(results(run))
    assert words in str(closing_table(run).caption)
