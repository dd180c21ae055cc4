"""Jobs of a worker process: one trial, the end of one study, or a measurement for the plan."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from outerfold.storage.records import DataError
from outerfold.storage.trials.journal import keep_trial
from outerfold.study.worker.finish import StudyFailed, finish
from outerfold.study.worker.session import Session, WorkerContext, open_session

MEASURED_CONFIGURATIONS = 5
"""Number of random configurations measured for the plan; only one where blocks of the encoder are
trained, since all configurations then take about the same time."""
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
    """

    context: WorkerContext
    study: str
    number: int | None
    device: str
    measure: bool = False


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        study: ``outer-0`` ... ``final``.
        number: number of the trial; None if the job was no trial.
        state: state of a trial, in lower case; ``finished`` or ``failed`` for a study's end;
            ``measured`` for a measurement.
        seconds: duration of the job; for a measurement, the mean duration of one epoch.
        value: inner score of a completed trial or finished study, in the metric's unit.
        epochs: number of trained epochs; for a finished study, the chosen number.
        reason: reason of a failure, in one line.
        trace: traceback of a failure, for the log.
        trial: the ended trial as Optuna keeps it; None if the job was no trial.
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


def run_and_keep_job(job: Job) -> Outcome:
    """Run a job in this process and add its trial to the storage, as the driver does."""
    outcome = run_job(job)
    if outcome.trial is not None:
        keep_trial(open_session(job.context).study(job.study), outcome.trial)
    return outcome


def run_job(job: Job) -> Outcome:
    """Run a job in this process; a trial is returned and not added to the storage.

    So a worker that dies, or whose driver no longer waits for it, leaves no unfinished trial.

    Raises:
        DataError: the run breaks a rule.
    """
    session = open_session(job.context)  # opened once a process, so it is no part of the time
    started = time.perf_counter()
    if job.measure:
        seconds, trained = _measure_epochs(session, job.study, job.device)
        return Outcome(job.study, None, "measured", seconds, epochs=trained)
    outcome = _run_end(session, job) if job.number is None else _run_trial(session, job, job.number)
    return replace(outcome, seconds=time.perf_counter() - started)


def _run_trial(session: Session, job: Job, number: int) -> Outcome:
    study = session.study_as_seen(job.study, number)
    trial = study.ask()
    reason = trace = ""
    try:
        value = session.objective(job.study, job.device)(trial)
        frozen = study.tell(trial, value)
    except optuna.TrialPruned:
        frozen = study.tell(trial, state=TrialState.PRUNED)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - any error of a configuration is recorded
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        trace = traceback.format_exc()
        trial.set_user_attr("failure", reason)
        frozen = study.tell(trial, state=TrialState.FAIL)
    state = frozen.state.name.lower().replace("fail", "failed")
    score = frozen.value if frozen.state == TrialState.COMPLETE else None
    return Outcome(
        job.study, number, state, 0.0, score, frozen.last_step or 0, reason, trace, frozen
    )


def _run_end(session: Session, job: Job) -> Outcome:
    try:
        result = finish(session, job.study, job.device)
    except StudyFailed as failure:
        return Outcome(job.study, None, "failed", 0.0, reason=str(failure))
    return Outcome(job.study, None, "finished", 0.0, result.inner_score, result.epochs)


def _measure_epochs(session: Session, study: str, device: str) -> tuple[float, int]:
    """Mean seconds of an epoch of all inner folds, and the number of epochs trained to measure it.

    Where only heads are trained, the second epoch of several random configurations is measured,
    since the first also loads code and rows into memory.
    """
    objective = session.objective(study, device)
    draw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    frozen = not session.config.trainable_blocks
    length = min(2, session.config.epochs) if frozen else 1
    seconds: list[float] = []
    began = time.perf_counter()
    for _ in range(MEASURED_CONFIGURATIONS if frozen else 1):
        pipeline = session.space(draw.ask())
        rows = objective.rows(pipeline)
        budget = session.config.epochs
        epochs = iter(pipeline.start(rows, budget=budget, seed=0, device=device))
        for _ in range(length):
            started = time.perf_counter()
            next(epochs)
        seconds.append(time.perf_counter() - started)
        if time.perf_counter() - began > MEASURED_SECONDS:
            break
    return sum(seconds) / len(seconds), length * len(seconds)
