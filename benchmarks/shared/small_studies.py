"""Many small nested studies with the project's own folds, search, refit and report.

Only the number of patients is artificial: every study uses a run directory, Optuna's journal for
its trials, ``outerfold.study.worker.finish`` for its end and ``outerfold.reports`` for its
intervals. Images are embedded once; a study reads the rows of its patients. The audit of the
images is left out, since every study would repeat it and it changes no number.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.shared.chunks import Arrays, Chunk, source_hash
from benchmarks.shared.places import ROOT
from outerfold.objectives.metrics import METRICS
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.embed import embed
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.pipelines.saved.files import ENCODER_FILE, encoder_card
from outerfold.pipelines.saved.predictor import read_shipped_model
from outerfold.reports.intervals.coded_rows import code_rows as read_rows
from outerfold.reports.intervals.jackknife import jackknife_error
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.intervals.overall import overall
from outerfold.reports.results.entries import TUNED
from outerfold.reports.results.predictions import inner_models, test_rows
from outerfold.storage.cache.files import write_json
from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.readers.targets import Task
from outerfold.storage.records import DataError, Dataset, FloatArray, IntArray, Predictions, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import DEMO_ENCODER, StudyConfig
from outerfold.study.driver.driver import open_studies
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.provenance import write_provenance
from outerfold.study.setup.run_directory import make_splits, write_run_directory
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import WorkerContext

FIELDS = ("intervals", "truth", "truth_error", "inner", "pruned", "seconds")


@dataclass(frozen=True, eq=False)
class Pool:
    """Patients from which studies are drawn, with the embeddings of their images."""

    data: Dataset
    embeddings: ImageSource
    encoder: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Common properties of the replicates in one row of a table.

    Attributes:
        config: configuration of each study, except its seed.
        patients: number of patients drawn for each study.
        fingerprint: fingerprint of the pool that they are drawn from.
    """

    name: str
    config: StudyConfig
    patients: int
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Found:
    """Results of one study, and the truth.

    Attributes:
        intervals: (metrics, 3) estimate, low, high, in the order of ``METRICS``; NaN where the
            task has no such metric or there is no interval.
        truth, truth_error: (metrics,) score of the delivered model on the other patients, and the
            standard error of that score; NaN if there are no other patients.
        inner: mean over outer folds of the score by which the search chose.
        pruned: share of all trials that were pruned.
        seconds: CPU seconds.
    """

    intervals: FloatArray
    truth: FloatArray
    truth_error: FloatArray
    inner: float
    pruned: float
    seconds: float


Draw = Callable[[Dataset, int, int], tuple[Dataset, Dataset | None]]
"""(data, patients, seed) -> rows of one study, and other rows to test its model on, or None."""


def small_config(task: Task, *, trials: int = 8, epochs: int = 6) -> StudyConfig:
    """Configuration of five outer and three inner folds, without views and attention.

    These two take most of the time.
    """
    space: dict[str, dict[str, object]] = {
        "augmented_views": {"values": [0]},
        "attention": {"values": [False]},
    }
    return StudyConfig(
        task=task,
        trials=trials,
        epochs=epochs,
        outer_folds=5,
        inner_folds=3,
        batch_size=128,
        encoder=DEMO_ENCODER,
        space=space,
        networks=1,
    )


SEARCHED = replace(small_config("multimodal", trials=12, epochs=100), inner_folds=4, batch_size=0)
"""Configuration of a study of the default space, without views and attention."""


def demo_pool(task: Task, cache: Path) -> Pool:
    """Pool of the synthetic phantoms of a task."""
    root = cache / f"demo-{task}"
    if not root.exists():
        write_demo(root, task=task)
    return _pool(read_dataset(root, task=task), cache)


def pathology_pool(root: Path, cache: Path) -> Pool:
    """Pool of BUS-BRA with pathology as the label, and patients and images from its sheet."""
    with (root / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with TemporaryDirectory() as folder:
        sheet = Path(folder) / "bus-bra.csv"
        with sheet.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "label", "patient_id"])
            table.writerows(
                [(root / row["file"]).resolve(), row["pathology"], row["patient_id"]]
                for row in rows
            )
        return _pool(read_dataset(sheet, task="multimodal", columns=()), cache)


def ultrasound_pool(root: Path, cache: Path) -> Pool:
    """Pool of BrEaST-Lesions-USG with clinical columns, benign and normal against malignant."""
    return _pool(read_dataset(root, task="multimodal"), cache)


def draw_patients(data: Dataset, patients: int, seed: int) -> tuple[Dataset, Dataset]:
    """Rows of ``patients`` patients drawn at random, and the rows of all others."""
    names = np.unique(data.patients)
    rng = np.random.default_rng(derive_seed(seed, "draw"))
    mine = np.isin(data.patients, rng.choice(names, patients, replace=False))
    one, other = (data.select(data.ids[at].tolist()) for at in (mine, ~mine))
    return _renamed(one, f"{patients} patients, seed {seed}"), other


def shuffled_by_patient(data: Dataset, seed: int) -> Dataset:
    """The same rows with labels shuffled among patients, so that no signal is left.

    All images of a patient have the same label, and each class keeps its number of patients.

    Raises:
        DataError: a patient has images of two classes.
    """
    _, first, of = np.unique(data.patients, return_index=True, return_inverse=True)
    own = data.labels[first]
    torn = sorted(set(data.patients[own[of] != data.labels].tolist()))
    if torn:
        raise DataError(f"patients {torn[:3]} have images of two classes ({len(torn)} in all)")
    labels = np.random.default_rng(derive_seed(seed, "shuffle")).permutation(own)[of]
    return _renamed(replace(data, labels=labels), f"shuffled, seed {seed}")


