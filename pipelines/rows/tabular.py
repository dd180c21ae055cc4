"""Clinical columns to numbers: imputed, encoded and scaled by what the training rows show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outerfold.storage.records import Column, FloatArray


@dataclass(frozen=True)
class FittedColumn:
    """What one column's training rows said.

    Attributes:
        column: how the values are to be read.
        fill: stands for a missing value: the median of a numeric column, the most frequent
            code of the others (0 where nothing was observed).
        mean, scale: of a numeric column after filling; 0 and 1 for the others.
        known: codes of a categorical column that training rows hold; another code is all zeros.
    """

    column: Column
    fill: float
    mean: float = 0.0
    scale: float = 1.0
    known: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Numbers this column becomes, its missing-indicator included."""
        return 1 + (len(self.column.levels) if self.column.kind == "categorical" else 1)

    def transform(self, values: FloatArray) -> FloatArray:
        """``values (n,)`` with NaN to ``(n, width)`` without; the last column marks the missing."""
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
    """All columns, fitted on training rows."""

    columns: tuple[FittedColumn, ...]

    @classmethod
    def fit(cls, columns: tuple[Column, ...], tabular: FloatArray) -> TabularColumns:
        """Learn from ``tabular (n, k)``, the rows that train and no others."""
        return cls(tuple(_fit(column, tabular[:, i]) for i, column in enumerate(columns)))

    @property
    def width(self) -> int:
        """Numbers a row becomes."""
        return sum(column.width for column in self.columns)

    def transform(self, tabular: FloatArray) -> FloatArray:
        """``(n, k)`` with NaN to ``(n, width)`` without."""
        if not self.columns:
            return np.zeros((len(tabular), 0))
        return np.concatenate(
            [column.transform(tabular[:, i]) for i, column in enumerate(self.columns)], axis=1
        )


def _fit(column: Column, values: FloatArray) -> FittedColumn:
    seen = values[~np.isnan(values)]
    if len(seen) == 0:
        return FittedColumn(column, fill=0.0)
    if column.kind == "numeric":
        fill = float(np.median(seen))
        filled = np.where(np.isnan(values), fill, values)
        return FittedColumn(column, fill, float(filled.mean()), _spread(filled))
    codes, counts = np.unique(seen.astype(np.int64), return_counts=True)
    return FittedColumn(
        column, fill=float(codes[counts.argmax()]), known=tuple(int(code) for code in codes)
    )


def _spread(values: FloatArray) -> float:
    # A constant column says nothing. Its spread need not be 0: that of 0.1, 0.1, 0.1 is 1.4e-17,
    # and divided by it a patient with 0.2 would be 10 ** 16 spreads away.
    spread = float(values.std())
    return spread if spread > max(1e-9 * float(np.abs(values).max()), 1e-30) else 1.0
