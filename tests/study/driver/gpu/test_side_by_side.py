"""Workers side by side on one GPU: how many, and fewer of them where memory runs out."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.training.micro_batches import MicroBatches, Moment, whole_batches
from outerfold.study.driver.gpu.offer_blocks import offer_blocks
from outerfold.study.driver.gpu.side_by_side import MOST_BESIDE, place_beside
from outerfold.study.engines.local import EngineStarter, LocalEngine
from outerfold.study.setup.plan import Cost
from outerfold.study.worker.jobs import AGAIN, Job, Measured, Outcome, open_session, run_job
from outerfold.study.worker.session import WorkerContext
from tests.factories import ArraySource, make_config, make_rows
from tests.study.driver.test_in_flight import Unruly, begun, drive

NAME = "bundled:efficientnet_lite0"
ALONE = Measured(1.0, fits=4)


class Card:
    """An engine in a GPU's place: an epoch takes longer, the more workers train beside it."""

    def __init__(self, count: int, slower: float) -> None:
        self.devices = ("cuda:0", "cuda:1") * count
        self.seconds = 1.0 if count == 1 else slower
        self.closed = False

    def submit(self, job: Job) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(Outcome(job.study, None, "measured", self.seconds, measured=ALONE))
        return future

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        return False

    def close(self, *, kill: bool) -> None:
        self.closed = True


def settle(slower: float, cores: int = 16, alone: Measured = ALONE) -> tuple[Any, Any, str]:
    workers = EngineStarter(
        lambda: Card(1, slower), "cuda:0", None, lambda count: Card(count, slower)
    )
    context = WorkerContext(Path("nowhere"), ArraySource((), np.zeros((1, 0, 1, 1), np.float32)))
    found, why = place_beside(context, "final", workers, alone, cores=cores)
    return workers, found, why


def test_as_many_workers_as_fit_share_a_gpu_where_they_train_more_epochs() -> None:
    workers, found, why = settle(slower=2.0)
    assert workers.devices == ("cuda:0", "cuda:1") * 4
    assert found == dataclasses.replace(ALONE, epoch_seconds=2.0)
    assert why.startswith("4 workers on each GPU, for which it has memory: they train 2 times")


@pytest.mark.parametrize(
    ("slower", "cores", "fits", "count"),
    [(3.9, 16, 4, 1), (1.0, 6, 4, 3), (1.0, 2, 4, 1), (1.0, 64, 99, MOST_BESIDE), (1.0, 16, 0, 1)],
)
def test_cores_memory_and_kernels_bound_their_number(
    slower: float, cores: int, fits: int, count: int
) -> None:
    workers, _, _ = settle(slower, cores, dataclasses.replace(ALONE, fits=fits))
    assert workers.devices == ("cuda:0", "cuda:1") * count
    assert workers.take().devices == workers.devices


def test_a_number_that_the_user_gives_is_taken() -> None:
    workers = EngineStarter(lambda: Card(2, 1.0), "cuda:0")
    context: Any = None
    assert place_beside(context, "final", workers, ALONE, cores=16) == (ALONE, "")
    assert workers.devices == ("cuda:0", "cuda:1") * 2


class Crowded(Unruly):
    """Workers of one GPU, on which two of three find too little memory."""

    def __init__(self) -> None:
        super().__init__(3, 0, losses=0)
        self._tokens = ("cuda:0",) * 3
        self.shared: list[int] = []

    def submit(self, job: Job) -> Future[Outcome]:
        self.shared.append(job.sharing)
        if job.sharing == 3 and self.shared.count(3) > 1:
            future: Future[Outcome] = Future()
            future.set_result(Outcome(job.study, job.number, AGAIN, 0.0, no_memory=True))
            return future
        return super().submit(dataclasses.replace(job, device="cpu"))

    def share(self, device: str, most: int) -> None:
        assert device == "cuda:0"
        self._tokens = self._tokens[:most]


def test_memory_that_runs_out_lowers_the_number_of_workers_once_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outerfold.study.driver.driver.LOOK_SECONDS", 0.0)
    small = {"trials": 2, "epochs": 2, "pruner": "none"}
    expected = drive(*begun(tmp_path / "a" / "run", **small), Unruly(1, 0, losses=0))
    engine = Crowded()
    assert drive(*begun(tmp_path / "b" / "run", **small), engine) == expected
    assert set(engine.shared) == {3, 2}
    assert engine.devices == ("cuda:0",) * 2


def test_a_local_engine_gives_no_job_before_those_of_more_processes_have_ended() -> None:
    engine = LocalEngine(["cuda:0", "cuda:1", "cuda:0", "cuda:1"])
    running: Future[Outcome] = Future()
    engine._running.append(running)
    engine.share("cuda:0", 1)
    engine.share("cuda:0", 1)
    assert engine.devices == ()
    running.set_result(Outcome("final", 0, "complete", 1.0))
    assert engine.devices == ("cuda:0", "cuda:1", "cuda:1")
    engine.close(kill=True)


def test_a_batch_is_taken_in_parts_only_by_a_worker_that_is_alone() -> None:
    micro, moment = MicroBatches(), Moment(0, 0, 0)
    with whole_batches(on=True):
        assert not micro.halve(moment, 64)
    assert micro.halve(moment, 64)
    with whole_batches(on=False):
        assert micro.halve(moment, 64)
    assert micro.smallest == 16


def test_a_job_that_shares_its_gpu_is_run_again_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, context = begun(tmp_path / "run", trials=1, epochs=1)

    def full(self: Any, *args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("outerfold.objectives.inner.InnerObjective.run", full)
    open_session.cache_clear()
    outcome = run_job(Job(context, "outer-0", 0, "cpu", sharing=2))
    assert (outcome.state, outcome.no_memory, outcome.trial) == (AGAIN, True, None)
    assert np.isfinite(outcome.seconds)


@lru_cache
def lite0() -> Encoder:
    return build(NAME)


def offered(epoch: float, device: str = "cuda:0", **changes: Any) -> str:
    data = make_rows(patients=24)[0]
    config = make_config(**{"encoder": NAME, "trials": 10, **changes})
    jobs: list[Job] = []

    def measured(job: Job) -> Outcome:
        jobs.append(job)
        return Outcome(job.study, None, "measured", epoch)

    cost = Cost(trials=60, ends=6, epoch_seconds=0.1)
    encoders = {NAME: lite0()}
    said = offer_blocks(config, data, encoders, cost, device=device, workers=1, run=measured)
    assert len(jobs) == (device != "cpu" and not config.trainable_blocks)
    return said


def test_the_plan_offers_blocks_where_a_gpu_is_at_hand_and_they_cost_little() -> None:
    said = offered(0.2)
    assert said.startswith("this GPU could train the encoder's last 2 blocks as well (--trainable-")
    assert "search and ends would take about" in said
    assert offered(1000.0) == ""
    assert offered(0.2, device="cpu") == ""
    assert offered(0.2, trainable_blocks=2) == ""
