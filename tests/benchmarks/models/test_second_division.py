"""Calibrations of a mean of networks, on made scores of known reliability."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.models import second_division
from benchmarks.models.second_division import KeptFold, fit, reliability


def made(n: int, networks: int = 4) -> KeptFold:
    """A fold whose networks share half of the variance of their log-odds."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        shared = rng.normal(0, 1, n)
        labels = (rng.random(n) < 1 / (1 + np.exp(-0.6 * shared))).astype(np.int64)
        own = rng.normal(0, 1, (count, n))
        return labels, 1 / (1 + np.exp(-(shared + own)))

    labels, (first, second) = draw(2)
    others, each = draw(networks)
    return KeptFold(labels, first, second, others, each)


def test_a_calibration_is_the_steeper_the_more_networks_it_is_for() -> None:
    fold = made(40_000)
    assert 0.3 < reliability(fold) < 0.6, "the mean is of probabilities, not of log-odds"
    needed = fit(fold.others, fold.each.mean(0)).slope
    found = {name: way(fold).slope for name, way in second_division.WAYS.items()}
    one, two, extended, second = found.values()
    assert one < two < extended
    assert extended == pytest.approx(needed, rel=0.06)
    assert second == pytest.approx(needed, rel=0.06)


def test_the_page_tells_each_way_by_data_set() -> None:
    text = second_division.page({"demo": [[made(300), made(300)], [made(200)] * 2]})
    assert "## demo: 2 studies of 100 patients" in text
    rows = [line for line in text.splitlines() if line.startswith("| **the mean of two")]
    assert len(rows) == 1
    assert " of 4 |" in rows[0]
    assert "A single network has an ROC-AUC of" in text
