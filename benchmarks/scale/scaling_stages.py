"""Stages of a run, one per process; each prints its time and memory as one line of JSON.

`python -m benchmarks.scale.scaling` starts these processes. A stage that reads images gets tiny
files; any other stage gets random embeddings in the real cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FixedTrial

from outerfold.pipelines.images.embeddings import EmbeddingTable, write_table
from outerfold.pipelines.saved.files import ENCODER_FILE
from outerfold.reports.write import write_report
from outerfold.storage.audit.audit import audit_dataset
from outerfold.storage.cache.files import write_json, write_text
from outerfold.storage.cache.row_store import RowCache, digest
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import (
    FINAL,
    Column,
    Dataset,
    EpochRow,
    Features,
    FoldResult,
    Ids,
    OuterFold,
    Predictions,
)
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import write_result
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import open_studies
from outerfold.study.setup.provenance import write_provenance
from outerfold.study.setup.run_directory import PreparedRun, make_splits, write_run_directory
from outerfold.study.worker.session import Session, WorkerContext

DIM, CHUNK, SIDE, IMAGES = 1280, 4096, 64, 4
CLASSES = ("other", "cancer")
PARAMS = {
    "learning_rate": 1e-3,
    "dropout": 0.3,
    "focal_gamma": 2.0,
    "attention": False,
    "weight_decay": 1e-3,
    "batch_size": 128,
    "label_smoothing": 0.1,
    "ens_beta": 0.9,
    "augmented_views": 0,
    "augmentation": "mild",
}


class Watch:
    """Meter for time and memory of the parts of a stage."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self._peak = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part: wall and CPU seconds, and the rise of anonymous memory in MB."""
        before, self._peak = anonymous(), 0
        over = threading.Event()
        watcher = threading.Thread(target=self._look, args=(over,), daemon=True)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.found[f"{name}_seconds"] = time.perf_counter() - wall
        self.found[f"{name}_cpu"] = time.process_time() - cpu
        over.set()
        watcher.join()
        self.found[f"{name}_anon_mb"] = max(self._peak, anonymous()) / 2**20 - before / 2**20

    def measurements(self) -> dict[str, float]:
        """All measurements, with the process's highest resident memory (mapped files included)."""
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {**self.found, "peak_rss_mb": most, "anon_mb": anonymous() / 2**20}

    def _look(self, over: threading.Event) -> None:
        while not over.wait(0.02):
            self._peak = max(self._peak, anonymous())


def anonymous(process: int | str = "self") -> int:
    """Bytes of anonymous resident memory of a process, that is without mapped files."""
    status = Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(
        f"{status} has no RssAnon; the process has ended, or this is not Linux"
    )


def rows(n: int) -> Dataset:
    """Data set of ``n`` rows, four per patient, with age and density; a quarter are cancer."""
    rng = np.random.default_rng(0)
    patient = np.arange(n) // IMAGES
    label = (patient % 4 == 0).astype(np.int64)
    ids = np.array([f"p{p:06d}/view-{i % IMAGES}.pgm" for i, p in enumerate(patient.tolist())])
    tabular = np.column_stack([rng.normal(55 + 5 * label, 10), rng.integers(1, 5, n)])
    features = Features(
        ids,
        np.array([f"/nowhere/{name}" for name in ids.tolist()]),
        tabular.astype(np.float64),
        (Column("age"), Column("density")),
    )
    named = np.array([f"p{p:06d}" for p in patient.tolist()])
    return Dataset(features, label, named, CLASSES, f"synthetic-{n}", "synthetic", synthetic=True)


def write_images(n: int, root: Path) -> Path:
    """Write the rows as a manifest and tiny images of coarse noise; return the manifest's path."""
    data, rng = rows(n), np.random.default_rng(1)
    lines = ["file,label,patient_id,age,density"]
    for row, name in enumerate(data.ids.tolist()):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        grey = np.kron(rng.integers(0, 256, (8, 8)), np.ones((8, 8))).astype(np.uint8)
        file.write_bytes(b"P5 64 64 255\n" + grey.tobytes())
        age, density = data.features.tabular[row].tolist()
        label = CLASSES[data.labels[row]]
        lines.append(f"{name},{label},{data.patients[row]},{age:.1f},{density:.0f}")
    write_text(root / "rows.csv", "\n".join(lines) + "\n")
    return root / "rows.csv"


def config(trials: int = 10) -> StudyConfig:
    """Configuration of the multimodal task with the default folds."""
    return StudyConfig(task="multimodal", encoder="random:1280", trials=trials, epochs=1)


def read_and_audit(n: int, folder: Path, watch: Watch) -> None:
    """Measure reading and auditing the manifest and its files."""
    sheet = write_images(n, folder / "images")
    with watch.part("read"):
        data = read_dataset(sheet, task="multimodal")
    with watch.part("audit"):
        audit_dataset(data, outer_folds=5, inner_folds=4)


