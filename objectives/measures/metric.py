"""The record of a metric: its name, its scale, its score, and how a patient is left out of it.

A metric says itself how it is computed without each patient, in one of three ways. ``Sums`` is a
function of sums over rows, so a patient's part is subtracted; ``Ranks`` orders the rows of one
class against the rest; ``Whole`` is any other, which is computed again without each patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outerfold.storage.records import BoolArray, FloatArray, IntArray

Needs = Literal["ranks", "probabilities", "decisions"]
Score = Callable[[IntArray, FloatArray, IntArray], float]
"""Labels (n,), probabilities (n, classes) and decided classes (n,) to one number."""


@dataclass(frozen=True)
class Scale:
    """Range of a metric, and the scale on which its interval is computed.

    Attributes:
        name: ``Wilson`` for a proportion of images, ``logit`` for another number inside the range,
            ``linear`` for one that sampling may carry out of it, ``log`` for one without an upper
            bound.
        low, high: smallest and largest value; infinite where there is none.
    """

    name: Literal["Wilson", "logit", "linear", "log"]
    low: float = 0.0
    high: float = 1.0

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def origin(self) -> float:
        """The end that counts as 0; 0 itself on an unbounded scale."""
        return self.low if self.bounded else 0.0

    @property
    def unit(self) -> float:
        """Length of the range; 1 on an unbounded scale."""
        return self.high - self.low if self.bounded else 1.0


PROPORTION = Scale("Wilson")
UNIT = Scale("logit")
GAP = Scale("linear")
CORRELATION = Scale("logit", -1.0, 1.0)
"""The logit of (r + 1) / 2 is twice Fisher's z of r."""
POSITIVE = Scale("log", 0.0, np.inf)
REAL = Scale("linear", -np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class Cells:
    """Terms of rows of which each counts in one column alone.

    Attributes:
        column: (n,) column of each row, 0..columns-1.
        value: (n,) what the row adds there.
        columns: number of columns.
    """

    column: IntArray
    value: FloatArray
    columns: int


Terms = Callable[[IntArray, FloatArray, IntArray], FloatArray | Cells]
"""Labels, probabilities and decisions to the terms of each row, (n,), (n, k) or ``Cells``."""


def sum_terms(terms: FloatArray | Cells, key: IntArray, keys: int) -> FloatArray:
    """Sums (keys, k) of the terms of rows, group by group.

    Args:
        key: (n,) group of each row, 0..keys-1.
        keys: number of groups.
    """
    if isinstance(terms, Cells):
        codes, cells = key * terms.columns + terms.column, keys * terms.columns
        sums = np.bincount(codes, terms.value, cells).reshape(keys, -1)
        return np.asarray(sums, dtype=np.float64)
    columns = terms.reshape(len(key), -1).T
    return np.stack([np.bincount(key, column, keys) for column in columns], axis=-1)


Numbers = FloatArray | IntArray | np.number


def ratio(part: Numbers, whole: Numbers, empty: float = np.nan) -> FloatArray:
    """``part / whole``, both (...,), and ``empty`` where ``whole`` is not positive."""
    filled: FloatArray = np.full(np.shape(whole), empty)
    return np.divide(part, whole, out=filled, where=np.asarray(whole) > 0)


def mean_of_rows(sums: FloatArray, rows: FloatArray) -> FloatArray:
    """Mean (...,) of one term a row, from its sums (..., 1) and numbers of rows (...,)."""
    return np.asarray(sums[..., 0] / rows, dtype=np.float64)


@dataclass(frozen=True)
class Sums:
    """A metric that is a mean over rows, or another function of sums over rows.

    Attributes:
        terms: terms of each row; metrics with the same function share its sums.
        value: metric (...,) from sums (..., k) and numbers of rows (...,), which are 1 or more.
        biased: whether few rows push the metric in one direction; its mean over resamples of the
            patients then corrects the estimate.
    """

    terms: Terms
    value: Callable[[FloatArray, FloatArray], FloatArray] = mean_of_rows
    biased: bool = False

    def score(self, labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
        """The metric of rows; NaN without any."""
        if not len(labels):
            return float("nan")
        terms = self.terms(labels, probabilities, predicted)
        sums = sum_terms(terms, np.zeros_like(labels), 1)[0]
        return float(self.value(sums, np.array(float(len(labels)))))


@dataclass(frozen=True)
class Ranks:
    """A metric of the order of rows, one class against the rest; the mean over several classes.

    It is a mean over folds, since probabilities of two models need not be comparable.

    Attributes:
        of_class: the metric of rows that are positive (n,) and their scores (n,).
        without: the metric, and the metric (patients,) without each patient, from positive (n,),
            scores (n,), patient (n,) with codes 0..patients-1, and the number of patients.
        weighted: the metric (resamples,) of rows that count ``weights`` (resamples, n) times.
        pool_below: the rows of all folds are scored together where a fold has fewer patients of
            the class than this.
    """

    of_class: Callable[[BoolArray, FloatArray], float]
    without: Callable[[BoolArray, FloatArray, IntArray, int], tuple[float, FloatArray]]
    weighted: Callable[[BoolArray, FloatArray, FloatArray], FloatArray]
    pool_below: int = 0

    def score(self, labels: IntArray, probabilities: FloatArray, predicted: IntArray) -> float:
        """The metric of rows; NaN where a class is missing."""
        if probabilities.shape[1] == 2:
            return self.of_class(labels == 1, probabilities[:, 1])
        each = [self.of_class(labels == c, p) for c, p in enumerate(probabilities.T)]
        return float(np.array(each, dtype=np.float64).mean())


@dataclass(frozen=True)
class Whole:
    """Any other metric. It is computed again without each patient, in O(patients x rows).

    Attributes:
        score: the metric of rows; NaN where it is undefined.
    """

    score: Score


@dataclass(frozen=True)
class ClassColumn:
    """Column of a metric in the table of each class against the rest.

    Attributes:
        place: place among the columns, from 0.
        of_sums: for ``Sums``: the metric of each class (..., classes) from the sums (..., k).
        scale: range of the metric of one class.
        rows: rows that count: those ``inside`` the class, ``outside`` it, ``predicted`` as it, or
            those of the ``rarer`` side.
    """

    place: int
    of_sums: Callable[[FloatArray], FloatArray] | None = None
    scale: Scale = UNIT
    rows: Literal["inside", "outside", "predicted", "rarer"] = "rarer"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, which turns n rows into one number.

    Attributes:
        name: its key in ``METRICS`` and its name as an option.
        label: its printed name.
        direction: ``maximize`` or ``minimize``, in Optuna's spelling.
        needs: what it scores. Decisions are pooled over folds with a threshold for each; the width
            of an interval depends on whether probabilities are scored.
        how: how it is computed, and left out.
        scale: its range.
        several: its range with more than two classes, where that differs.
        own_score: exact score of rows where the sum of terms rounds otherwise.
        macro: when it is called a mean over classes: with ``several`` of them, ``always``, or not.
        proper: whether its label keeps its capitals within a sentence.
        two_only: whether its interval is shown for two classes alone.
        rows: rows that count: all, the ``positive``, the ``negative`` ones, or those of the
            ``rarest`` class.
        never_predicted: remark where a class is never predicted.
        column: its column in the table of classes; None if it has none.
    """

    name: str
    label: str
    direction: Literal["maximize", "minimize"]
    needs: Needs
    how: Sums | Ranks | Whole
    scale: Scale = UNIT
    several: Scale | None = None
    own_score: Score | None = None
    macro: Literal["", "several", "always"] = ""
    proper: bool = False
    two_only: bool = False
    rows: Literal["all", "positive", "negative", "rarest"] = "rarest"
    never_predicted: str = ""
    column: ClassColumn | None = None

    def score(
        self, labels: IntArray, probabilities: FloatArray, predicted: IntArray | None = None
    ) -> float:
        """The metric of n rows; NaN where it is undefined, without a warning.

        Args:
            labels: (n,) class indices.
            probabilities: (n, classes).
            predicted: (n,) decided class indices; None decides for the most probable class, and
                for the first of equal ones.

        Raises:
            ValueError: shapes that do not fit, or a probability that is not finite.
        """
        check_probabilities(labels, probabilities)
        chosen = probabilities.argmax(axis=1) if predicted is None else predicted
        return float((self.own_score or self.how.score)(labels, probabilities, chosen))

    def scale_of(self, classes: int) -> Scale:
        """Its range for this number of classes."""
        return self.several if self.several is not None and classes > 2 else self.scale

    def shown(self, classes: int) -> bool:
        """Whether it is among the overall metrics for this number of classes."""
        return classes == 2 or not self.two_only

    def printed(self, classes: int) -> str:
        """Printed name; it begins with Macro if it is a mean over classes."""
        if self.macro == "always" or (self.macro == "several" and classes > 2):
            return f"Macro {self.label if self.proper else self.label.lower()}"
        return self.label

    def phrase(self, classes: int) -> str:
        """Name for the middle of a sentence, without a capital."""
        name = self.printed(classes)
        return name if self.proper and name == self.label else name[0].lower() + name[1:]


def check_probabilities(labels: IntArray, probabilities: FloatArray) -> None:
    """Check that rows can be scored.

    Args:
        labels: (n,) class indices.
        probabilities: (n, classes).

    Raises:
        ValueError: shapes that do not fit, or a probability that is not finite.
    """
    if (
        probabilities.ndim != 2
        or probabilities.shape[1] < 2
        or labels.shape != probabilities.shape[:1]
    ):
        raise ValueError(
            f"scores need (n,) labels and (n, 2 or more) probabilities, "
            f"found {labels.shape} and {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        wrong = np.unique(np.argwhere(~np.isfinite(probabilities))[:, 0]).tolist()
        raise ValueError(
            f"{len(wrong)} of {len(labels)} rows have a probability that is not finite, "
            f"first rows {wrong[:3]}: the model diverged"
        )
