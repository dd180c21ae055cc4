"""Metrics that are functions of sums over rows, without each patient: its part is subtracted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from outerfold.objectives.measures.metric import Sums, Terms, sum_terms
from outerfold.reports.intervals.coded_rows import CodedRows
from outerfold.reports.intervals.leave_out_record import (
    LeaveOut,
    fold_decisions,
    mean_of_finite,
    variance_over_thresholds,
)
from outerfold.storage.records import FloatArray, IntArray

CHUNK = 4096
"""Patients left out at a time, which limits memory."""
SumValue = Callable[[FloatArray, FloatArray], FloatArray]
"""Sums of terms (..., k) and numbers of rows (...,) to a metric (...,)."""


class SumTable:
    """Sums over groups of rows for metrics, side by side in one table.

    The first column counts rows; metrics with the same terms share their columns.

    Args:
        hows: the metrics.
    """

    def __init__(self, hows: Iterable[Sums]) -> None:
        self._terms: tuple[Terms, ...] = tuple(dict.fromkeys(how.terms for how in hows))
        self._columns: dict[Terms, slice] = {}

    def sums(self, rows: CodedRows, key: IntArray, keys: int) -> FloatArray:
        """Sums (keys, columns).

        Args:
            key: (n,) group of each row, 0..keys-1.
            keys: number of groups.
        """
        parts = [np.bincount(key, minlength=keys).astype(np.float64)[:, None]]
        start = 1
        for terms in self._terms:
            of_rows = terms(rows.labels, rows.probabilities, rows.predicted)
            parts.append(sum_terms(of_rows, key, keys))
            self._columns[terms] = slice(start, start := start + parts[-1].shape[1])
        return np.concatenate(parts, axis=1)

    def value(self, how: Sums, value: SumValue, sums: FloatArray) -> FloatArray:
        """Metric (...,) of ``sums`` (..., columns)."""
        return value(sums[..., self._columns[how.terms]], np.maximum(sums[..., 0], 1))


def sum_leave_outs(
    rows: CodedRows, metrics: Mapping[str, tuple[Sums, SumValue]]
) -> dict[str, LeaveOut]:
    """Leave-outs of metrics from pooled rows, by name.

    Args:
        metrics: for each name, whose sums it is of, and its function of them.
    """
    table = SumTable(how for how, _ in metrics.values())
    key = rows.patient * rows.repeats + rows.repeat
    own = table.sums(rows, key, rows.patients * rows.repeats)
    own = own.reshape(rows.patients, rows.repeats, -1)
    total = own.sum(axis=0)
    alone = table.sums(rows, rows.fold, len(rows.fold_names))
    moved = [
        table.sums(replace(rows, predicted=decided), rows.repeat, rows.repeats)
        for decided in fold_decisions(rows)
    ]

    def leave(how: Sums, value: SumValue) -> LeaveOut:
        chunks = (table.value(how, value, total - part) for part in _chunks(own))
        return LeaveOut(
            float(mean_of_finite(table.value(how, value, total))),
            np.concatenate([mean_of_finite(chunk) for chunk in chunks]),
            table.value(how, value, alone),
            True,
            variance_over_thresholds(
                [float(mean_of_finite(table.value(how, value, one))) for one in moved]
            ),
        )

    return {name: leave(*metric) for name, metric in metrics.items()}


def _chunks(values: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
