"""Encoder of clinical columns: imputes, encodes and scales them by statistics of training rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from outerfold.storage.records import Column, FloatArray


@dataclass(frozen=True)
class FittedColumn:
    """Statistics of one column's training rows.

    Attributes:
        column: name, kind and levels of the column.
        fill: value that replaces a missing one: the median of a numeric column, the most frequent
            code of the others (0 where the training rows have no value).
        mean, scale: mean and standard deviation of a numeric column after filling; 0 and 1 for the
            others.
        known: codes of a categorical column that occur in training rows; any other code becomes
            all zeros.
    """

    column: Column
    fill: float
    mean: float = 0.0
    scale: float = 1.0
    known: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Number of encoded columns of this column, with its missing-value indicator."""
        return 1 + (len(self.column.levels) if self.column.kind == "categorical" else 1)

    def transform(self, values: FloatArray) -> FloatArray:
        """Encode ``values (n,)``, NaN for missing, as ``(n, width)`` without NaN.

        The last encoded column is 1 where the value is missing and 0 elsewhere.
        """
        missing = np.isnan(values)
        filled = np.where(missing, self.fill, values)
        if self.column.kind == "categorical":
            codes = np.arange(len(self.column.levels))
            encoded = (filled[:, None] == codes) & np.isin(codes, self.known)
        else:
            encoded = ((filled - self.mean) / self.scale)[:, None]
        return np.column_stack([encoded, missing]).astype(np.float64)


@dataclass(frozen=True)
class TabularColumns:
    """Encoder of all clinical columns, fitted on training rows."""

    columns: tuple[FittedColumn, ...]

    @classmethod
    def fit(cls, columns: tuple[Column, ...], tabular: FloatArray) -> TabularColumns:
        """Fit the encoder on ``tabular (n, k)``, which must hold training rows only."""
        return cls(tuple(_fit_column(column, tabular[:, i]) for i, column in enumerate(columns)))

    @property
    def width(self) -> int:
        """Number of encoded columns of all clinical columns."""
        return sum(column.width for column in self.columns)

    def transform(self, tabular: FloatArray) -> FloatArray:
        """Encode ``tabular (n, k)``, NaN for missing, as ``(n, width)`` without NaN."""
        if not self.columns:
            return np.zeros((len(tabular), 0))
        return np.concatenate(
            [column.transform(tabular[:, i]) for i, column in enumerate(self.columns)], axis=1
        )


@dataclass(frozen=True)
class NetworkColumns:
    """Encoders of the clinical columns of a stack of networks: one for all of them, or one each.

    Networks of several inner folds have encoders fitted on the training rows of their own fold.

    Attributes:
        each: one encoder, or one for each network. All encode the same columns.
    """

    each: tuple[TabularColumns, ...]

    @classmethod
    def of(cls, encoders: Iterable[TabularColumns]) -> NetworkColumns:
        """Encoders of the networks of a stack, in their order; equal ones become one for all."""
        each = tuple(encoders)
        return cls(each[:1] if all(one == each[0] for one in each) else each)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The clinical columns, before they are encoded."""
        return tuple(fitted.column for fitted in self.each[0].columns)

    @property
    def width(self) -> int:
        """Number of encoded columns of all clinical columns."""
        return self.each[0].width

    def transform(self, tabular: FloatArray) -> FloatArray:
        """Encode ``tabular (n, k)``, NaN for missing, as ``(networks or 1, n, width)``."""
        return np.stack([one.transform(tabular) for one in self.each])


def _fit_column(column: Column, values: FloatArray) -> FittedColumn:
    seen = values[~np.isnan(values)]
    if len(seen) == 0:
        return FittedColumn(column, fill=0.0)
    if column.kind == "numeric":
        fill = float(np.median(seen))
        filled = np.where(np.isnan(values), fill, values)
        return FittedColumn(column, fill, float(filled.mean()), _safe_deviation(filled))
    codes, counts = np.unique(seen.astype(np.int64), return_counts=True)
    return FittedColumn(
        column, fill=float(codes[counts.argmax()]), known=tuple(int(code) for code in codes)
    )


def _safe_deviation(values: FloatArray) -> float:
    # A constant column has no information, but its computed standard deviation need not be 0: that
    # of 0.1, 0.1, 0.1 is 1.4e-17, and divided by it a patient with 0.2 would be 10 ** 16 away.
    deviation = float(values.std())
    return deviation if deviation > max(1e-9 * float(np.abs(values).max()), 1e-30) else 1.0
