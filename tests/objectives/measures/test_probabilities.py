"""Terms of the metrics of probabilities: bins, gaps and the range of the Brier score."""

from __future__ import annotations

import numpy as np

from outerfold.objectives.measures.probabilities import calibration_gaps
from outerfold.objectives.metrics import METRICS


def test_there_are_fifteen_bins_which_are_open_below() -> None:
    edges = np.arange(16) / 15
    sure = np.concatenate([edges, edges[:-1] + 0.01])
    bins, gaps = calibration_gaps(np.zeros(31, int), np.stack([1 - sure, sure], axis=1))
    assert bins.tolist() == [0, *range(15), *range(15)]
    np.testing.assert_allclose(gaps, sure)
    above = np.array([[0.0, np.nextafter(1.0, 2.0)]])  # a sum that was rounded
    assert calibration_gaps(np.ones(1, int), above)[0].tolist() == [14]


def test_the_brier_score_lies_between_0_and_1_and_with_several_classes_2() -> None:
    brier = METRICS["brier"]
    assert (brier.scale.low, brier.scale.high) == (0, 1)
    assert (brier.scale_of(4).low, brier.scale_of(4).high) == (0, 2)
    wrong = np.eye(3)[[1, 2, 0]]
    assert brier.score(np.array([0, 1, 2]), wrong) == 2


def test_scores_of_probabilities_count_all_rows() -> None:
    counted = {name: metric.rows for name, metric in METRICS.items()}
    assert counted["brier"] == counted["ece"] == counted["accuracy"] == "all"
    assert {name for name, rows in counted.items() if rows == "rarest"} == {
        "roc_auc",
        "average_precision",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
    }
