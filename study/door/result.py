"""What a run's directory holds, for Python: numbers, tables, and the shipped model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from outerfold.reports.intervals.overall import ConfidenceInterval, overall
from outerfold.reports.results.entries import TUNED, interval_of
from outerfold.reports.results.predictions import inner_models, test_rows
from outerfold.reports.results.results import results
from outerfold.reports.schema import Results
from outerfold.storage.errors import DataError, as_path, first_three, shorten
from outerfold.storage.images.read import require_readable
from outerfold.storage.names import match_names
from outerfold.storage.readers._base import find_column
from outerfold.storage.records import Predictions, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.words.headers import FILE_NAMES
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.plugins import load_plugins

log = logging.getLogger("outerfold")


@dataclass(frozen=True, eq=False)
class RunResult:
    """Results of a run, and its shipped model.

    Every table is a pandas frame of its own, which may be changed.

    Attributes:
        path: directory of the run.
        run: results of the finished studies, as records.
        storage: URL of the database of its trials; None for the run's journal.
    """

    path: Path
    run: Run
    storage: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their columns."""
        return self.run.classes

    @property
    def complete(self) -> bool:
        """Whether every study is finished, and the shipped model is made."""
        return self.run.complete

    @property
    def report(self) -> Path:
        """Page of the report."""
        return RunFolder(self.path).report / "report.html"

    @cached_property
    def metrics(self) -> Mapping[str, ConfidenceInterval]:
        """Each overall metric of the outer test rows, with its interval, by name."""
        rows = self._test_rows()
        return overall(
            rows,
            tuned=TUNED,
            variation=inner_models(self.run),
            of=interval_of(self.run.protocol),
        )

    @cached_property
    def numbers(self) -> Results:
        """Contents of ``results.json``, computed from the run's files."""
        return results(self.run)

    @property
    def predictions(self) -> pd.DataFrame:
        """Row for each outer test image: id, patient, fold, repeat, label, p_CLASS, predicted.

        Probabilities are calibrated, by a model that did not train on the patient.
        """
        rows, names = self._test_rows(), np.array(self.classes)
        probabilities = {
            f"p_{name}": rows.probabilities[:, at] for at, name in enumerate(self.classes)
        }
        return pd.DataFrame(
            {
                "id": rows.ids,
                "patient": rows.patients,
                "fold": rows.fold,
                "repeat": rows.repeat,
                "label": names[rows.labels],
                **probabilities,
                "predicted": names[rows.predicted],
            }
        )

    @property
    def folds(self) -> pd.DataFrame:
        """Row for each finished outer fold: what was chosen, and its score in every metric."""
        return pd.DataFrame(
            [
                {
                    **{name: dict(entry)[name] for name in _FOLD_COLUMNS},
                    **{f"param_{name}": value for name, value in entry["params"].items()},
                    **entry["metrics"],
                }
                for entry in self.numbers["outer"]
            ]
        )

    @property
    def splits(self) -> pd.DataFrame:
        """Row for each image of each fold of each study: study, repeat, fold, role, id, patient.

        ``role`` is ``test`` for the rows that an outer fold holds out (``fold`` is then empty), and
        ``val`` for those that an inner fold holds out. All other rows of a study train.
        """
        folder = RunFolder(self.path)
        data = folder.read_dataset()
        patients = dict(zip(data.ids.tolist(), data.patients.tolist(), strict=True))
        rows = [
            (study.name, study.repeat, fold, role, name, patients[name])
            for study in folder.read_splits(data)
            for fold, role, names in (
                ("", "test", study.test),
                *((inner.name, "val", inner.val) for inner in study.inner),
            )
            for name in names
        ]
        return pd.DataFrame(rows, columns=["study", "repeat", "fold", "role", "id", "patient"])

    @property
    def trials(self) -> pd.DataFrame:
        """Row for each trial: study, number, state, inner_score, seconds, param_NAME.

        ``inner_score`` guided the search and is no measure of performance.

        Raises:
            DataError: the storage of the trials is not there or cannot be opened.
        """
        from outerfold.study.door.trial_table import read_trials

        return read_trials(RunFolder(self.path), self.storage)

    def predict_proba(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Calibrated probabilities of new images by the shipped model, as ``outerfold predict``.

        Args:
            frame: n rows; a column such as ``file``, ``image`` or ``path`` holds paths of images,
                and the model's clinical columns have their own names, exactly or but for case,
                blanks and separating signs. A column that is absent counts as missing, with a
                ``UserWarning``, and other columns are not read. A number that is impossible, or
                stood for missing in the data of the run, is read as missing, and a warning says so.

        Returns:
            (n, classes) frame with the index of ``frame`` and the columns ``classes``.

        Raises:
            DataError: no shipped model, no column of paths, a path that is no readable image, a
                value that the model's column does not know, or two columns that may both be one of
                the model.
        """
        from outerfold.pipelines.saved.predictor import new_rows, read_shipped_model

        if not isinstance(frame, pd.DataFrame):
            raise DataError(f"predict_proba takes a pandas frame, found {shorten(frame)}")
        shipped = read_shipped_model(RunFolder(self.path))
        images = _image_paths(frame)
        names = [column.name for column in shipped.columns]
        given = match_names(names, [str(name) for name in frame.columns])
        absent = [name for name in names if name not in given]
        if absent:
            warnings.warn(
                f"the frame has no column {' and no column '.join(map(repr, absent))}, which the "
                "model reads and counts as missing in every row; the frame has "
                f"{list(map(str, frame.columns))}",
                stacklevel=2,
            )
        rows = _rows(frame, given)
        if shipped.synthetic:
            log.warning("SYNTHETIC: this model was trained on synthetic images")
        features = new_rows(shipped, images, rows, log.warning)
        found, _ = shipped.score(features, cache_folder(), log.warning)
        return pd.DataFrame(found, index=frame.index, columns=list(shipped.classes))

    def _test_rows(self) -> Predictions:
        rows = test_rows(self.run)
        if rows is None:
            raise DataError(f"{self.path}: no outer fold has test rows; run it to its end first")
        return rows

    def __repr__(self) -> str:
        state = "complete" if self.complete else "not complete"
        return f"RunResult({str(self.path)!r}, {self.run.task}, {state})"


_FOLD_COLUMNS = (
    "fold",
    "repeat",
    "train_images",
    "test_images",
    "train_patients",
    "test_patients",
    "inner_score",
    "epochs",
    "threshold",
)


def load(
    run: str | PathLike[str],
    *,
    storage: str | None = None,
    plugin: Sequence[str] | None = None,
) -> RunResult:
    """Results of a run's directory.

    Args:
        run: the directory.
        storage: URL of the database of its trials, if it was run with one; only ``trials`` reads
            it.
        plugin: plugins of the run, as in its call; None where they are loaded, or it has none.

    Raises:
        DataError: the folder is no run directory, no outer fold is finished, or a plugin of the
            run is not loaded.
    """
    path = as_path(run, "run").expanduser().resolve()
    if plugin is not None:
        load_plugins([plugin] if isinstance(plugin, str) else plugin)
    return RunResult(path, read_kept_run(RunFolder(path)), storage or None)


def _image_paths(frame: pd.DataFrame) -> list[Path]:
    """Paths of the images of a frame, each of which was read once.

    Raises:
        DataError: there is no column of paths, or a path is no readable image.
    """
    column = find_column(map(str, frame.columns), FILE_NAMES)
    if column is None:
        raise DataError(
            f"a frame needs a column of image paths, named one of {list(FILE_NAMES)}; found "
            f"{first_three(map(str, frame.columns))}"
        )
    if not len(frame):
        raise DataError("the frame has no rows; give one row for each image")
    paths = [Path(str(name)).expanduser() for name in frame[column]]
    for path in paths:
        require_readable(path)
    return paths


def _rows(frame: pd.DataFrame, given: Mapping[str, str]) -> list[dict[str, str]]:
    """Texts of each row of a frame by the model's columns, which ``given`` maps to the frame's.

    A text is empty where its value is missing, and whole numbers have no fraction.
    """

    def text(value: Any) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return str(int(value))
        return str(value)

    at = list(map(str, frame.columns))
    columns = {
        name: [text(value) for value in frame.iloc[:, at.index(own)]] for name, own in given.items()
    }
    return [{name: texts[row] for name, texts in columns.items()} for row in range(len(frame))]
