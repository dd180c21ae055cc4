"""Choice for `--train-on auto`: a GPU, or the machine's CPU cores where these are much quicker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from outerfold.pipelines.encoders._base import Encoder
from outerfold.storage.errors import DataError
from outerfold.storage.records import Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import AUTO, StudyConfig
from outerfold.study.engines.local import Engine, EngineStarter
from outerfold.study.setup.represent import stand_ins
from outerfold.study.setup.run_directory import make_splits, write_run_directory
from outerfold.study.worker.jobs import Job
from outerfold.study.worker.session import WorkerContext

CPU, CUDA = "cpu", "cuda"
MUCH_QUICKER = 1.5
"""Number of times that the CPU cores together must be as quick as the GPUs to take their place.
A measurement of seconds is too coarse for less."""


@dataclass(frozen=True)
class Speed:
    """Measured durations of one epoch of all inner folds.

    Attributes:
        gpu_seconds: on a GPU.
        core_seconds: on one core while each other core trains as well.
        gpus: number of workers that use GPUs.
        cores: number of cores.
    """

    gpu_seconds: float
    core_seconds: float
    gpus: int
    cores: int

    @property
    def gain(self) -> float:
        """Epochs that all cores train in the time of one epoch of the GPUs."""
        return (self.cores / self.core_seconds) / (self.gpus / self.gpu_seconds)

    def choose(self) -> str:
        """Kind of device, which is the GPU unless the cores are much quicker."""
        return CPU if self.gain >= MUCH_QUICKER else CUDA

    def describe(self) -> str:
        """Phrase for the user that says the choice and the measurement behind it."""
        gpus = "the worker on a GPU" if self.gpus == 1 else f"the {self.gpus} workers on GPUs"
        return (
            f"training on the {'CPU' if self.choose() == CPU else 'GPU'}: {self.cores} cores train "
            f"{self.gain:.2g} times as many epochs a second as {gpus}"
        )


def resolve_train_on(
    config: StudyConfig,
    folder: RunFolder,
    data: Dataset,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
) -> tuple[StudyConfig, str]:
    """Configuration with a kind of device in place of ``auto``, and a phrase on why it is this one.

    The phrase is empty if nothing was measured. From then on ``workers`` makes engines on this
    kind. A started run keeps its kind of device, so that its numbers stay the same; one that began
    before this option had a name keeps none and trains on what the machine has.

    Args:
        config: options of the run.
        folder: directory of the run.
        data: rows of the run.
        encoders: encoders of the run by name.
        workers: makes the engines.

    Raises:
        DataError: the run trains on a GPU and there is none, or its cluster has other devices.
    """
    started = folder.started()
    if started and config.train_on == AUTO:
        config = replace(config, train_on=folder.read_config().get("train_on", ""))
    why = ""
    if config.train_on == AUTO:
        kind, why = _choose(config, data, encoders, workers)
        config = replace(config, train_on=kind)
    _refuse_absent(config.train_on, f"--run {folder.path}" if started else "", workers)
    workers.train_on(config.train_on)
    return config, why


def _choose(
    config: StudyConfig, data: Dataset, encoders: Mapping[str, Encoder], workers: EngineStarter
) -> tuple[str, str]:
    """Kind of device of a new run, and a phrase on why, which is empty if nothing was measured."""
    if workers.make_on_cores is None:
        return CUDA if workers.devices[0].startswith(CUDA) else CPU, ""
    if config.trainable_blocks or workers.chosen:  # the levels of an ablation train alike
        return workers.chosen or CUDA, ""
    workers.train_on(CUDA)
    cores = workers.make_on_cores()
    try:
        speed = time_both_kinds(config, data, encoders, workers.waiting(), cores)
    finally:
        cores.close(kill=True)
    workers.chosen = speed.choose()
    return workers.chosen, speed.describe()


def _refuse_absent(kind: str, run: str, workers: EngineStarter) -> None:
    """Refuse a kind of device that the workers do not have."""
    on_gpu, both = workers.devices[0].startswith(CUDA), workers.make_on_cores is not None
    if kind == CUDA and not (on_gpu or both):
        raise DataError(
            f"{f'{run}: trains on a GPU' if run else '--train-on cuda'}, and there is no GPU that "
            "PyTorch can use; go on where there is one, or begin a new run with --train-on cpu"
        )
    if kind == CPU and on_gpu and not both:
        raise DataError(
            f"{f'{run}: trains on the CPU' if run else '--train-on cpu'}, and the workers of this "
            "cluster declare GPUs; start workers without --resources GPU=1, or begin a new run "
            "with --train-on cuda"
        )


def time_both_kinds(
    config: StudyConfig,
    data: Dataset,
    encoders: Mapping[str, Encoder],
    gpu: Engine,
    cores: Engine,
) -> Speed:
    """Measure an epoch on one GPU, and on all cores at once, on random rows of the right shape.

    Args:
        config: options of the run; its encoders are frozen.
        data: rows of the run.
        encoders: encoders of the run by name.
        gpu: engine whose workers use GPUs.
        cores: engine with one worker for each core.

    Raises:
        DataError: the data cannot be split as the options say.
    """
    with scratch_run(config, data, encoders) as (context, fold):

        def seconds(engine: Engine, count: int) -> float:
            jobs = [
                engine.submit(Job(context, fold.name, None, device, measure=True))
                for device in engine.devices[:count]
            ]
            return sum(job.result().seconds for job in jobs) / len(jobs)

        on_gpu = seconds(gpu, 1)
        seconds(cores, len(cores.devices))  # the processes start one after another
        on_core = seconds(cores, len(cores.devices))
    return Speed(on_gpu, on_core, len(gpu.devices), len(cores.devices))


@contextmanager
def scratch_run(
    config: StudyConfig, data: Dataset, encoders: Mapping[str, Encoder]
) -> Iterator[tuple[WorkerContext, OuterFold]]:
    """Run in a temporary folder, to time epochs of its last study on random numbers.

    Args:
        config: options of the run.
        data: rows of the run.
        encoders: encoders of the run by name.

    Raises:
        DataError: the data cannot be split as the options say.
    """
    with tempfile.TemporaryDirectory(prefix="outerfold-") as scratch:
        settled = replace(config, train_on="", encoder_backend="", encoder_precision="")
        splits = make_splits(settled, data)
        prepared = write_run_directory(RunFolder(Path(scratch) / "run"), settled, data, splits)
        context = WorkerContext(prepared.folder.path, stand_ins(prepared, encoders))
        yield context, prepared.studies[-1]
