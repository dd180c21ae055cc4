"""The driver: hands out work, hears what became of it, and closes with the report."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from types import FrameType

import optuna
from joblib.externals.loky.process_executor import BrokenProcessPool

from storage.run_results import finished
from study.deadline import Deadline
from study.engines import Engine
from study.ensemble import ship_ensemble
from study.finish import count_trials
from study.patience import Ended, history_of, limit_of
from study.prepare import Ready, repair
from study.progress import StudyProgress
from study.schedule import Schedule
from study.session import Place, create_studies
from study.work import Job, Outcome

_log = logging.getLogger("outerfold")

RESTARTS = 3
"""Times the workers are started anew after one died."""


def carry_out_run(
    ready: Ready, place: Place, start: Callable[[], Engine], progress: StudyProgress,
    deadline: Deadline | None = None,
) -> dict[str, str]:  # fmt: skip
    """Run every study to its end; returns the reasons of those that failed, by study.

    A worker that dies (out of memory, say) takes its trial with it; the workers are started
    again and the trial is run again.

    Raises:
        KeyboardInterrupt: stopped; workers are gone, finished trials are kept.
        BrokenProcessPool: workers died ``RESTARTS`` times.
    """
    failures: dict[str, str] = {}
    for attempt in range(RESTARTS + 1):
        engine = start()
        try:
            studies = open_studies(ready, place)
            schedule = schedule_of(ready, studies, deadline)
            _show(studies, progress)
            with terminating():
                _loop(schedule, place, engine, progress, failures)
        except BrokenProcessPool as error:
            engine.close(kill=True)
            _log.warning("a worker died (%s)", str(error).splitlines()[0])
            if attempt == RESTARTS:
                raise
            repair(ready.folder, _log.warning, place.storage)
        except BaseException:
            engine.close(kill=True)
            raise
        else:
            engine.close(kill=False)
            break
    if ready.config.final == "ensemble" and not failures:
        ship_ensemble(ready.folder, [fold.name for fold in ready.studies])
    return failures


def measure(
    place: Place, study: str, engine: Engine, clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of one epoch of a study's inner folds, and of a worker's start, on one device."""
    started = clock()
    job = Job(place, study, None, engine.devices[0], measure=True)
    outcome = engine.submit(job).result()
    return outcome.seconds, clock() - started - outcome.epochs * outcome.seconds


def open_studies(ready: Ready, place: Place) -> dict[str, optuna.Study]:
    """Every study of the run, made if need be."""
    return create_studies(place, ready.config, [fold.name for fold in ready.studies])


def schedule_of(
    ready: Ready, studies: Mapping[str, optuna.Study], deadline: Deadline | None = None
) -> Schedule:
    """What is left of the run, told from what its trial storage and directory hold."""
    return Schedule(
        {name: history_of(study) for name, study in studies.items()},
        ended=frozenset(name for name in studies if finished(ready.folder, name)),
        limit=limit_of(ready.config, next(iter(studies.values()))),
        deadline=deadline,
    )


def _show(studies: Mapping[str, optuna.Study], progress: StudyProgress) -> None:
    for name, study in studies.items():
        counts = count_trials(study)
        progress.add(name, counts, study.best_value if counts["complete"] else None)


def _loop(
    schedule: Schedule, place: Place, engine: Engine, progress: StudyProgress,
    failures: dict[str, str],
) -> None:  # fmt: skip
    free = list(engine.devices)
    running: dict[Future[Outcome], str] = {}
    while not schedule.finished:
        while free and (task := _take(schedule, progress)) is not None:
            job = Job(place, *task, device=free.pop(0))
            running[engine.submit(job)] = job.device
        done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            free.append(running.pop(future))
            outcome = future.result()
            schedule.done(outcome.study, _ended(outcome))
            progress.update(outcome)
            _tell(outcome, failures)


def _take(schedule: Schedule, progress: StudyProgress) -> tuple[str, int | None] | None:
    before, task = schedule.cut, schedule.take()
    if schedule.cut and not before:
        progress.tell(
            f"--max-time is near: {schedule.ends} studies are refitted with the trials they have"
        )
    return task


def _ended(outcome: Outcome) -> Ended | None:
    if outcome.number is None:
        return None
    return Ended(outcome.state, outcome.value, outcome.seconds)


def _tell(outcome: Outcome, failures: dict[str, str]) -> None:
    what = "end" if outcome.number is None else f"trial {outcome.number}"
    value = "" if outcome.value is None else f", inner score {outcome.value:.6f}"
    _log.info("%s %s: %s after %d epochs%s, %.1f s", outcome.study, what, outcome.state,
              outcome.epochs, value, outcome.seconds)  # fmt: skip
    if outcome.reason:
        _log.error("%s %s: %s\n%s", outcome.study, what, outcome.reason, outcome.trace)
    if outcome.state == "failed" and outcome.number is None:
        failures[outcome.study] = outcome.reason


@contextmanager
def terminating() -> Iterator[None]:
    """Hear SIGTERM (a cluster's time limit, say) as Ctrl-C is heard."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
