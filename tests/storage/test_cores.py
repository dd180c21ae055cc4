from __future__ import annotations

import os
import subprocess
import sys

import pytest

from outerfold.storage.cores import SLURM_VARIABLE, count_cores, time_core
from tests.places import ROOT

COUNT = "from outerfold.storage.cores import count_cores; print(count_cores())"


def count_in_a_process(**environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes")
def test_a_process_bound_to_one_core_counts_one() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert count_in_a_process() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_slurm_job_counts_the_cores_that_it_was_granted() -> None:
    assert count_in_a_process(SLURM_CPUS_PER_TASK="1") == 1


@pytest.mark.parametrize("granted", ["", "0", "many", "100000"])
def test_no_variable_adds_cores(granted: str) -> None:
    assert count_cores({SLURM_VARIABLE: granted}) == count_cores({})


def test_a_core_is_timed_by_the_least_of_several_goes() -> None:
    found = time_core()
    assert 1e-4 < found < 10
