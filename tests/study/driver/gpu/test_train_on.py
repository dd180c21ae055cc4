"""`--train-on`: cores take the place of a GPU where they are much quicker, and a run keeps it."""

from __future__ import annotations

import dataclasses
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from outerfold.pipelines.encoders.registry import build
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.gpu.train_on import Speed, resolve_train_on
from outerfold.study.engines.local import EngineStarter
from outerfold.study.setup.run_directory import make_splits, write_run_directory
from outerfold.study.worker.jobs import Job, Outcome, run_job
from tests.factories import make_config, make_rows

NAME = "bundled:efficientnet_lite0"
GPU = ["cuda:0"]


class Machine:
    """An engine that runs each job here on the CPU, and says how long it would have taken."""

    def __init__(self, devices: list[str], seconds: float, jobs: list[str]) -> None:
        self.devices, self.seconds, self.jobs = devices, seconds, jobs

    def submit(self, job: Job) -> Future[Outcome]:
        assert job.device in self.devices
        self.jobs.append(job.device)
        outcome = run_job(dataclasses.replace(job, device="cpu"))
        assert outcome.state == "measured"
        future: Future[Outcome] = Future()
        future.set_result(dataclasses.replace(outcome, seconds=self.seconds))
        return future

    def close(self, *, kill: bool) -> None:
        """Nothing runs beside."""


@pytest.fixture
def data() -> Dataset:
    return make_rows(patients=24)[0]


def starter(gpu: float, core: float, *, on_cores: bool = True) -> tuple[EngineStarter, list[str]]:
    jobs: list[str] = []
    cores = (lambda: Machine(["cpu"] * 4, core, jobs)) if on_cores else None
    return EngineStarter(lambda: Machine(GPU, gpu, jobs), GPU[0], cores), jobs


def config(**changes: Any) -> StudyConfig:
    return make_config(**{"encoder": NAME, "train_on": "auto", **changes})


def begin(folder: Path, config: StudyConfig, data: Dataset) -> None:
    write_run_directory(RunFolder(folder), config, data, make_splits(config, data))


def resolve(
    config: StudyConfig, folder: Path, data: Dataset, workers: EngineStarter
) -> tuple[str, str]:
    found, why = resolve_train_on(config, RunFolder(folder), data, {NAME: build(NAME)}, workers)
    return found.train_on, why


@pytest.mark.parametrize(
    ("core", "kind", "devices"), [(2.5, "cpu", ("cpu",) * 4), (2.7, "cuda", tuple(GPU))]
)
def test_cores_train_where_they_are_half_as_quick_again(
    tmp_path: Path, data: Dataset, core: float, kind: str, devices: tuple[str, ...]
) -> None:
    """Four cores of 2.5 s an epoch do 1.6 in the second of the GPU, and of 2.7 s they do 1.48."""
    workers, jobs = starter(1.0, core)
    before = set(Path(tempfile.gettempdir()).glob("outerfold-*"))
    found, why = resolve(config(), tmp_path / "run", data, workers)
    assert found == kind
    assert f"training on the {'CPU' if kind == 'cpu' else 'GPU'}: 4 cores train 1." in why
    assert workers.devices == devices
    assert workers.own == "cuda:0", "images are still encoded on the GPU"
    assert jobs == ["cuda:0", *["cpu"] * 8]
    assert set(Path(tempfile.gettempdir()).glob("outerfold-*")) <= before
    assert resolve(config(), tmp_path / "next", data, workers) == (kind, "")
    assert len(jobs) == 9, "the levels of an ablation are measured once"


@pytest.mark.parametrize("blocks", [0, 2])
def test_nothing_is_measured_without_a_gpu_or_where_blocks_are_trained(
    tmp_path: Path, data: Dataset, blocks: int
) -> None:
    jobs: list[str] = []
    plain = EngineStarter(lambda: Machine(["cpu"], 1.0, jobs), "cpu")
    assert resolve(config(trainable_blocks=blocks), tmp_path / "a", data, plain) == ("cpu", "")
    workers, tried = starter(1.0, 0.1)
    if blocks:
        found = resolve(config(trainable_blocks=blocks), tmp_path / "b", data, workers)
        assert found == ("cuda", "")
    assert not jobs
    assert not tried


def test_what_the_user_names_is_taken_without_a_measurement(tmp_path: Path, data: Dataset) -> None:
    workers, jobs = starter(1.0, 100.0)
    assert resolve(config(train_on="cpu"), tmp_path / "run", data, workers) == ("cpu", "")
    assert workers.devices == ("cpu",) * 4
    assert not jobs


@pytest.mark.parametrize("kept", ["cpu", "cuda", ""])
def test_a_started_run_keeps_its_kind_of_device(tmp_path: Path, data: Dataset, kept: str) -> None:
    begin(tmp_path / "run", config(train_on=kept), data)
    workers, jobs = starter(1.0, 0.01)
    assert resolve(config(), tmp_path / "run", data, workers) == (kept, "")
    assert workers.devices[0] == ("cpu" if kept == "cpu" else "cuda:0")
    assert not jobs


def test_a_gpu_that_is_absent_and_a_cluster_with_other_devices_are_refused(
    tmp_path: Path, data: Dataset
) -> None:
    plain = EngineStarter(lambda: Machine(["cpu"], 1.0, []), "cpu")
    with pytest.raises(DataError, match=r"--train-on cuda, and there is no GPU that PyTorch can"):
        resolve(config(train_on="cuda"), tmp_path / "new", data, plain)
    begin(tmp_path / "run", config(train_on="cuda"), data)
    with pytest.raises(DataError, match=r"run: trains on a GPU, and there is no GPU .*--train-on"):
        resolve(config(), tmp_path / "run", data, plain)
    cluster, _ = starter(1.0, 1.0, on_cores=False)
    with pytest.raises(DataError, match=r"--train-on cpu, and the workers of this cluster declare"):
        resolve(config(train_on="cpu"), tmp_path / "other", data, cluster)
    assert resolve(config(), tmp_path / "auto", data, cluster) == ("cuda", "")


def test_the_gain_counts_all_workers_of_both_kinds() -> None:
    assert Speed(0.043, 0.076, gpus=1, cores=16).gain == pytest.approx(9.05, abs=0.01)
    assert Speed(1.0, 1.0, gpus=4, cores=4).gain == 1.0