def split_and_keep(n: int, folder: Path, watch: Watch) -> None:
    """Measure making the folds and writing the first files of a run directory."""
    data, chosen = rows(n), config()
    with watch.part("split"):
        splits = make_splits(chosen, data)
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True)
    with watch.part("lay_out"):
        write_run_directory(run, chosen, data, splits)
    write_json(run.path / ENCODER_FILE, {"name": chosen.encoder, "weights": ""})


def fill_cache(n: int, folder: Path, watch: Watch) -> None:
    """Measure writing random embeddings in the cache's own format, and their table."""
    data = rows(n)
    with watch.part("cache"):
        made = write_embeddings(data, folder / "cache", DIM)
    write_text(folder / "embeddings", made)


def write_embeddings(data: Dataset, cache: Path, dim: int) -> str:
    """Write ``dim`` random numbers per row into the cache; return the name of their table."""
    rng = np.random.default_rng(2)
    store = RowCache.open(cache / "pooled", {"of": "noise"}, (dim,), np.float32)
    contents = {name: digest({"of": name}) for name in data.ids.tolist()}
    names = list(contents.values())
    with store.writing() as writer:
        for start in range(0, len(data), CHUNK):
            some = names[start : start + CHUNK]
            writer.append(some, rng.standard_normal((len(some), dim), dtype=np.float32))
    context = store.folder.relative_to(cache).as_posix()
    return write_table(cache, EmbeddingTable(context, None, dim, 0, 1, "", contents)).name


def train(n: int, folder: Path, watch: Watch, sampler: str = "none") -> None:
    """Measure a worker's first trial: open the run, prepare the folds, train an epoch."""
    from outerfold.pipelines.images.embeddings import Embeddings

    name = (folder / "embeddings").read_text()
    run = RunFolder(folder / "run")
    context = WorkerContext(run.path, Embeddings.load(folder / "cache", name))
    open_studies(PreparedRun(run, config(), rows(8), run.read_splits(run.read_dataset())), context)
    with watch.part("open"):
        session = Session(context)
    pipeline = session.space(FixedTrial({**PARAMS, "sampler": sampler}))
    with watch.part("prepare"):
        objective = session.objective(FINAL, "cpu")
        training = pipeline.start(objective.rows(pipeline), budget=1, seed=0, device="cpu")
    with watch.part("epoch"):
        list(training)


def smote(n: int, folder: Path, watch: Watch) -> None:
    """Measure a worker's first trial with rows made by SMOTE."""
    train(n, folder, watch, "smote")


def report(n: int, folder: Path, watch: Watch) -> None:
    """Measure reading a run with predictions for every row, and writing its report."""
    run, rng = RunFolder(folder / "run"), np.random.default_rng(3)
    data = run.read_dataset()
    for fold in run.read_splits(data):
        write_result(run, _result(data, fold, rng), b"")
    write_provenance(
        run,
        devices=["cpu"],
        command=[],
        timing=dict.fromkeys(("wall_seconds", "expected_seconds", "search_seconds"), 1.0),
    )
    with watch.part("read_run"):
        found = read_kept_run(run)
    with watch.part("report"):
        write_report(found, folder / "report")


def _result(data: Dataset, fold: OuterFold, rng: np.random.Generator) -> FoldResult:
    def scored(ids: Ids, names: list[str]) -> Predictions:
        part = data.select(ids)
        cancer = 1 / (1 + np.exp(-(part.labels - 0.5 + rng.normal(size=len(part)))))
        return Predictions(
            part.ids,
            part.patients,
            np.array(names),
            np.full(len(part), fold.repeat),
            part.labels,
            np.stack([1 - cancer, cancer], 1),
            (cancer > 0.5).astype(np.int64),
            CLASSES,
        )

    held = tuple(name for inner in fold.inner for name in inner.val)
    inner = [inner.name for inner in fold.inner for _ in inner.val]
    return FoldResult(
        fold.name,
        fold.repeat,
        len(fold.train),
        len(fold.test),
        len(fold.train_patients),
        len(fold.test_patients),
        {**PARAMS, "sampler": "none"},
        1,
        0.7,
        1.0,
        0.5,
        (10, 10),
        (EpochRow(1, 0.5, 0.5, 0.7, 0.7, 0.7),),
        scored(held, inner),
        scored(fold.test, [fold.name] * len(fold.test)) if fold.test else None,
        {"complete": 1, "pruned": 0, "failed": 0},
    )


STAGES: dict[str, Callable[[int, Path, Watch], None]] = {
    "read": read_and_audit,
    "split": split_and_keep,
    "cache": fill_cache,
    "trial": train,
    "smote": smote,
    "report": report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("images", type=int)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    watch = Watch()
    STAGES[chosen.stage](chosen.images, chosen.folder, watch)
    print(json.dumps(watch.measurements()))


if __name__ == "__main__":
    main()
