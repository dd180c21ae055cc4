"""What a metric says of itself: its range, its names, its columns, and sums of groups of rows."""

from __future__ import annotations

import numpy as np
import pytest

from outerfold.objectives.measures.metric import (
    CORRELATION,
    GAP,
    POSITIVE,
    PROPORTION,
    REAL,
    UNIT,
    Cells,
    Scale,
    Sums,
    sum_terms,
)
from outerfold.objectives.metrics import METRICS, class_metrics

NAMES = {
    "roc_auc": ("ROC-AUC", "Macro ROC-AUC", "ROC-AUC"),
    "average_precision": ("Average precision", "Macro average precision", "average precision"),
    "accuracy": ("Accuracy", "Accuracy", "accuracy"),
    "balanced_accuracy": ("Balanced accuracy", "Balanced accuracy", "balanced accuracy"),
    "f1": ("Macro F1", "Macro F1", "macro F1"),
    "precision": ("Macro precision", "Macro precision", "macro precision"),
    "recall": ("Macro recall", "Macro recall", "macro recall"),
    "sensitivity": ("Sensitivity", "Macro sensitivity", "sensitivity"),
    "specificity": ("Specificity", "Macro specificity", "specificity"),
    "brier": ("Brier score", "Brier score", "Brier score"),
    "ece": (
        "Expected calibration error",
        "Expected calibration error",
        "expected calibration error",
    ),
}
"""Printed for two classes and for four, and within a sentence for two."""


def test_every_metric_has_its_names() -> None:
    said = {
        name: (metric.printed(2), metric.printed(4), metric.phrase(2))
        for name, metric in METRICS.items()
    }
    assert said == NAMES
    assert METRICS["roc_auc"].phrase(4) == "macro ROC-AUC"
    assert [metric.printed(3) for metric in METRICS.values()] == [
        metric.printed(4) for metric in METRICS.values()
    ]
    assert METRICS["sensitivity"].printed(3) == "Macro sensitivity"


def test_sensitivity_and_specificity_are_shown_for_two_classes_alone() -> None:
    assert all(metric.shown(2) for metric in METRICS.values())
    hidden = [name for name, metric in METRICS.items() if not metric.shown(3)]
    assert hidden == ["sensitivity", "specificity"]


def test_the_columns_of_the_table_of_classes_stand_in_this_order() -> None:
    assert [metric.name for metric in class_metrics()] == [
        "precision",
        "recall",
        "f1",
        "specificity",
        "roc_auc",
        "average_precision",
    ]
    assert [metric.column.place for metric in class_metrics() if metric.column] == [*range(6)]


@pytest.mark.parametrize(
    ("scale", "bounded", "origin", "unit"),
    [
        (PROPORTION, True, 0, 1),
        (UNIT, True, 0, 1),
        (GAP, True, 0, 1),
        (CORRELATION, True, -1, 2),
        (POSITIVE, False, 0, 1),
        (REAL, False, 0, 1),
        (Scale("log", 5.0, np.inf), False, 0, 1),
        (Scale("linear", -np.inf, 5.0), False, 0, 1),
        (Scale("logit", 2.0, 5.0), True, 2, 3),
    ],
)
def test_a_scale_knows_its_ends(scale: Scale, bounded: bool, origin: float, unit: float) -> None:
    assert (scale.bounded, scale.origin, scale.unit) == (bounded, origin, unit)


def test_the_range_with_more_than_two_classes_is_its_own_where_it_differs() -> None:
    for metric in METRICS.values():
        assert metric.scale_of(2) is metric.scale
        assert metric.scale_of(3) is (metric.several or metric.scale)
    assert {name for name, metric in METRICS.items() if metric.several} == {"brier"}


def test_only_the_calibration_error_is_biased_by_few_rows() -> None:
    sums = {name: one.how for name, one in METRICS.items() if isinstance(one.how, Sums)}
    assert [name for name, how in sums.items() if how.biased] == ["ece"]


def test_terms_are_summed_group_by_group() -> None:
    key = np.array([1, 0, 1])
    terms = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0], [4.0, 40.0, 400.0]])
    summed = [[2.0, 20.0, 200.0], [5.0, 50.0, 500.0], [0.0, 0.0, 0.0]]
    assert sum_terms(terms, key, 3).tolist() == summed
    assert sum_terms(terms[:, 0], key, 3).tolist() == [[2.0], [5.0], [0.0]]
    cells = Cells(np.array([2, 0, 2]), np.array([1.0, 2.0, 4.0]), 3)
    assert sum_terms(cells, key, 3).tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", [n for n, one in METRICS.items() if isinstance(one.how, Sums)])
@pytest.mark.parametrize("classes", [2, 3])
def test_sums_of_many_groups_are_scored_at_once(name: str, classes: int) -> None:
    draw = np.random.default_rng(3)
    labels, key = draw.integers(0, classes, 60), np.repeat([0, 1, 2], 20)
    probabilities = draw.dirichlet(np.ones(classes), 60)
    decided = draw.integers(0, classes, 60)
    how = METRICS[name].how
    assert isinstance(how, Sums)
    sums = sum_terms(how.terms(labels, probabilities, decided), key, 3)
    for shape in ((3,), (1, 3), (3, 1)):
        found = how.value(sums.reshape(*shape, -1), np.full(shape, 20.0))
        alone = [
            METRICS[name].score(labels[key == at], probabilities[key == at], decided[key == at])
            for at in range(3)
        ]
        np.testing.assert_allclose(found, np.reshape(alone, shape), rtol=1e-12)
