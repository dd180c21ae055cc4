"""Jobs of a worker process: one trial, the end of one study, or a measurement for the plan."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState

from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines._base import Pipeline, TrainingDiverged
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.micro_batches import (
    count_beside,
    out_of_memory,
    whole_batches,
)
from outerfold.storage.cores import CORE_SECONDS, time_core
from outerfold.storage.records import Ids
from outerfold.storage.trials.journal import keep_trial
from outerfold.storage.trials.ownership import refuse_former_driver
from outerfold.study.schedule.patience import state_word
from outerfold.study.worker.faults import Fault, classify
from outerfold.study.worker.finish import BY_MACHINE, FAILURE, StudyFailed, finish
from outerfold.study.worker.heartbeat import beat_file, heartbeat, name_worker
from outerfold.study.worker.recordings import discard_recordings, keep_recording
from outerfold.study.worker.session import Session, WorkerContext, open_session

AGAIN = "again"
"""State of a job that the machine ended, and that is run again."""
MEASURED_CONFIGURATIONS = 5
"""Number of random configurations measured for the plan; only one where blocks of the encoder are
trained, since all configurations then take about the same time."""
MEASURED_BATCHES = 4
"""Number of batches of an epoch that is measured where blocks of the encoder are trained."""
MEASURED_SECONDS = 5.0
"""Seconds after which no further configuration is measured; with many rows, the batch size changes
the time little."""


@dataclass(frozen=True)
class Job:
    """Job for a worker.

    Attributes:
        context: the run of the job.
        study: ``outer-0`` ... ``final``.
        number: number of the trial; None for the study's end: choose, make the model, score once.
        device: device token of the worker that gets the job.
        measure: whether to measure the time of a few epochs instead.
        alone: whether no other job runs, since the job was tried before; what the machine does to
            it now is recorded as a failure.
        sharing: number of workers that use the job's GPU; 1 on a CPU.
    """

    context: WorkerContext
    study: str
    number: int | None
    device: str
    measure: bool = False
    alone: bool = False
    sharing: int = 1


@dataclass(frozen=True)
class Measured:
    """Measurement of an epoch and of a core.

    Attributes:
        epoch_seconds: duration of one epoch of a study's inner folds.
        fits: number of such workers for which a GPU has memory; 0 on a CPU.
        default_share: duration of an epoch of the default configuration over ``epoch_seconds``.
        core_seconds: duration of a fixed piece of work in Python, see ``time_core``.
    """

    epoch_seconds: float
    fits: int = 0
    default_share: float = 1.0
    core_seconds: float = CORE_SECONDS


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        study: ``outer-0`` ... ``final``.
        number: number of the trial; None if the job was no trial.
        state: state of a trial, in lower case; ``finished`` or ``failed`` for a study's end;
            ``measured`` for a measurement; ``AGAIN`` for a job that the machine ended.
        seconds: duration of the job; for a measurement, the mean duration of one epoch.
        value: inner score of a completed trial or finished study, in the metric's unit.
        epochs: number of trained epochs of a trial; for a finished study, the chosen number.
        reason: reason of a failure, in one line.
        trace: traceback of a failure, for the log.
        trial: the ended trial as Optuna keeps it; None if the job was no trial.
        no_memory: whether the machine ended the job because memory ran out.
        measured: what a measurement found.
    """

    study: str
    number: int | None
    state: str
    seconds: float
    value: float | None = None
    epochs: int = 0
    reason: str = ""
    trace: str = ""
    trial: FrozenTrial | None = None
    no_memory: bool = False
    measured: Measured | None = None


def run_and_keep_job(job: Job) -> Outcome:
    """Run a job in this process and add its trial to the storage, as the driver does."""
    outcome, session = run_job(job), open_session(job.context)
    if outcome.state == AGAIN:
        outcome = run_job(replace(job, alone=True))
    study = session.study(job.study)
    if outcome.trial is not None:
        keep_trial(study, outcome.trial)
    discard_recordings(session.folder, job.study, study)
    return outcome


def run_job(job: Job, worker: str = "") -> Outcome:
    """Run a job in this process; a trial is returned and not added to the storage.

    So a worker that dies, or whose driver no longer waits for it, leaves no unfinished trial. While
    the job runs, it gives signs of life in the run directory.

    Args:
        job: the job.
        worker: name of this worker; empty for that of the process.

    Raises:
        DataError: the run breaks a rule.
        OSError: the disk is full.
    """
    file = beat_file(job.context.run, job.study, job.number)
    with heartbeat(file, worker or name_worker(), job.device):
        return _run_alive(job)


def _run_alive(job: Job) -> Outcome:
    session = open_session(job.context)  # opened once a process, so it is no part of the time
    started = time.perf_counter()
    if job.measure:
        seconds, share = _measure_epochs(session, job.study, job.device)
        measured = Measured(seconds, count_beside(job.device), share, time_core())
        return Outcome(job.study, None, "measured", seconds, measured=measured)
    with whole_batches(on=job.sharing > 1):
        if job.number is None:
            outcome = _run_end(session, job)
        else:
            outcome = _run_trial(session, job, job.number)
    return replace(outcome, seconds=time.perf_counter() - started)


