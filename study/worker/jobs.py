"""What a worker process does: one trial, the end of one study, or a measurement for the plan."""

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
"""Random ones, for the plan; one where blocks are trained, as they cost alike."""
MEASURED_SECONDS = 5.0
"""After which no other is measured; with more rows, batches of several sizes cost more alike."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        study: ``outer-0`` ... ``final``.
        number: of the trial; None for the study's end: choose, refit, score once.
        device: the token of the worker that gets it.
        measure: time a few epochs instead.
    """

    context: WorkerContext
    study: str
    number: int | None
    device: str
    measure: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        state: of a trial, in lower case; ``finished`` or ``failed`` for a study's end.
        seconds: taken; of a measurement, for one epoch.
        value: of a completed trial, in the metric's unit.
        epochs: trained.
        reason: why it failed, one line.
        trace: the traceback of a failure, for the log.
        trial: as Optuna keeps it, ended; None where the job was no trial.
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


def work_and_keep(job: Job) -> Outcome:
    """Run a job in this process and keep its trial, as the driver does for a worker."""
    outcome = work(job)
    if outcome.trial is not None:
        keep_trial(open_session(job.context).study(job.study), outcome.trial)
    return outcome


def work(job: Job) -> Outcome:
    """Run a job in this process; a trial is handed back and kept nowhere.

    So a worker that dies, or goes on after its driver gave it up, leaves no half trial behind.
    """
    session = open_session(job.context)  # once a process, and so no part of what a job takes
    started = time.perf_counter()
    if job.measure:
        seconds, trained = _epoch_seconds(session, job.study, job.device)
        return Outcome(job.study, None, "measured", seconds, epochs=trained)
    outcome = _end(session, job) if job.number is None else _trial(session, job, job.number)
    return replace(outcome, seconds=time.perf_counter() - started)


def _trial(session: Session, job: Job, number: int) -> Outcome:
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
    except Exception as error:  # noqa: BLE001 - whatever a configuration broke on, it says so
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        trace = traceback.format_exc()
        trial.set_user_attr("failure", reason)
        frozen = study.tell(trial, state=TrialState.FAIL)
    state = frozen.state.name.lower().replace("fail", "failed")
    value_told = frozen.value if frozen.state == TrialState.COMPLETE else None
    return Outcome(
        job.study, number, state, 0.0, value_told, frozen.last_step or 0, reason, trace, frozen
    )


def _end(session: Session, job: Job) -> Outcome:
    try:
        result = finish(session, job.study, job.device)
    except StudyFailed as failure:
        return Outcome(job.study, None, "failed", 0.0, reason=str(failure))
    return Outcome(job.study, None, "finished", 0.0, result.inner_score, result.epochs)


def _epoch_seconds(session: Session, study: str, device: str) -> tuple[float, int]:
    """Mean seconds of an epoch of all inner folds, and how many epochs were trained for it.

    Where heads alone are trained, the second epoch of some random configurations counts: the first
    finds neither code nor rows in memory.
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