def without_signal(data: Dataset, patients: int, seed: int) -> tuple[Dataset, None]:
    """Rows of ``patients`` random patients with shuffled labels; no model is tested on others."""
    return shuffled_by_patient(draw_patients(data, patients, seed)[0], seed), None


def studies(pool: Pool, draw: Draw, chunk: Chunk) -> Arrays:
    """Run every study of a chunk; the first axis of each array is the replicate."""
    quiet_optuna()
    torch.set_num_threads(1)
    setting: Setting = chunk.setting
    found = []
    for number in range(chunk.first, chunk.first + chunk.count):
        seed = derive_seed(chunk.seed, setting.name, number)
        data, others = draw(pool.data, setting.patients, seed)
        config = replace(setting.config, seed=seed)
        found.append(run_study(replace(pool, data=data), config, others))
    return {name: np.array([getattr(one, name) for one in found]) for name in FIELDS}


def run_study(pool: Pool, config: StudyConfig, others: Dataset | None = None) -> Found:
    """Run one study of all rows of ``pool``, from its folds to its report.

    Args:
        others: patients to test the delivered model on; None to make no such model.
    """
    start = time.process_time()
    with TemporaryDirectory(prefix="small-study-") as where:
        folder = RunFolder(Path(where) / "run")
        run = run_all_studies(folder, pool, config, ship=others is not None)
        tested = test_rows(run)
        assert tested is not None
        shown = overall(tested, tuned=TUNED, variation=inner_models(run))
        truth = truth_of(folder, pool.embeddings, others) if others is not None else {}
    nothing = (np.nan, np.nan)
    counts = [study.trials for study in run.outer]
    return Found(
        intervals=np.array(
            [
                (one.estimate, one.low, one.high) if (one := shown.get(name)) else (np.nan,) * 3
                for name in METRICS
            ],
            dtype=np.float64,
        ),
        truth=np.array([truth.get(name, nothing)[0] for name in METRICS]),
        truth_error=np.array([truth.get(name, nothing)[1] for name in METRICS]),
        inner=float(np.mean([study.inner_score for study in run.outer])),
        pruned=sum(c["pruned"] for c in counts) / sum(sum(c.values()) for c in counts),
        seconds=time.process_time() - start,
    )


def run_all_studies(folder: RunFolder, pool: Pool, config: StudyConfig, *, ship: bool) -> Run:
    """Carry out every study of a run in this process, and read the finished run.

    Args:
        ship: whether to make the model of all rows too; no number of the outer folds depends on
            it.
    """
    splits = make_splits(config, pool.data)
    folder.path.mkdir(parents=True)
    prepared = write_run_directory(folder, config, pool.data, splits)
    write_json(folder.path / ENCODER_FILE, pool.encoder)
    context = WorkerContext(folder.path, pool.embeddings)
    open_studies(prepared, context)
    for fold in splits.studies if ship else splits.outer:
        for number in (*range(config.trials), None):
            outcome = run_and_keep_job(Job(context, fold.name, number, "cpu"))
            if outcome.state == "failed":
                raise RuntimeError(f"{fold.name}, trial {number}: {outcome.reason}")
    timing = dict.fromkeys(("wall_seconds", "search_seconds", "expected_seconds"), 0.0)
    write_provenance(folder, devices=["cpu"], command=[], timing=timing)
    return read_kept_run(folder)


def truth_of(
    folder: RunFolder, embeddings: ImageSource, others: Dataset
) -> dict[str, tuple[float, float]]:
    """Score of the delivered model on other patients, with its patient-jackknife error.

    Returns:
        (score, standard error) by metric.
    """
    found = overall_leave_outs(read_rows(shipped_rows(folder, embeddings, others)))
    return {
        name: (leave.estimate, jackknife_error(leave.without)[0]) for name, leave in found.items()
    }


def shipped_rows(folder: RunFolder, embeddings: ImageSource, others: Dataset) -> Predictions:
    """Predictions of other patients by the delivered model."""
    return rows_of_others(
        others, *read_shipped_model(folder).score_from(others.features, embeddings)
    )


def rows_of_others(others: Dataset, calibrated: FloatArray, decided: IntArray) -> Predictions:
    """Predictions of other patients by one model, all in one fold."""
    n = len(others)
    return Predictions(
        others.ids,
        others.patients,
        np.full(n, "others"),
        np.zeros(n, dtype=np.int64),
        others.labels,
        calibrated,
        decided,
        others.classes,
    )


def sources() -> str:
    """Hash of all code that a small study's numbers may depend on."""
    folders = ("storage", "pipelines", "objectives", "study")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / "reports" / "results" / "predictions.py"]
    files += sorted((ROOT / "reports" / "intervals").glob("*.py"))
    return source_hash([*files, Path(__file__)])


def _pool(data: Dataset, cache: Path) -> Pool:
    encoder = build(DEMO_ENCODER)
    handle = embed(data.features, encoder, cache=cache, tokens=False)
    return Pool(data, handle, encoder_card(encoder, ""))


def _renamed(data: Dataset, how: str) -> Dataset:
    return replace(data, fingerprint=f"{data.fingerprint} {how}")
