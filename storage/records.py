"""The nouns every folder speaks: rows named by id, and the folds cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.errors import DataError as DataError
from outerfold.storage.errors import LeakError as LeakError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]
Ids = tuple[str, ...]
ColumnKind = Literal["numeric", "binary", "categorical"]


@dataclass(frozen=True)
class Column:
    """How one tabular column is read.

    ``levels`` spell the codes of a binary or categorical column: the value 1.0 stands for
    ``levels[1]``. They are the vocabulary of the file, no statistic; which levels a model
    knows is learnt from training rows alone. Empty for a numeric column.
    """

    name: str
    kind: ColumnKind = "numeric"
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Features:
    """What a model may see of rows when it predicts; it has no labels.

    Attributes:
        ids: (n,) unique row names.
        images: (n,) absolute paths of image files.
        tabular: (n, k) one column for each of ``columns``; NaN is missing.
        columns: k descriptions.
    """

    ids: StrArray
    images: StrArray
    tabular: FloatArray
    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.images.shape != (n,) or self.tabular.shape != (n, len(self.columns)):
            raise DataError(
                f"{n} ids need {n} images and a table of ({n}, {len(self.columns)}), "
                f"found {self.images.shape} and {self.tabular.shape}"
            )
        if n > 1 and (self.ids[self._order][1:] == self.ids[self._order][:-1]).any():
            values, counts = np.unique(self.ids, return_counts=True)
            twice = [str(v) for v in values[counts > 1]]
            raise DataError(f"ids must be unique: {twice[:3]} occur twice ({len(twice)} in all)")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _order(self) -> IntArray:
        """Positions by name; 8 bytes a row, where a dictionary takes 200."""
        return np.argsort(self.ids, kind="stable")

    def positions(self, ids: Sequence[str]) -> IntArray:
        """Row positions (len(ids),) of ``ids``, in their order.

        Raises:
            DataError: an id that is not among these rows.
        """
        asked = np.array(ids, dtype=np.str_)
        if not len(self) or not len(asked):
            at, found = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.bool_)
        else:
            near = np.searchsorted(self.ids, asked, sorter=self._order)
            at = self._order[np.minimum(near, len(self) - 1)]
            found = self.ids[at] == asked
        if not found.all():
            strangers = asked[~found].tolist()
            raise DataError(
                f"ids {strangers[:3]} are not among these {len(self)} rows "
                f"({len(strangers)} strangers in all)"
            )
        return at

    def select(self, ids: Sequence[str]) -> Features:
        """These rows only, in the order of ``ids``; a stranger raises ``DataError``."""
        at = self.positions(ids)
        return Features(self.ids[at], self.images[at], self.tabular[at], self.columns)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled rows of known patients.

    Attributes:
        features: n rows.
        labels: (n,) index into ``classes``.
        patients: (n,) patient names; no split ever divides one.
        classes: class names in column order of every probability table.
        fingerprint: hash of ids, image contents, labels, patients and columns.
        name: what the report calls the data.
        synthetic: made by a program; stamped on every page.
        patients_known: False where patients were guessed from near-duplicate images.
        assumptions: sentences on how the source was read, printed and reported.
        sides: (n,) left or right breast, (0,) where one of them is not known.
    """

    features: Features
    labels: IntArray
    patients: StrArray
    classes: tuple[str, ...]
    fingerprint: str
    name: str = "data"
    synthetic: bool = False
    patients_known: bool = True
    assumptions: tuple[str, ...] = ()
    sides: StrArray = field(default_factory=lambda: np.zeros(0, dtype=np.str_))

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.labels.shape != (n,) or self.patients.shape != (n,):
            raise DataError(
                f"{n} rows need {n} labels and patients, "
                f"found {self.labels.shape} and {self.patients.shape}"
            )
        if self.sides.shape not in ((n,), (0,)):
            raise DataError(f"{n} rows need {n} sides or none, found {self.sides.shape}")
        if n and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise DataError(
                f"labels must index the {len(self.classes)} classes {list(self.classes)}, "
                f"found {self.labels.min()}..{self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def ids(self) -> StrArray:
        """(n,) row names."""
        return self.features.ids

    def select(self, ids: Sequence[str]) -> Dataset:
        """These rows only, in the order of ``ids``; a stranger raises ``DataError``."""
        at = self.features.positions(ids)
        return Dataset(
            self.features.select(ids),
            self.labels[at],
            self.patients[at],
            self.classes,
            self.fingerprint,
            self.name,
            self.synthetic,
            self.patients_known,
            self.assumptions,
            self.sides[at] if len(self.sides) else self.sides,
        )


TrainSide = NewType("TrainSide", Dataset)
"""The training side of one outer fold (or all rows, for the shipped model)."""


@dataclass(frozen=True)
class Fold:
    """One inner division: rows that fit, rows that validate; disjoint in ids and patients."""

    name: str
    fit: Ids
    val: Ids
    fit_patients: frozenset[str]
    val_patients: frozenset[str]

    def __post_init__(self) -> None:
        _apart(self.name, ("fit", self.fit), ("val", self.val), "rows")
        _apart(self.name, ("fit", self.fit_patients), ("val", self.val_patients), "patients")


@dataclass(frozen=True)
class OuterFold:
    """One outer division and the inner folds cut from its training side alone.

    The study of all rows, which makes the shipped model, is an outer fold without test rows.
    """

    name: str
    repeat: int
    train: Ids
    test: Ids
    train_patients: frozenset[str]
    test_patients: frozenset[str]
    inner: tuple[Fold, ...]

    def __post_init__(self) -> None:
        _apart(self.name, ("train", self.train), ("test", self.test), "rows")
        _apart(self.name, ("train", self.train_patients), ("test", self.test_patients), "patients")
        train = set(self.train)
        for fold in self.inner:
            outside = [name for name in (*fold.fit, *fold.val) if name not in train]
            if outside:
                raise LeakError(
                    f"{self.name}/{fold.name}: rows {outside[:3]} are not on the training side "
                    f"({len(outside)} in all)"
                )

    def train_side(self, data: Dataset) -> TrainSide:
        """The rows a search may see; the only maker of ``TrainSide``.

        It has no paths of image files: they may name the class, and would be half its memory.
        """
        side = data.select(self.train)
        nowhere = np.full(len(side), "", dtype=np.str_)
        side = replace(side, features=replace(side.features, images=nowhere))
        strangers = sorted(set(side.patients.tolist()) & self.test_patients)
        if strangers:
            raise LeakError(
                f"{self.name}: patients {strangers[:3]} are in both train and test "
                f"({len(strangers)} in all)"
            )
        return TrainSide(side)


def _apart(
    name: str,
    one: tuple[str, Sequence[str] | frozenset[str]],
    other: tuple[str, Sequence[str] | frozenset[str]],
    what: str,
) -> None:
    shared = sorted(set(one[1]) & set(other[1]))
    if shared:
        raise LeakError(
            f"{name}: {what} {shared[:3]} are in both {one[0]} and {other[0]} "
            f"({len(shared)} in all)"
        )


FINAL = "final"
"""Name of the study of all rows."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities for rows by models that did not train on them.

    Attributes:
        ids, patients: (n,) row and patient names.
        fold: (n,) outer fold name of each row.
        repeat: (n,) which repeat of the outer folds, from 0.
        labels: (n,) true class index.
        probabilities: (n, classes), calibrated by that fold's own temperature and shift.
        predicted: (n,) class index by that fold's own decision rule.
        classes: class names.
    """

    ids: StrArray
    patients: StrArray
    fold: StrArray
    repeat: IntArray
    labels: IntArray
    probabilities: FloatArray
    predicted: IntArray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, at: IntArray | NDArray[np.bool_]) -> Predictions:
        """The rows at these positions, or where a mask (n,) is True."""
        return Predictions(
            self.ids[at],
            self.patients[at],
            self.fold[at],
            self.repeat[at],
            self.labels[at],
            self.probabilities[at],
            self.predicted[at],
            self.classes,
        )


