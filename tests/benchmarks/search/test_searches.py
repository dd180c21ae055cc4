"""The cost of several trials at once is told of whole searches, against one at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.searches import run_search, table
from benchmarks.shared.small_studies import Pool, small_config
from tests.factories import make_rows

CONFIG = replace(
    small_config("multimodal", trials=4, epochs=10), outer_folds=2, inner_folds=2, pruner="halving"
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    data, source = make_rows(patients=40, signal=0.5)
    return Pool(data, source, {"name": "array:test", "weights": ""})


def test_trials_that_see_no_other_are_never_pruned(pool: Pool, tmp_path: Path) -> None:
    all_at_once = run_search(tmp_path / "four", pool, replace(CONFIG, in_flight=CONFIG.trials))
    one_at_a_time = run_search(tmp_path / "one", pool, CONFIG)
    trials = CONFIG.outer_folds * CONFIG.trials
    assert all_at_once["complete"].tolist() == [trials]
    assert all_at_once["epochs"].tolist() == [trials * CONFIG.epochs]
    assert one_at_a_time["epochs"] < all_at_once["epochs"]
    assert 0 <= one_at_a_time["score"] <= 1


def test_a_row_tells_the_paired_difference_and_its_error() -> None:
    scores = {"1": np.array([0.6, 0.7, 0.8]), "4": np.array([0.61, 0.72, 0.83])}
    lines = table(
        {
            count: {"epochs": np.array([9, 9, 9]), "complete": np.array([2, 3, 4]), "score": score}
            for count, score in scores.items()
        }
    ).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "1",
        "9",
        "3",
        "0.7000",
        "",
    ]
    assert lines[3].endswith("| 4 | 9 | 3 | 0.7200 | +0.0200 (0.0058) |")
