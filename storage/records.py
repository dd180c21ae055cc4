"""Records that every folder uses: columns, rows, folds, predictions and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NewType

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.errors import DataError as DataError
from outerfold.storage.errors import LeakError as LeakError
from outerfold.storage.set_aside import SetAside as SetAside

BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]
Float32 = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]
Ids = tuple[str, ...]
ColumnKind = Literal["numeric", "binary", "categorical"]


@dataclass(frozen=True)
class Column:
    """Name and kind of one tabular column.

    ``levels`` are the texts of a binary or categorical column: the value 1.0 stands for
    ``levels[1]``. They list the texts in the file and are no statistic; a model learns which
    levels it uses from training rows alone. ``levels`` is empty for a numeric column.

    ``gaps`` are the numbers that were read as missing, such as 999. They enter no comparison and no
    fingerprint, since the values of the rows have them as NaN.
    """

    name: str
    kind: ColumnKind = "numeric"
    levels: tuple[str, ...] = ()
    gaps: tuple[float, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Features:
    """Inputs of a model for n rows, without labels.

    Attributes:
        ids: (n,) unique row names.
        images: (n,) absolute paths of image files.
        tabular: (n, k) values, one column for each of ``columns``; NaN is missing.
        columns: k column descriptions.

    Raises:
        DataError: the shapes do not fit, or an id occurs twice.

    Example:
        >>> import numpy as np
        >>> rows = Features(np.array(["a", "b"]), np.array(["/a.png", "/b.png"]), np.zeros((2, 0)))
        >>> rows.select(["b"]).images.tolist()
        ['/b.png']
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
        """Row positions (n,) sorted by id; 8 bytes a row, where a dictionary takes 200."""
        return np.argsort(self.ids, kind="stable")

    def positions(self, ids: Sequence[str]) -> IntArray:
        """Row positions (len(ids),) of ``ids``, in the order of ``ids``.

        Raises:
            DataError: an id is not among these rows.
        """
        asked = np.array(ids, dtype=np.str_)
        if not len(self) or not len(asked):
            at, found = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.bool_)
        else:
            near = np.searchsorted(self.ids, asked, sorter=self._order)
            at = self._order[np.minimum(near, len(self) - 1)]
            found = self.ids[at] == asked
        if not found.all():
            unknown_ids = asked[~found].tolist()
            raise DataError(
                f"ids {unknown_ids[:3]} are not among these {len(self)} rows "
                f"({len(unknown_ids)} unknown ids in all)"
            )
        return at

    def select(self, ids: Sequence[str]) -> Features:
        """The rows of ``ids`` only, in that order; an unknown id raises ``DataError``."""
        at = self.positions(ids)
        return Features(self.ids[at], self.images[at], self.tabular[at], self.columns)


