"""Number of CPU cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Mapping

import joblib

SLURM_VARIABLE = "SLURM_CPUS_PER_TASK"


def count_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Count the cores that this process may use, which are often fewer than the machine has.

    The count respects the affinity of the process, the CPU quota of its container (cgroups) and
    ``LOKY_MAX_CPU_COUNT``, as ``joblib.cpu_count`` does, and ``SLURM_CPUS_PER_TASK``, which binds a
    job even where the cluster sets no affinity.

    Args:
        environment: variables of the process.

    Example:
        >>> count_cores({"SLURM_CPUS_PER_TASK": "1"})
        1
    """
    found = max(1, int(joblib.cpu_count()))
    granted = environment.get(SLURM_VARIABLE, "")
    return min(found, int(granted)) if granted.isdigit() and int(granted) else found
