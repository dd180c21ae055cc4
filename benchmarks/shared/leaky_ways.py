"""Ways to resample, split and score the same rows; leaky ways are here, never in the package.

The package's folds refuse a patient on two sides. A leaky way avoids this check with false
patients: each of its rows has a patient of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from outerfold.pipelines.rows.resample import resample
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.results.predictions import join_predictions
from outerfold.storage.records import (
    Dataset,
    Features,
    FloatArray,
    Fold,
    IntArray,
    Predictions,
    StrArray,
)
from outerfold.storage.seeds import derive_seed
from outerfold.study.splits import inner_fold, partition

FOLDS = 5
SAMPLER = "over"
"""Repeats rows of the smaller classes at random; it makes no new row, so copies can be counted."""

EPOCHS = 30
HEAD = DbtPipeline(
    learning_rate=1e-3, dropout=0.35, focal_gamma=2.0, sampler="none", attention=False
)
"""Middle of the ranges that a study searches; the focal gamma is that of Lin et al. (2017)."""

Learn = Callable[["Table", Dataset, Sequence[Fold], str, int], Sequence[FloatArray]]
"""(rows, the same rows as the splitter sees them, folds, sampler, seed) -> each fold's
probabilities (test rows, classes)."""


@dataclass(frozen=True)
class Way:
    """An order of resampling and splitting.

    Attributes:
        sampler: name of the sampler against class imbalance, or ``none``.
        resample_first: whether all rows are resampled before the split, instead of training rows
            after it.
        grouped: whether a patient is kept on one side.
    """

    name: str
    sampler: str
    resample_first: bool
    grouped: bool


IMAGE_WAYS = (
    Way("(a) resample all rows, then split by image", SAMPLER, resample_first=True, grouped=False),
    Way("(b) split by image, resample training rows", SAMPLER, resample_first=False, grouped=False),
    Way(
        "(c) split by patient, resample training rows", SAMPLER, resample_first=False, grouped=True
    ),
)
SHEET_WAYS = (
    Way("split by image", "none", resample_first=False, grouped=False),
    Way("split by patient", "none", resample_first=False, grouped=True),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows before any split; a repeated row keeps the names of its image and its patient.

    Attributes:
        inputs: (n, width).
        labels, images, patients: (n,) class indices, image names, patient names.
    """

    inputs: NDArray[np.float32]
    labels: IntArray
    images: StrArray
    patients: StrArray
    classes: tuple[str, ...]

    def take(self, at: IntArray) -> Table:
        """Rows at these positions, which may be repeated."""
        return Table(
            self.inputs[at], self.labels[at], self.images[at], self.patients[at], self.classes
        )

    def as_split(self, *, grouped: bool) -> Dataset:
        """Data set for the splitter; if not ``grouped``, every row has a patient of its own."""
        rows = np.array([f"row-{at:06d}" for at in range(len(self.labels))])
        features = Features(rows, rows, np.empty((len(rows), 0)))
        patients = self.patients if grouped else rows
        return Dataset(features, self.labels, patients, self.classes, fingerprint="")


