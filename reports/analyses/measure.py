"""Metrics of one analysis, each with the interval that the overall metrics have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from outerfold.objectives.measures.metric import Metric, Sums, Terms, sum_terms
from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of, jackknife_interval
from outerfold.reports.intervals.leave_one_out import metric_leave_outs
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import Support, metric_support
from outerfold.reports.intervals.variation import Variation, leave_outs
from outerfold.storage.records import FloatArray, IntArray, Predictions

LEVEL = 0.95
"""Nominal coverage of the intervals of all analyses."""


def measure(
    predictions: Predictions,
    metrics: Sequence[Metric],
    variation: Variation,
    of: Of,
    support: Callable[[CodedRows, Metric], Support] = metric_support,
) -> dict[str, ConfidenceInterval]:
    """Each metric with its patient-jackknife interval, by name.

    The interval is widened for the variation of models as that of an overall metric, and it is not
    lengthened for the gain from more patients.

    Args:
        predictions: outer test rows.
        metrics: records that need not be registered.
        variation: predictions by the models of inner folds, by outer fold.
        of: what the intervals are of.
        support: function to the patients and images that a metric is based on.

    Raises:
        DataError: no rows, or an image twice in one repeat.
        LeakError: a patient in two folds of one repeat.
    """

    def leaves(rows: CodedRows) -> Mapping[str, LeaveOut]:
        return metric_leave_outs(rows, metrics)

    def score(rows: Predictions) -> Mapping[str, float]:
        return _scores(rows, metrics)

    rows, found = leave_outs(predictions, leaves, variation, score)
    return {
        metric.name: jackknife_interval(
            replace(found[metric.name], ahead=0.0),
            support(rows, metric),
            tuned=True,
            level=LEVEL,
            of=of,
        )
        for metric in metrics
    }


def _scores(rows: Predictions, metrics: Sequence[Metric]) -> dict[str, float]:
    """Each metric of one model's rows, by name; terms that metrics share are summed once."""
    sums: dict[Terms, FloatArray] = {}
    found = {}
    for metric in metrics:
        how = metric.how
        if not isinstance(how, Sums):
            found[metric.name] = metric.score(rows.labels, rows.probabilities, rows.predicted)
            continue
        if how.terms not in sums:
            terms = how.terms(rows.labels, rows.probabilities, rows.predicted)
            sums[how.terms] = sum_terms(terms, np.zeros_like(rows.labels), 1)[0]
        found[metric.name] = float(how.value(sums[how.terms], np.array(float(len(rows)))))
    return found


def decided(labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> FloatArray:
    """Terms (n, 4) of two classes: true positive, false negative, false positive, true negative."""
    cell = 2 * (labels == 0) + (predicted == 0)
    return np.asarray(np.eye(4)[cell], dtype=np.float64)


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Quotient (...,); NaN where ``whole`` is 0 or less."""
    positive = whole > 0
    return np.asarray(np.where(positive, part / np.where(positive, whole, 1), np.nan))
