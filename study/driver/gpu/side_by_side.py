"""Number of workers on each GPU where blocks are trained: by memory, cores and a measurement."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from outerfold.storage.cores import count_cores
from outerfold.study.driver.driver import measure_together
from outerfold.study.engines.local import EngineStarter
from outerfold.study.worker.jobs import Measured
from outerfold.study.worker.session import WorkerContext

MOST_BESIDE = 8
"""Workers on one GPU at most. On an H100 the kernels of one worker took 6 to 10 % of its time."""
QUICKER = 1.2
"""Number of times as many epochs that several workers on a GPU must train as one; less is not worth
their memory."""


def place_beside(
    context: WorkerContext,
    study: str,
    workers: EngineStarter,
    alone: Measured,
    cores: int | None = None,
) -> tuple[Measured, str]:
    """Place as many workers on each GPU as fit, if they train more epochs together than one.

    Results do not depend on the number of workers.

    Args:
        context: locations of the run's files; blocks of its encoder are trained.
        study: study whose epochs are measured.
        workers: makes the engines; afterwards it makes those with the settled number.
        alone: measurement of one worker that has a GPU to itself.
        cores: number of CPU cores; None to count them.

    Returns:
        The measurement with the epoch that the settled workers take, and a phrase for the user,
        which is empty where nothing was settled.
    """
    if workers.make_beside is None or alone.fits < 2:
        return alone, ""
    gpus = len(Counter(workers.devices))
    count = min(alone.fits, MOST_BESIDE, (cores or count_cores()) // gpus)
    if count < 2:
        return alone, ""
    workers.place_beside(count)
    together = measure_together(context, study, workers.waiting())
    gain = count * alone.epoch_seconds / together if together else 0.0
    if together is None or gain < QUICKER:
        workers.place_beside(1)
        return alone, f"one worker on each GPU: {count} train {gain:.2g} times as many epochs"
    return (
        replace(alone, epoch_seconds=together),
        f"{count} workers on each GPU, for which it has memory: they train {gain:.2g} times as "
        "many epochs as one",
    )