@dataclass(frozen=True, eq=False)
class Source:
    """Image source that holds the inputs of rows in memory, by id."""

    features: Features
    inputs: NDArray[np.float32]
    views: int = 1

    @property
    def dim(self) -> int:
        """Width of an input."""
        return int(self.inputs.shape[1])

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        """Inputs (len(ids), dim) of these rows."""
        return self.inputs[self.features.positions(ids)]

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        """Inputs (len(ids), 1, dim) of these rows as one token each."""
        return self.pooled(ids)[:, None].astype(np.float16)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of one way over all repeats.

    Attributes:
        predictions: predictions for every test row, with the true patients.
        copies: share of test rows with a copy among the training rows.
        acquainted: share of test rows whose patient has training rows.
    """

    way: Way
    predictions: Predictions
    copies: float
    acquainted: float


def compare(
    ways: Sequence[Way], table: Table, learn: Learn, *, repeats: int, seed: int
) -> list[Outcome]:
    """Run every way on the same rows, ``repeats`` times with other folds and initial weights."""
    outcomes = []
    for way in ways:
        start = time.perf_counter()
        runs = [run_once(way, table, learn, repeat=r, seed=seed) for r in range(repeats)]
        outcomes.append(_joined(way, runs))
        print(f"{time.perf_counter() - start:5.0f} s  {way.name}", flush=True)
    return outcomes


def run_once(way: Way, table: Table, learn: Learn, *, repeat: int, seed: int) -> Outcome:
    """Run one repeat of a way: resample, split, train on five folds, test every row once."""
    own = derive_seed(seed, "repeat", repeat)
    if way.resample_first:
        drawn = resample(way.sampler, table.inputs, table.labels, seed=derive_seed(own, "resample"))
        table = table.take(drawn.rows)
    data = table.as_split(grouped=way.grouped)
    tests, _ = partition(data, FOLDS, seed=derive_seed(own, "outer"), what="outer")
    folds = [inner_fold(data, f"outer-{k}", test) for k, test in enumerate(tests)]
    learnt = learn(table, data, folds, "none" if way.resample_first else way.sampler, own)
    at, probabilities = np.concatenate(tests), np.concatenate(learnt)
    names = np.repeat([fold.name for fold in folds], [len(test) for test in tests])
    predictions = Predictions(
        data.ids[at],
        table.patients[at],
        names,
        np.full(len(at), repeat),
        table.labels[at],
        probabilities,
        probabilities.argmax(axis=1),
        table.classes,
    )
    return Outcome(way, predictions, shared(table.images, tests), shared(table.patients, tests))


def head(
    table: Table,
    data: Dataset,
    folds: Sequence[Fold],
    sampler: str,
    seed: int,
    *,
    epochs: int = EPOCHS,
) -> Sequence[FloatArray]:
    """Probabilities of the dbt task's MLP after the last epoch, one array per fold."""
    rows = TrainingRows(data, folds, Source(data.features, table.inputs), tokens=False, seed=seed)
    *_, last = replace(HEAD, sampler=sampler).start(rows, budget=epochs, seed=seed, device="cpu")
    return last.probabilities


def tree(
    table: Table, data: Dataset, folds: Sequence[Fold], sampler: str, seed: int
) -> Sequence[FloatArray]:
    """Probabilities of scikit-learn's default decision tree, which accepts missing values."""
    found = []
    for fold in folds:
        fit, val = data.features.positions(fold.fit), data.features.positions(fold.val)
        model = DecisionTreeClassifier(random_state=seed % 2**32)
        found.append(
            model.fit(table.inputs[fit], table.labels[fit]).predict_proba(table.inputs[val])
        )
    return found


def score_each_repeat(outcome: Outcome, metric: str) -> list[float]:
    """An overall metric of each repeat by the report's own code, which here accepts a leak."""
    found, p = [], outcome.predictions
    for repeat in np.unique(p.repeat).tolist():
        one = code_rows(p.take(p.repeat == repeat), grouped=False)
        found.append(overall_leave_outs(one)[metric].estimate)
    return found


def shared(names: StrArray, tests: Sequence[IntArray]) -> float:
    """Share of test rows whose name also occurs among the training rows.

    Args:
        names: (n,) image or patient of each row.
        tests: positions of each fold's test rows.
    """
    known = [np.isin(names[test], np.delete(names, test)) for test in tests]
    return float(np.concatenate(known).mean())


def _joined(way: Way, runs: Sequence[Outcome]) -> Outcome:
    rows = join_predictions(run.predictions for run in runs)
    assert rows is not None
    copies, acquainted = (
        float(np.mean([getattr(run, name) for run in runs])) for name in ("copies", "acquainted")
    )
    return Outcome(way, rows, copies, acquainted)
