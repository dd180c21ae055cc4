"""CPU cores and memory that this process may use, and how fast a core is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

SLURM_VARIABLE = "SLURM_CPUS_PER_TASK"
MEMORY, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""What Linux says of the memory of the machine, and of that of a container."""


CORE_SECONDS = 0.011
"""Seconds of ``time_core`` on the core on which expected durations of work in Python were
measured."""


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
    import joblib  # slow to load, and not needed to read a data set

    found = max(1, int(joblib.cpu_count()))
    granted = environment.get(SLURM_VARIABLE, "")
    return min(found, int(granted)) if granted.isdigit() and int(granted) else found


def time_core() -> float:
    """Seconds of a fixed piece of work in Python, to compare machines: the least of five.

    It takes 0.01 s on a core of 2024 and does what reports and journals do: texts and tables.
    """

    def work() -> float:
        began, counts = time.perf_counter(), dict[str, int]()
        for number in range(100_000):
            name = f"{number % 997}"
            counts[name] = counts.get(name, 0) + len(name)
        return time.perf_counter() - began

    return min(work() for _ in range(5))


def count_free_memory(memory: Path = MEMORY, group: Path = GROUP) -> int:
    """Bytes of memory that new work can use, in a container no more than it has left.

    Where the system does not say, as on macOS, it is half of the machine's memory.

    Args:
        memory: file like ``/proc/meminfo``.
        group: folder like ``/sys/fs/cgroup``.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        lines = memory.read_text(encoding="utf-8").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        free = int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        most, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if most == "max" else max(0, min(free, int(most) - int(used)))
    except (OSError, ValueError):
        return free
