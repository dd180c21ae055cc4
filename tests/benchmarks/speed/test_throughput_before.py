"""Table of one study by two trees."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.throughput_before import FINALS, table


def test_the_ratio_is_of_the_same_seed_and_the_mean_over_seeds_is_geometric() -> None:
    def results(*seconds: float) -> list[dict[str, Any]]:
        return [{"wall": one, "scores": [0.7, 0.8]} for one in seconds]

    found = dict(zip(FINALS, (results(40, 90), results(20, 90), results(10, 10)), strict=True))
    text = table(found, [0, 1])
    assert "| 0 | 40.0 | 20.0 | 10.0 | 0.7500 |" in text
    assert text.endswith("Times as quick as before: refit, now: 1.41; folds, now: 6.00.")
