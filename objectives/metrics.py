"""Metrics: point scores computed in numpy; each equals scikit-learn's value to 1e-12.

With two classes, the positive class is index 1, and ``roc_auc``, ``average_precision``,
``sensitivity``, ``specificity``, ``brier`` and ``ece`` measure that class. With several classes,
each metric is the mean over classes, one class against the rest. ``precision``, ``recall`` and
``f1`` are the mean over classes for two classes as well.

NaN means that a score is undefined; no warning is given. A class without images makes the scores
of that class and every mean over classes NaN. A class with images that is never predicted has
precision 0.
"""

from __future__ import annotations

from outerfold.objectives.measures.decisions import DECISIONS
from outerfold.objectives.measures.metric import Metric, check_probabilities
from outerfold.objectives.measures.probabilities import PROBABILITIES
from outerfold.objectives.measures.ranks import RANKS
from outerfold.storage.records import FloatArray, IntArray
from outerfold.storage.registry import Registry

METRICS: Registry[Metric] = Registry("metric", (*RANKS, *DECISIONS, *PROBABILITIES))
"""All metrics by name, in the order of tables. Choices, tables and words are read from here."""


def class_metrics() -> tuple[Metric, ...]:
    """Metrics that the table of each class against the rest shows, in the order of its columns."""
    shown = [(metric.column.place, metric) for metric in METRICS.values() if metric.column]
    return tuple(metric for _, metric in sorted(shown, key=lambda pair: pair[0]))


def all_scores(
    labels: IntArray, probabilities: FloatArray, predicted: IntArray | None = None
) -> dict[str, float]:
    """Every metric of ``METRICS``, by name.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).
        predicted: (n,) decided class indices; None decides for the most probable class.

    Raises:
        ValueError: shapes that do not fit, or a probability that is not finite.
    """
    check_probabilities(labels, probabilities)
    chosen = probabilities.argmax(axis=1) if predicted is None else predicted
    return {name: metric.score(labels, probabilities, chosen) for name, metric in METRICS.items()}