@dataclass(frozen=True)
class EpochRow:
    """One epoch of the chosen configuration, averaged over the inner folds.

    ``fit_*`` is on rows that train (loss only, under dropout and resampling), the rest on rows
    that validate.
    """

    epoch: int
    fit_loss: float
    val_loss: float
    accuracy: float
    f1: float
    roc_auc: float


@dataclass(frozen=True, eq=False)
class FoldResult:
    """All that one study leaves behind for a report; ``test`` is None for the final study.

    Attributes:
        name: ``outer-0`` ... or ``final``.
        params: chosen hyper-parameters.
        epochs: chosen number of epochs.
        inner_score: the search's own best value; never a performance figure.
        temperature, shift, threshold: fitted on out-of-fold probabilities of the inner folds; the
            shift of the log-odds is 0 for several classes; the
            threshold is None where several classes decide by the largest probability.
        resampled: images a class (classes,) after resampling, one refit epoch.
        history: epochs of the chosen configuration, averaged over inner folds.
        validation: out-of-fold predictions of the inner folds, every training row once.
        test: outer test rows, scored once.
        trials: counts under ``complete``, ``pruned``, ``failed``.
        notes: sentences, e.g. a sampler that fell back.
        cut_by_time: whether the search had neither all its trials nor run out of patience.
    """

    name: str
    repeat: int
    train_images: int
    test_images: int
    train_patients: int
    test_patients: int
    params: dict[str, float | int | str | bool]
    epochs: int
    inner_score: float
    temperature: float
    threshold: float | None
    resampled: tuple[int, ...]
    history: tuple[EpochRow, ...]
    validation: Predictions
    test: Predictions | None
    trials: dict[str, int]
    notes: tuple[str, ...] = ()
    cut_by_time: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Ensemble:
    """The model that ships where it is the mean of the outer models.

    Attributes:
        members: names of the outer folds whose models are averaged.
        threshold: on the mean probability of the second of two classes; None for several.
    """

    members: tuple[str, ...]
    threshold: float | None


@dataclass(frozen=True, eq=False)
class Run:
    """All that a report may read.

    Attributes:
        dataset: name, images, patients, classes {name: images}, fingerprint, assumptions,
            patients_known, audit (list of warning sentences).
        protocol: outer_folds, inner_folds, repeats, trials, seed, metric, encoder,
            trainable_blocks, level, aggregate.
        outer: finished outer folds, by name.
        final: the study of all rows; None until it is done, and where an ensemble ships.
        timing, provenance: written as they are.
        sides: left or right by image id; empty where they are not known.
        ensemble: the mean of the outer models, where that is what ships.
    """

    name: str
    task: str
    synthetic: bool
    complete: bool
    dataset: dict[str, object]
    protocol: dict[str, object]
    classes: tuple[str, ...]
    outer: tuple[FoldResult, ...]
    final: FoldResult | None
    timing: dict[str, object]
    provenance: dict[str, object]
    sides: dict[str, str] = field(default_factory=dict)
    ensemble: Ensemble | None = None

    @property
    def ships(self) -> bool:
        """Whether the model that ships was made."""
        return self.final is not None or self.ensemble is not None
