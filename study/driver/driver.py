"""Driver of a run: submits jobs to the workers and records their outcomes until none is left."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import optuna
from optuna.trial import FrozenTrial
from rich.markup import escape

from outerfold.objectives.choice import read_candidates
from outerfold.pipelines.saved.ensemble import ship_ensemble
from outerfold.storage.errors import first_line
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished
from outerfold.storage.trials.database import retry
from outerfold.storage.trials.journal import keep_trial
from outerfold.study.config.record import ENSEMBLE
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.driver.silence import HUNG_SECONDS, Silence, describe_hung
from outerfold.study.engines.local import Engine, SharingEngine, WorkerLost
from outerfold.study.schedule.deadline import Deadline
from outerfold.study.schedule.patience import EndedTrial, build_limit, count_trials, read_history
from outerfold.study.schedule.schedule import Schedule
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker.faults import Fault, classify
from outerfold.study.worker.heartbeat import clear_beats
from outerfold.study.worker.jobs import AGAIN, Job, Measured, Outcome, record_lost
from outerfold.study.worker.recordings import discard_recordings
from outerfold.study.worker.search_record import record_searches
from outerfold.study.worker.session import WorkerContext, create_studies

_log = logging.getLogger("outerfold")

TRIES_TOGETHER, TRIES_ALONE = 2, 2
"""Number of times that a job may lose its worker beside other jobs, whose fault that may be, and
then alone, before it is recorded as failed."""

LOOK_SECONDS = 1.0
"""Seconds between two checks of the present workers."""


def carry_out_run(
    prepared: PreparedRun,
    context: WorkerContext,
    start: Callable[[], Engine],
    progress: StudyProgress,
    deadline: Deadline | None = None,
    hung_after: float = HUNG_SECONDS,
) -> dict[str, str]:
    """Run every study to its end; return the reasons of failed studies, by study name.

    If a worker dies, for example for lack of memory, its job is run again, then alone, and is
    recorded as failed at last. A worker that hangs counts as dead. What the machine did to a job is
    tried again, alone.

    Args:
        prepared: the run.
        context: locations of its files for the workers.
        start: makes the engine.
        progress: live progress of the studies.
        deadline: time by which the run must be finished; None for no deadline.
        hung_after: seconds without a sign of life after which a worker counts as hung.

    Raises:
        KeyboardInterrupt: the user stopped the run; workers are stopped, ended trials are kept.
        DataError: the data or options break a rule.
        OSError: the disk is full.
    """
    engine = start()
    clear_beats(context.run)
    try:
        studies = open_studies(prepared, context)
        schedule = build_schedule(prepared, studies, deadline)
        for name, study in studies.items():
            discard_recordings(prepared.folder, name, study)
        _show_studies(studies, progress)
        silence = Silence(context.run, hung_after)
        failures = _JobLoop(schedule, studies, context, engine, progress, silence).run()
    except BaseException:
        engine.close(kill=True)
        raise
    engine.close(kill=False)
    clear_beats(context.run)
    record_searches(prepared.folder, studies)
    if prepared.config.final == ENSEMBLE and not failures:
        ship_ensemble(prepared.folder, [fold.name for fold in prepared.studies])
    return failures


def measure(context: WorkerContext, study: str, engine: Engine) -> Measured | None:
    """Measure one epoch of a study's inner folds on one device.

    Args:
        context: locations of the run's files.
        study: name of the study.
        engine: engine whose first device is used.

    Returns:
        None where the machine ended the measurement twice.
    """
    job = Job(context, study, None, engine.devices[0], measure=True)
    silence = Silence(context.run)
    for _ in range(TRIES_ALONE):
        try:
            running = {engine.submit(job): job}
            while wait(running, timeout=LOOK_SECONDS).not_done:
                silence.end_hung(engine, running)
            (outcome,) = (future.result() for future in running)
        except Exception as error:
            if not isinstance(error, WorkerLost) and classify(error) is not Fault.MACHINE:
                raise
            _log.warning("%s: an epoch could not be measured (%s)", study, first_line(error))
        else:
            return outcome.measured
    return None


def measure_together(context: WorkerContext, study: str, engine: Engine) -> float | None:
    """Mean seconds of one epoch while all workers of an engine train at once.

    The first epoch of each worker, which starts it, is not counted.

    Returns:
        None where the machine ended a measurement.
    """
    silence = Silence(context.run)
    for _ in range(2):
        jobs = [Job(context, study, None, device, measure=True) for device in engine.devices]
        try:
            running = {engine.submit(job): job for job in jobs}
            while wait(running, timeout=LOOK_SECONDS).not_done:
                silence.end_hung(engine, running)
            seconds = [future.result().seconds for future in running]
        except Exception as error:
            if not isinstance(error, WorkerLost) and classify(error) is not Fault.MACHINE:
                raise
            _log.warning("%s: workers could not be measured together (%s)", study, error)
            return None
    return sum(seconds) / len(seconds)


def open_studies(prepared: PreparedRun, context: WorkerContext) -> dict[str, optuna.Study]:
    """Studies of the run in the trial storage, by name; they are made where they do not exist."""
    return create_studies(context, prepared.config, [fold.name for fold in prepared.studies])


def build_schedule(
    prepared: PreparedRun, studies: Mapping[str, optuna.Study], deadline: Deadline | None = None
) -> Schedule:
    """Schedule of the work that is left, read from the run's trial storage and directory."""
    return Schedule(
        {name: read_history(study) for name, study in studies.items()},
        ended=frozenset(name for name in studies if is_finished(prepared.folder, name)),
        limit=build_limit(prepared.config, next(iter(studies.values()))),
        deadline=deadline,
    )