def _run_trial(session: Session, job: Job, number: int) -> Outcome:
    study = session.study_as_seen(job.study, number)
    trial = study.ask()
    reason = trace = ""
    recording = None
    try:
        objective = session.objective(job.study, job.device)
        value, recording = objective.run(trial, record=session.config.records_trials)
        frozen = study.tell(trial, value)
    except optuna.TrialPruned:
        frozen = study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:  # noqa: BLE001 - any error of a configuration is recorded
        if not _is_recorded(error, job):
            return _again(job, error)
        reason, trace = _describe(error), traceback.format_exc()
        frozen = _fail(study, trial, reason, by_machine=classify(error) is Fault.MACHINE)
    if recording is not None and frozen.state == TrialState.COMPLETE:
        refuse_former_driver(session.folder, session.context.driver)
        keep_recording(session.folder, job.study, study, frozen, recording)
    state = state_word(frozen)
    score = frozen.value if frozen.state == TrialState.COMPLETE else None
    return Outcome(
        job.study, number, state, 0.0, score, frozen.last_step or 0, reason, trace, frozen
    )


def _is_recorded(error: Exception, job: Job) -> bool:
    """Whether an error is recorded as the job's failure, and not a reason to run it again.

    Raises:
        DataError: the data caused the error.
        OSError: the disk is full.
    """
    fault = classify(error)
    if fault in (Fault.DATA, Fault.DISK_FULL):
        raise error
    return fault is Fault.CONFIGURATION or job.alone


def _again(job: Job, error: Exception) -> Outcome:
    return Outcome(
        job.study,
        job.number,
        AGAIN,
        0.0,
        reason=_describe(error),
        trace=traceback.format_exc(),
        no_memory=out_of_memory(error),
    )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _fail(
    study: optuna.Study, trial: optuna.Trial, reason: str, *, by_machine: bool
) -> FrozenTrial:
    trial.set_user_attr(FAILURE, reason)
    if by_machine:
        trial.set_user_attr(BY_MACHINE, True)
    return study.tell(trial, state=TrialState.FAIL)


def record_lost(job: Job, reason: str) -> Outcome:
    """Failure of a job that killed its workers, recorded without running it.

    A trial gets the parameters that the search drew for it.

    Args:
        job: the job.
        reason: why it failed, in one line.
    """
    if job.number is None:
        return Outcome(job.study, None, "failed", 0.0, reason=reason)
    session = open_session(job.context)
    study = session.study_as_seen(job.study, job.number)
    trial = study.ask()
    session.space(trial)
    frozen = _fail(study, trial, reason, by_machine=True)
    return Outcome(job.study, job.number, "failed", 0.0, reason=reason, trial=frozen)


def _run_end(session: Session, job: Job) -> Outcome:
    try:
        result = finish(session, job.study, job.device)
    except (StudyFailed, TrainingDiverged) as failure:
        return Outcome(job.study, None, "failed", 0.0, reason=str(failure))
    except Exception as error:
        if not _is_recorded(error, job):
            return _again(job, error)
        if classify(error) is Fault.CONFIGURATION:
            raise  # a fault of outerfold, whose traceback is needed
        return Outcome(job.study, None, "failed", 0.0, reason=_describe(error))
    return Outcome(job.study, None, "finished", 0.0, result.inner_score, result.epochs)


def _measure_epochs(session: Session, study: str, device: str) -> tuple[float, float]:
    """Mean seconds of an epoch of all inner folds, and that of the default configuration over it.

    Several random configurations are measured, after the default one, which may take half of their
    time: it has neither attention nor a sampler. Where blocks of the encoder are trained, epochs of
    a few batches are measured, and their time is multiplied by the share of the rows that was left
    out.
    """
    objective = session.objective(study, device)
    draw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    if session.config.trainable_blocks:
        pipeline = session.space(draw.ask())
        rows, share = _few_rows(objective, pipeline)
        return _time_epoch(session, pipeline, rows, device) / share, 1.0

    def timed(trial: BaseTrial) -> float:
        pipeline = session.space(trial)
        return _time_epoch(session, pipeline, objective.rows(pipeline), device)

    began = time.perf_counter()
    default = session.default.params
    first = timed(FixedTrial(dict(default))) if default else None
    seconds: list[float] = []
    while len(seconds) < MEASURED_CONFIGURATIONS:
        seconds.append(timed(draw.ask()))
        if time.perf_counter() - began > MEASURED_SECONDS:
            break
    mean = sum(seconds) / len(seconds)
    return mean, 1.0 if first is None else first / mean


def _time_epoch(session: Session, pipeline: Pipeline, rows: TrainingRows, device: str) -> float:
    """Seconds of the second epoch, if there is one; the first also loads code, kernels and rows."""
    budget = session.config.epochs
    epochs = iter(pipeline.start(rows, budget=budget, seed=0, device=device))
    for _ in range(min(2, budget)):
        started = time.perf_counter()
        next(epochs)
    return time.perf_counter() - started


def _few_rows(objective: InnerObjective, pipeline: Pipeline) -> tuple[TrainingRows, float]:
    """Rows of every inner fold that make a few batches, and their share of all training rows."""
    wanted = MEASURED_BATCHES * pipeline.batch_size
    share = min(1.0, wanted / max(len(fold.fit) for fold in objective.folds))
    folds = [
        replace(fold, fit=_spread(fold.fit, share), val=_spread(fold.val, share))
        for fold in objective.folds
    ]
    rows = TrainingRows(
        objective.train,
        folds,
        objective.source_of(pipeline),
        tokens=pipeline.tokens,
        seed=objective.seed,
        tta=objective.protocol.tta,
    )
    return rows, sum(len(fold.fit) for fold in folds) / sum(len(f.fit) for f in objective.folds)


def _spread(ids: Ids, share: float) -> Ids:
    """A share of the ids, at equal distances, so that every class is likely to be there."""
    count = max(2, round(share * len(ids)))
    return tuple(ids[at] for at in np.linspace(0, len(ids) - 1, count).astype(int).tolist())