@dataclass(frozen=True, eq=False)
class Dataset:
    """n rows with their labels and patients.

    Attributes:
        features: inputs of the n rows.
        labels: (n,) index into ``classes``.
        patients: (n,) patient names; no split puts a patient's rows on both of its sides.
        classes: class names in column order of every probability table.
        fingerprint: hash of ids, image contents, labels, patients and columns.
        name: name of the data in the report.
        synthetic: whether a program made the data; every page of the report is marked then.
        patients_known: False where patients were guessed from near-duplicate images.
        assumptions: sentences on how the source was read, printed and reported.
        sides: (n,) left or right breast, (0,) where the side of any row is not known.
        groups: (n,) names of suspected patients: rows of two patients that may be one have one
            group. No split puts a group's rows on both of its sides. They are the patients where
            none is given.
        set_aside: rows of the source that are left out because they cannot be used.
        facts: (n,) texts of columns of the source by name, for reports alone: no training side has
            them.
        originals: (n,) class of each row in the source, where classes were merged; else (0,).

    Raises:
        DataError: the shapes do not fit, or a label is no index into ``classes``.
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
    groups: StrArray = field(default_factory=lambda: np.zeros(0, dtype=np.str_))
    set_aside: tuple[SetAside, ...] = ()
    facts: Mapping[str, StrArray] = field(default_factory=dict)
    originals: StrArray = field(default_factory=lambda: np.zeros(0, dtype=np.str_))

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.groups.shape != (n,):
            if self.groups.shape != (0,):
                raise DataError(f"{n} rows need {n} groups or none, found {self.groups.shape}")
            object.__setattr__(self, "groups", self.patients)
        if self.labels.shape != (n,) or self.patients.shape != (n,):
            raise DataError(
                f"{n} rows need {n} labels and patients, "
                f"found {self.labels.shape} and {self.patients.shape}"
            )
        if self.sides.shape not in ((n,), (0,)):
            raise DataError(f"{n} rows need {n} sides or none, found {self.sides.shape}")
        for what, texts in (*self.facts.items(), ("originals", self.originals)):
            if texts.shape != (n,) and (what != "originals" or len(texts)):
                raise DataError(f"{n} rows need {n} texts of {what}, found {texts.shape}")
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
        """The rows of ``ids`` only, in that order; an unknown id raises ``DataError``."""
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
            self.groups[at],
            self.set_aside,
            {name: texts[at] for name, texts in self.facts.items()},
            self.originals[at] if len(self.originals) else self.originals,
        )


TrainSide = NewType("TrainSide", Dataset)
"""Training rows of one outer fold, or all rows for the shipped model."""


@dataclass(frozen=True)
class Fold:
    """One inner fold: ids of fit rows and of validation rows, and the patients of each.

    Raises:
        LeakError: a row or a patient is in both.

    Example:
        >>> one = frozenset({"P1"})
        >>> Fold("k", ("a", "b"), ("c",), one, one)
        Traceback (most recent call last):
            ...
        outerfold.storage.errors.LeakError: k: patients ['P1'] are in both fit and val (1 in all)
    """

    name: str
    fit: Ids
    val: Ids
    fit_patients: frozenset[str]
    val_patients: frozenset[str]

    def __post_init__(self) -> None:
        _require_disjoint(self.name, ("fit", self.fit), ("val", self.val), "rows")
        _require_disjoint(
            self.name, ("fit", self.fit_patients), ("val", self.val_patients), "patients"
        )


@dataclass(frozen=True)
class OuterFold:
    """One outer fold (training and test rows) and the inner folds within its training rows.

    The study of all rows, which makes the shipped model, is an outer fold without test rows.

    Raises:
        LeakError: a row or a patient is in both train and test, or an inner fold holds a row
            that is not in ``train``.
    """

    name: str
    repeat: int
    train: Ids
    test: Ids
    train_patients: frozenset[str]
    test_patients: frozenset[str]
    inner: tuple[Fold, ...]

    def __post_init__(self) -> None:
        _require_disjoint(self.name, ("train", self.train), ("test", self.test), "rows")
        _require_disjoint(
            self.name, ("train", self.train_patients), ("test", self.test_patients), "patients"
        )
        train = set(self.train)
        for fold in self.inner:
            outside = [name for name in (*fold.fit, *fold.val) if name not in train]
            if outside:
                raise LeakError(
                    f"{self.name}/{fold.name}: rows {outside[:3]} are not on the training side "
                    f"({len(outside)} in all)"
                )

    def train_side(self, data: Dataset) -> TrainSide:
        """Training rows of this fold, all that a search may see; only this method makes them.

        The paths of the image files are left empty: a path may name the class, and the paths
        would take half the memory. The columns for reports alone, a reader's for example, and the
        classes before they were merged are left out.

        Raises:
            LeakError: a patient of the training rows is also in the test fold.
        """
        side = replace(data, facts={}, originals=np.zeros(0, dtype=np.str_)).select(self.train)
        no_paths = np.full(len(side), "", dtype=np.str_)
        side = replace(side, features=replace(side.features, images=no_paths))
        shared = sorted(set(side.groups.tolist()) & self.test_patients)
        if shared:
            raise LeakError(
                f"{self.name}: patients {shared[:3]} are in both train and test "
                f"({len(shared)} in all)"
            )
        return TrainSide(side)


def _require_disjoint(
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
"""Name of the study of all rows, which makes the shipped model."""
SUSPECTED_PAIRS = "images of different patients"
"""Words of the audit for images that may be of one patient under two names; reports look for
them."""
WITHOUT = "without "
"""Stands before the name of an inner fold where all other inner folds' models scored a row."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of n rows, predicted by models that did not train on them.

    Attributes:
        ids, patients: (n,) row and patient names.
        fold: (n,) name of the fold that held out each row.
        repeat: (n,) number of the repeat of the outer folds, from 0.
        labels: (n,) true class index.
        probabilities: (n, classes), calibrated by the temperature and shift of the row's study.
        predicted: (n,) class index by the decision rule of the row's study.
        classes: class names.
        groups: (n,) groups of suspected patients, over which intervals are; the patients where
            none is given.
    """

    ids: StrArray
    patients: StrArray
    fold: StrArray
    repeat: IntArray
    labels: IntArray
    probabilities: FloatArray
    predicted: IntArray
    classes: tuple[str, ...]
    groups: StrArray = field(default_factory=lambda: np.zeros(0, dtype=np.str_))

    def __post_init__(self) -> None:
        if self.groups.shape != self.patients.shape:
            object.__setattr__(self, "groups", self.patients)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, at: IntArray | NDArray[np.bool_]) -> Predictions:
        """The rows at the positions ``at``, or those where the mask ``at`` (n,) is True."""
        return Predictions(
            self.ids[at],
            self.patients[at],
            self.fold[at],
            self.repeat[at],
            self.labels[at],
            self.probabilities[at],
            self.predicted[at],
            self.classes,
            self.groups[at],
        )


@dataclass(frozen=True)
class EpochRow:
    """One epoch of the chosen configuration, averaged over the inner folds.

    ``fit_loss`` is measured on fit rows, with dropout and resampling; the other values are
    measured on validation rows.
    """

    epoch: int
    fit_loss: float
    val_loss: float
    accuracy: float
    f1: float
    roc_auc: float


@dataclass(frozen=True, eq=False)
class DefaultResult:
    """Result of a study's default configuration, which is its trial 0 and chooses nothing.

    Attributes:
        params: its hyper-parameters; empty where the study has no default configuration.
        chosen: whether the search chose it.
        reason: why there is no result, in words; empty if there is one.
        epochs: number of epochs of its model; 0 where none was made.
        test: predictions of the test fold by its own model and its own decision. None where there
            is no result, where the search chose it (they are the study's own), and for the final
            study.
        variation: predictions of the test fold by each inner fold's model, as in ``FoldResult``.
    """

    params: dict[str, float | int | str | bool] = field(default_factory=dict)
    chosen: bool = False
    reason: str = ""
    epochs: int = 0
    test: Predictions | None = None
    variation: Predictions | None = None


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Result of one study, with everything that a report needs of it.

    Attributes:
        name: ``outer-0`` ... or ``final``.
        repeat: number of the repeat of the outer folds, from 0.
        params: chosen hyper-parameters.
        epochs: chosen number of epochs.
        inner_score: best value of the search; never a measure of performance.
        temperature, shift, threshold: of the model, fitted on out-of-fold probabilities of the
            training rows. The shift of the log-odds is 0 for more than two classes. The threshold
            is None for more than two classes, which are decided by the largest probability.
        resampled: (classes,) images of each class after resampling, in one epoch of the model.
        history: epochs of the chosen configuration, averaged over inner folds.
        validation: out-of-fold predictions of the training rows, each once, in the order of the
            inner folds; the mean of its scores, calibrated and decided as a test row is.
        test: predictions of the test fold, scored once; None for the final study.
        trials: numbers of trials under ``complete``, ``pruned``, ``failed``.
        notes: sentences for the report, for example that a sampler fell back to another.
        cut_by_time: whether time ended the search before its last trial and before its patience.
        default: result of the default configuration; None if an earlier version, which had none,
            ended the study.
        variation: predictions of the test fold by the model of each inner fold, whose name is
            the fold of the row, and by the mean of all others (the name after ``WITHOUT``). It
            moves intervals and enters no estimate. None for the final study, and if an earlier
            version ended the study.
        scores_a_row: out-of-fold scores of each training row, whose mean the temperature, the shift
            and the threshold were fitted on: 2 with a second division of the training rows, else 1.
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
    default: DefaultResult | None = None
    variation: Predictions | None = None
    scores_a_row: int = 1


@dataclass(frozen=True)
class Ensemble:
    """Shipped model that is the mean of the outer models.

    Attributes:
        members: names of the outer folds whose models are averaged.
        threshold: for the mean probability of the second of two classes; None for more classes.
    """

    members: tuple[str, ...]
    threshold: float | None


@dataclass(frozen=True)
class TrialRow:
    """One ended trial.

    Attributes:
        number: its number, from 0; trial 0 is the default configuration, where there is one.
        state: ``complete``, ``pruned`` or ``failed``.
        value: inner score of a complete trial; None for another.
        epochs: number of trained epochs.
        params: its parameters by name.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """Search of one study.

    Attributes:
        trials: its ended trials by number.
        importance: share of each parameter in the variation of the scores of complete trials; empty
            where there are too few of them.
    """

    trials: tuple[TrialRow, ...]
    importance: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Run:
    """Everything that a report reads of one run.

    Attributes:
        name: name of the run.
        task: name of the task.
        synthetic: whether a program made the data.
        complete: whether every study, and the ensemble where it ships, is finished.
        dataset: name, images, patients, classes {name: images}, fingerprint, assumptions,
            patients_known, audit (list of warning sentences).
        protocol: outer_folds, inner_folds, repeats, trials, seed, metric, encoder,
            trainable_blocks, level, aggregate.
        classes: class names.
        outer: results of the finished outer folds.
        final: result of the study of all rows; None until it is done, and where an ensemble ships.
        timing, provenance: written into the report as they are.
        sides: left or right breast by image id; empty where the sides are not known.
        ensemble: mean of the outer models, where the run ships it; None elsewhere.
        data: rows of the run with their clinical columns; None where they are not at hand.
        search: trials of each study by its name; empty where they were not recorded.
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
    data: Dataset | None = None
    search: Mapping[str, Search] = field(default_factory=dict)

    @property
    def ships(self) -> bool:
        """Whether the shipped model was made."""
        return self.final is not None or self.ensemble is not None
