"""One worker a device token, told from the number of GPUs alone."""

from __future__ import annotations

import os
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from joblib.externals.loky import ProcessPoolExecutor, process_executor

from outerfold.storage.errors import DataError
from outerfold.study.engines.local import device_names, require_leak_size, set_up_worker


def test_without_a_gpu_there_is_a_worker_a_core_or_as_many_as_were_asked_for() -> None:
    assert device_names(gpus=0, cores=3) == ["cpu", "cpu", "cpu"]
    assert device_names(gpus=0, cores=3, workers=5) == ["cpu"] * 5


def test_with_gpus_there_is_a_worker_on_each_whatever_the_cores() -> None:
    assert device_names(gpus=2, cores=64) == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("gpus", [1, 2, 3])
@pytest.mark.parametrize("per_gpu", [1, 2, 4])
def test_every_gpu_has_as_many_workers_as_were_asked_for(gpus: int, per_gpu: int) -> None:
    tokens = device_names(gpus=gpus, cores=1, per_gpu=per_gpu)
    assert Counter(tokens) == {f"cuda:{i}": per_gpu for i in range(gpus)}


def test_the_first_jobs_go_to_different_gpus() -> None:
    tokens = device_names(gpus=3, cores=1, per_gpu=2)
    assert tokens == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1", "cuda:2"]


def test_a_number_of_workers_is_dealt_out_over_the_gpus() -> None:
    assert device_names(gpus=2, cores=1, workers=3) == ["cuda:0", "cuda:1", "cuda:0"]


def test_workers_per_gpu_without_a_gpu_are_refused() -> None:
    with pytest.raises(DataError, match=r"--workers-per-gpu 2 has no effect: .* no GPU"):
        device_names(gpus=0, cores=8, per_gpu=2)


def leak_limit() -> int:
    return int(process_executor._MAX_MEMORY_LEAK_SIZE)


def test_a_worker_that_keeps_much_is_not_started_anew() -> None:
    """loky's own limit, 300 MB, is less than what a session and its mapped rows come to."""
    assert leak_limit() == 300_000_000
    pool = ProcessPoolExecutor(max_workers=1, initializer=set_up_worker, initargs=(os.getpid(),))
    try:
        assert pool.submit(leak_limit).result() == sys.maxsize
    finally:
        pool.shutdown(kill_workers=True)


def test_a_loky_without_the_bound_is_refused_with_the_tested_version() -> None:
    require_leak_size()
    with pytest.raises(DataError, match=r"no _MAX_MEMORY_LEAK_SIZE, .*; install joblib 1\.6\.0"):
        require_leak_size(SimpleNamespace())
