"""Line of the plan for a GPU on which trained blocks of the encoder would cost little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from outerfold.pipelines.encoders._base import Encoder
from outerfold.storage.records import Dataset
from outerfold.study.config.record import TAIL_PRUNER, StudyConfig
from outerfold.study.driver.gpu.train_on import scratch_run
from outerfold.study.setup.plan import Cost, format_duration
from outerfold.study.worker.faults import Fault, classify
from outerfold.study.worker.jobs import Job, Outcome, run_job

BLOCKS = 2
"""Number of blocks that are offered, as in the published recipe."""
LITTLE_SECONDS, LITTLE_SHARE = 900.0, 0.5
"""Seconds, and share of the whole plan, that search and ends with trained blocks may take more."""


def offer_blocks(
    config: StudyConfig,
    data: Dataset,
    encoders: Mapping[str, Encoder],
    cost: Cost,
    *,
    device: str,
    workers: int,
    run: Callable[[Job], Outcome] = run_job,
) -> str:
    """Sentence that says what trained blocks would cost; empty where that is much, or no GPU is.

    An epoch of a few batches is measured on random numbers.

    Args:
        config: options of the run.
        data: rows of the run.
        encoders: encoders of the run by name.
        cost: work of the run as planned.
        device: device of this process.
        workers: number of workers that the plan counts on.
        run: runs the measurement.
    """
    if config.trainable_blocks or not device.startswith("cuda"):
        return ""
    try:
        blocks = replace(config, trainable_blocks=BLOCKS, pruner=TAIL_PRUNER, networks=1)
        with scratch_run(blocks, data, encoders) as (context, fold):
            measured = run(Job(context, fold.name, None, device, measure=True))
    # Blocks that cannot be trained here are not offered: the encoder cannot be cut, an option of
    # the run has no meaning beside them, or the memory of the GPU does not suffice.
    except Exception as error:
        if classify(error) not in (Fault.DATA, Fault.MACHINE):
            raise
        return ""
    planned = cost.seconds(config, workers)
    found = replace(cost, epoch_seconds=measured.seconds).seconds(blocks, 1)
    whole = sum(cost.parts(config, workers).values())
    if found - planned > max(LITTLE_SECONDS, LITTLE_SHARE * whole):
        return ""
    return (
        f"this GPU could train the encoder's last {BLOCKS} blocks as well (--trainable-blocks "
        f"{BLOCKS}, in a new run): search and ends would take about {format_duration(found)} "
        f"instead of {format_duration(planned)}"
    )
