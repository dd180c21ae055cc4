"""Whole nested studies kept with the scores of all their models, to compare intervals afterwards.

One study draws patients and runs the whole protocol on them. Kept are the predictions that its
report reads, and the scores that every model of the run, of each outer fold and the shipped one,
gives the patients who were not drawn. So any interval is computed later from the same trainings,
and compared with how the shipped model does on other patients.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.shared.chunks import source_hash
from benchmarks.shared.kept_searches import keep_file
from benchmarks.shared.places import ROOT
from benchmarks.shared.small_studies import Pool, Setting, draw_patients, run_all_studies
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.saved.model import read_model
from outerfold.storage.records import FINAL, Dataset, FloatArray, IntArray, Predictions, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.seeds import derive_seed

SOURCES = ("objectives", "pipelines", "storage", "study")


@dataclass(frozen=True, eq=False)
class ModelOnOthers:
    """Scores that one model of a run gives to the patients who were not drawn.

    Attributes:
        each: (networks, n) uncalibrated probability of the second class by each network.
        decision: calibration and threshold of the model.
    """

    each: FloatArray
    decision: Decision

    @property
    def calibrated(self) -> FloatArray:
        """Calibrated probabilities (n, 2) of the mean of the networks."""
        mean = self.each.astype(np.float64).mean(0)
        return self.decision.calibrate(np.stack([1 - mean, mean], axis=1))


@dataclass(frozen=True, eq=False)
class KeptStudy:
    """One study, and what its models do on other patients.

    Attributes:
        run: everything that a report reads.
        labels, patients: (n,) of the rows that were not drawn.
        models: scores of these rows by the model of each outer fold and of ``final``.
        seconds: CPU seconds of the study.
    """

    run: Run
    labels: IntArray
    patients: IntArray
    models: dict[str, ModelOnOthers]
    seconds: float

    def rows(self, name: str = FINAL) -> Predictions:
        """Predictions of the rows that were not drawn by one model, all in one fold."""
        model, n = self.models[name], len(self.labels)
        calibrated = model.calibrated
        return Predictions(
            np.arange(n).astype(np.str_),
            self.patients.astype(np.str_),
            np.full(n, "others"),
            np.zeros(n, dtype=np.int64),
            self.labels,
            calibrated,
            model.decision.decide(calibrated),
            self.run.classes,
        )


def sources() -> str:
    """Hash of the code that a kept study's numbers depend on; intervals are none of it."""
    files = [file for room in SOURCES for file in sorted((ROOT / room).rglob("*.py"))]
    return source_hash(files)


def kept_study(pool: Pool, setting: Setting, number: int, folder: Path) -> Path:
    """File of study ``number`` of a setting; the study is run where the file is not there yet.

    Args:
        folder: folder of all studies that the same code made.
    """
    return keep_file(
        folder, setting, number, lambda: keep_study(pool, setting, number), of=repr(setting)
    )


def keep_study(pool: Pool, setting: Setting, number: int) -> KeptStudy:
    """Draw patients, run every study of the protocol on them, and score the others."""
    start = time.process_time()
    seed = derive_seed(0, setting.name, number)
    data, others = draw_patients(pool.data, setting.patients, seed)
    config = replace(setting.config, seed=seed)
    with TemporaryDirectory(prefix="kept-study-") as where:
        folder = RunFolder(Path(where) / "run")
        run = run_all_studies(folder, replace(pool, data=data), config, ship=True)
        seconds = time.process_time() - start
        names = [*(study.name for study in run.outer), FINAL]
        models = {name: _score(folder, name, pool, others) for name in names}
    patients = np.unique(others.patients, return_inverse=True)[1]
    return KeptStudy(run, others.labels, patients, models, seconds)


def _score(folder: RunFolder, name: str, pool: Pool, others: Dataset) -> ModelOnOthers:
    model = read_model(folder, name)
    each = model.bind_source(pool.embeddings).predict_each(others.features)[..., 1]
    return ModelOnOthers(each.astype(np.float32), model.decision)