def _show_studies(studies: Mapping[str, optuna.Study], progress: StudyProgress) -> None:
    for name, study in studies.items():
        trials = study.get_trials(deepcopy=False)
        progress.add(name, count_trials(trials), read_candidates(trials))


class _JobLoop:
    """Loop that runs jobs, and keeps ended trials until all trials before them have ended."""

    def __init__(
        self,
        schedule: Schedule,
        studies: Mapping[str, optuna.Study],
        context: WorkerContext,
        engine: Engine,
        progress: StudyProgress,
        silence: Silence,
    ) -> None:
        self.schedule, self.studies, self.context = schedule, studies, context
        self.engine, self.progress, self.silence = engine, progress, silence
        self._sharing = engine if isinstance(engine, SharingEngine) else None
        self.failures: dict[str, str] = {}
        self._running: dict[Future[Outcome], Job] = {}
        self._lost: Counter[tuple[str, int | None]] = Counter()
        self._next = {name: len(read_history(study)) for name, study in studies.items()}
        self._early: dict[tuple[str, int], Outcome] = {}
        self._suspects: list[tuple[str, int | None]] = []  # jobs that must run alone

    def run(self) -> dict[str, str]:
        """Run jobs until none is left; return the reasons of failed studies."""
        while not self.schedule.finished:
            self._submit_jobs()
            if not self._running:  # a cluster may have no worker for some time
                time.sleep(LOOK_SECONDS)
            for worker in self.silence.end_hung(self.engine, self._running):
                self.progress.tell(escape(describe_hung(worker)))
            done, _ = wait(self._running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                job = self._running.pop(future)
                try:
                    outcome = future.result()
                except WorkerLost as error:
                    self._retry_job(job, error)
                else:
                    self._take_outcome(job, outcome)
        return self.failures

    def _submit_jobs(self) -> None:
        if self._suspects or any(job.alone for job in self._running.values()):
            self._submit_alone()
            return
        busy, tokens = Counter(job.device for job in self._running.values()), self.engine.devices
        free = list((Counter(tokens) - busy).elements())
        while free and (task := _take_task(self.schedule, self.progress)) is not None:
            device = free.pop(0)
            sharing = count_sharing(tokens, device) if self._sharing else 1
            job = Job(self.context, *task, device=device, sharing=sharing)
            self._running[self.engine.submit(job)] = job

    def _submit_alone(self) -> None:
        """Start the next job that must run alone, as soon as no other job runs."""
        devices = self.engine.devices
        if self._running or not devices:
            return
        job = Job(self.context, *self._suspects.pop(0), device=devices[0], alone=True)
        self._running[self.engine.submit(job)] = job

    def _retry_job(self, job: Job, error: WorkerLost) -> None:
        """Run a job whose worker was lost again; the last time, record it as failed."""
        task = (job.study, job.number)
        _log.warning("%s %s: its worker was lost (%s)", job.study, _job_name(job.number), error)
        self._lost[task] += 1
        if self._lost[task] >= TRIES_TOGETHER + TRIES_ALONE:
            reason = (
                f"its worker died {self._lost[task]} times, at last while it ran alone: {error}"
            )
            self._record_outcome(record_lost(job, reason))
        elif job.alone or self._lost[task] >= TRIES_TOGETHER:
            self._suspects.append(task)
        else:
            self.schedule.lost(*task)

    def _take_outcome(self, job: Job, outcome: Outcome) -> None:
        if outcome.state != AGAIN:
            self._record_outcome(outcome)
            return
        name, task = _job_name(job.number), (job.study, job.number)
        if outcome.no_memory and job.sharing > 1 and self._sharing is not None:
            self._sharing.share(job.device, job.sharing - 1)
            self.progress.tell(
                f"{job.device}: memory ran out with {job.sharing} workers side by side; "
                f"{job.sharing - 1} go on"
            )
            _log.warning("%s %s: run again: %s", job.study, name, outcome.reason)
            self.schedule.lost(*task)
            return
        _log.warning("%s %s: run again, alone: %s", job.study, name, outcome.reason)
        self._suspects.append(task)

    def _record_outcome(self, outcome: Outcome) -> None:
        """Add a trial to the storage, then those that waited for it, in order of their number."""
        if outcome.number is None:
            self._report_outcome(outcome)
            self._discard_recordings(outcome.study)
            return
        self._early[outcome.study, outcome.number] = outcome
        study = outcome.study
        while (ended := self._early.pop((study, self._next[study]), None)) is not None:
            assert ended.trial is not None
            keep_trial(self.studies[study], ended.trial)
            self._next[study] += 1
            self._report_outcome(ended)
        self._discard_recordings(study)

    def _discard_recordings(self, study: str) -> None:
        folder = RunFolder(self.context.run)
        retry(lambda: discard_recordings(folder, study, self.studies[study]))

    def _report_outcome(self, outcome: Outcome) -> None:
        self.schedule.done(outcome.study, _ended_trial(outcome))
        self.progress.update(outcome)
        if outcome.trial is not None and outcome.state == "failed":
            self.progress.tell(_describe_failure(outcome, outcome.trial))
        _log_outcome(outcome, self.failures)


def count_sharing(devices: Sequence[str], device: str) -> int:
    """Number of workers that use a GPU; 1 for a CPU, of which each worker has a core.

    Example:
        >>> count_sharing(["cuda:0", "cuda:1", "cuda:0"], "cuda:0")
        2
    """
    return Counter(devices)[device] if device.startswith("cuda") else 1


def _take_task(schedule: Schedule, progress: StudyProgress) -> tuple[str, int | None] | None:
    before, task = schedule.cut, schedule.take()
    if schedule.cut and not before:
        progress.tell(
            f"--max-time is near: {schedule.ends} studies are refitted with the trials they have"
        )
    return task


def _ended_trial(outcome: Outcome) -> EndedTrial | None:
    if outcome.number is None:
        return None
    return EndedTrial(outcome.state, outcome.value, outcome.seconds)


def _job_name(number: int | None) -> str:
    return "end" if number is None else f"trial {number}"


def _describe_failure(outcome: Outcome, trial: FrozenTrial) -> str:
    drawn = ", ".join(f"{name}={value}" for name, value in trial.params.items())
    text = f"{outcome.study} trial {outcome.number} failed: {outcome.reason}"
    return escape(f"{text} (its parameters: {drawn})" if drawn else text)


def _log_outcome(outcome: Outcome, failures: dict[str, str]) -> None:
    job_name = _job_name(outcome.number)
    value = "" if outcome.value is None else f", inner score {outcome.value:.6f}"
    _log.info(
        "%s %s: %s after %d epochs%s, %.1f s",
        outcome.study,
        job_name,
        outcome.state,
        outcome.epochs,
        value,
        outcome.seconds,
    )
    if outcome.reason:
        _log.error("%s %s: %s\n%s", outcome.study, job_name, outcome.reason, outcome.trace)
    if outcome.state == "failed" and outcome.number is None:
        failures[outcome.study] = outcome.reason
