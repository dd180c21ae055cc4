from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outerfold.reports.results.results import results
from outerfold.reports.sections.fold_table import fold_table
from outerfold.reports.sections.model_card import markdown
from outerfold.reports.sections.summary import summary
from outerfold.reports.wording import number, value
from tests.reports.results.test_fold_entries import changed
from tests.reports.run_factory import FOUR, make_run, unfinished


@pytest.mark.parametrize("level", ["image", "patient"])
def test_the_table_has_each_fold_with_its_interval_and_the_delivered_model(level):
    run = make_run()
    numbers = results(replace(run, protocol={**run.protocol, "level": level}))
    table = fold_table(numbers)
    assert [row[0] for row in table.rows] == [*(s.name for s in run.outer), "Delivered"]
    at = table.header.index("ROC-AUC")
    for row, fold in zip(table.rows, numbers["folds"][level], strict=False):
        assert row[at].replace("\n", " ") == value(fold["metrics"]["roc_auc"])
    thresholds = [row[table.header.index("Threshold")] for row in table.rows]
    expected = [fold["threshold"] for fold in numbers["folds"][level]]
    final = numbers["final"] if level == "image" else numbers["levels"][level]["thresholds"]
    expected.append(final["threshold" if level == "image" else "final"])
    assert thresholds == [number(one) for one in expected]
    assert f"by {level}" in table.caption


def test_several_classes_have_neither_threshold_nor_slope():
    table = fold_table(results(make_run(FOUR)))
    assert "Slope" not in table.header
    assert "Threshold" not in table.header
    assert "Macro ROC-AUC" in table.header


def test_an_unfinished_run_has_a_table_without_a_delivered_model():
    table = fold_table(results(unfinished(make_run(), folds=2)))
    assert table.rows[-1][1:] == ("–",) * (len(table.header) - 1)
    assert "There is no delivered model yet." in table.notes


def test_page_one_names_an_odd_fold_and_a_healthy_page_none():
    run = make_run()
    size = len(run.outer[2].test)
    planted = results(changed(run, 2, predicted=np.ones(size, dtype=np.int64)))
    text = markdown(summary(planted))
    at = text.index("Odd fold, by image: outer-2 calls every image cancer")
    assert at < text.index("## Data")
    assert "Odd: this fold calls every image cancer" in text
    assert "Odd" not in markdown(summary(results(run)))
