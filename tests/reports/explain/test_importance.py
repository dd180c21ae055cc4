"""A loss is a paired difference of ROC-AUC with the interval of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outerfold.reports.explain.importance import (
    Altered,
    contribution,
    contribution_csv,
    contribution_table,
)
from outerfold.reports.intervals.overall import overall, paired_difference
from outerfold.reports.results.predictions import test_rows as joined_rows
from outerfold.storage.records import Predictions
from tests.reports.run_factory import BINARY, FOUR, make_run


def whole(classes: tuple[str, ...]) -> Predictions:
    rows = joined_rows(make_run(classes))
    assert rows is not None
    return rows


def noisier(rows: Predictions, seed: int) -> Predictions:
    odds = np.log(rows.probabilities)
    odds += np.random.default_rng(seed).normal(scale=1.5, size=odds.shape)
    shares = np.exp(odds)
    return replace(rows, probabilities=shares / shares.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("classes", [BINARY, FOUR])
def test_one_loss_is_the_paired_difference_of_two_runs(classes: tuple[str, ...]) -> None:
    rows = whole(classes)
    other = noisier(rows, 1)
    found = contribution(rows, [Altered("image", "mean", (other,))])
    truth = paired_difference(rows, other, tuned=True)["roc_auc"]
    (one,) = found["losses"]
    assert one["loss"]["estimate"] == pytest.approx(truth.estimate, abs=1e-12)
    assert (one["loss"]["low"], one["loss"]["high"]) == pytest.approx((truth.low, truth.high))
    assert one["loss"]["method"] == truth.method
    alone = overall(rows, tuned=True)["roc_auc"]
    assert found["whole"]["low"] == pytest.approx(alone.low)
    assert (found["patients"], found["images"]) == (110, len(set(rows.ids.tolist())))


def test_permutations_are_averaged_before_the_interval() -> None:
    rows = whole(BINARY)
    turns = tuple(noisier(rows, seed) for seed in range(4))
    (one,) = contribution(rows, [Altered("age", "permuted", turns)])["losses"]
    each = [paired_difference(rows, turn, tuned=True)["roc_auc"].estimate for turn in turns]
    assert one["loss"]["estimate"] == pytest.approx(float(np.mean(each)))
    assert one["permutations"] == 4


def test_taking_nothing_away_has_a_reason_and_no_interval() -> None:
    rows = whole(BINARY)
    found = contribution(rows, [Altered("age", "permuted", (rows,))])
    loss = found["losses"][0]["loss"]
    assert (loss["estimate"], loss["low"]) == (0.0, None)
    assert "no spread" in loss["reason"]
    assert "no interval" in contribution_table(found).rows[0][3]


def test_table_and_csv_are_stamped_and_say_n_and_method() -> None:
    rows = whole(BINARY)
    found = contribution(rows, [Altered("image", "mean", (noisier(rows, 2),))])
    table = contribution_table(found, ("SYNTHETIC DATA",))
    assert "[SYNTHETIC DATA]" in table.caption
    text = " ".join(table.notes)
    assert "n = 110 patients" in text
    assert "paired patient jackknife" in text
    header, line = contribution_csv(found, synthetic=True).splitlines()
    assert header.endswith("synthetic_data")
    assert line.endswith("true")
    assert "paired patient jackknife" in line
