"""State of a run, read from its folder and its trials; nothing is written there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from rich.markup import escape
from rich.table import Table

from outerfold.objectives.choice import choose_trial, read_candidates
from outerfold.objectives.metrics import METRICS
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished
from outerfold.storage.trials.journal import load_studies, open_journal, open_trials
from outerfold.study.config.record import StudyConfig
from outerfold.study.schedule.patience import count_trials
from outerfold.study.setup.provenance import describe_devices
from outerfold.study.worker.heartbeat import read_beats

RECENT = 20
"""Number of the latest trials of a run from which the time that is left is expected."""
FRESH_SECONDS = 120.0
"""Age of a job's sign of life above which it no longer shows what is under way. A job that reads
from a slow disk uses no processor for a while; a killed worker leaves its file."""


@dataclass(frozen=True)
class StudyState:
    """State of one study.

    Attributes:
        name: ``outer-0`` ... or ``final``.
        complete, pruned, failed: numbers of ended trials.
        planned: number of trials that its search has at most.
        epochs: epochs of all ended trials together.
        best: best inner score of a complete trial; None before the first.
        finished: whether its model was made and, for an outer fold, scored.
        trial_seconds: mean seconds between two ends of its latest trials; None below two.
        devices: device and host of each of its jobs that is under way.
    """

    name: str
    complete: int
    pruned: int
    failed: int
    planned: int
    epochs: int
    best: float | None
    finished: bool
    trial_seconds: float | None = None
    devices: tuple[str, ...] = ()

    @property
    def ended(self) -> int:
        """Number of ended trials."""
        return self.complete + self.pruned + self.failed

    @property
    def left(self) -> int:
        """Largest number of trials that are left."""
        return 0 if self.finished else max(0, self.planned - self.ended)

    @property
    def search_left(self) -> timedelta | None:
        """Time that its search still takes at its own pace; None if it cannot be told."""
        if not self.left:
            return timedelta()
        pace = self.trial_seconds
        return None if pace is None else timedelta(seconds=self.left * pace)


@dataclass(frozen=True)
class RunState:
    """State of a run.

    Attributes:
        name: name of its folder.
        running: whether a command of this machine works on it.
        studies: its studies, outer folds first.
        latest: time at which the latest trial ended; None before the first.
        trial_seconds: mean seconds between two ends of trials, of the latest ones; None below two.
        devices: the devices of the latest command in a sentence; empty where none is known.
    """

    name: str
    running: bool
    studies: tuple[StudyState, ...]
    latest: datetime | None
    trial_seconds: float | None
    devices: str = ""

    @property
    def jobs(self) -> int:
        """Number of jobs that are under way, on whatever machine."""
        return sum(len(study.devices) for study in self.studies)

    @property
    def finished(self) -> bool:
        """Whether every study is finished."""
        return all(study.finished for study in self.studies)

    @property
    def search_left(self) -> timedelta | None:
        """Expected time that the search still takes; None if it cannot be told."""
        left = sum(study.left for study in self.studies)
        if not left:
            return timedelta()
        return None if self.trial_seconds is None else timedelta(seconds=left * self.trial_seconds)


def read_state(folder: RunFolder, url: str | None = None) -> RunState:
    """State of a run at this moment.

    Args:
        folder: directory of the run.
        url: URL of the database that holds the trials; None for the run's journal.

    Raises:
        DataError: the folder is no run, or its trials cannot be read.
    """
    return read_run(folder, url)[0]


def read_run(
    folder: RunFolder, url: str | None = None
) -> tuple[RunState, dict[str, list[FrozenTrial]]]:
    """State of a run at this moment, and its ended trials by study; see ``read_state``."""
    config = StudyConfig.from_toml(folder.read_config())
    names = _study_names(folder)
    trials = _read_trials(folder, names, url)
    maximise = METRICS[config.metric].direction == "maximize"
    ends = _ends_of([one for each in trials.values() for one in each])
    jobs = _jobs(folder)
    state = RunState(
        folder.name,
        _is_locked(folder),
        tuple(
            replace(
                _study_state(folder, config, name, trials[name], maximise),
                devices=tuple(jobs.get(name, ())),
            )
            for name in names
        ),
        ends[-1] if ends else None,
        _pace(ends),
        describe_devices(folder),
    )
    return state, trials


def _ends_of(trials: Sequence[FrozenTrial]) -> list[datetime]:
    return sorted(one.datetime_complete for one in trials if one.datetime_complete)


def _pace(ends: Sequence[datetime]) -> float | None:
    """Mean seconds between two of the latest ends; None below two."""
    recent = ends[-RECENT:]
    if len(recent) < 2:
        return None
    return (recent[-1] - recent[0]).total_seconds() / (len(recent) - 1)


def _jobs(folder: RunFolder) -> dict[str, list[str]]:
    """Device and host of each job that is under way, by study."""
    found: dict[str, list[str]] = {}
    for beat in read_beats(folder.path):
        if time.time() - beat.at < FRESH_SECONDS:
            host = beat.worker.rpartition(" on ")[2].rstrip(")")
            device = beat.device or "a worker"
            found.setdefault(beat.study, []).append(f"{device} of {host}" if host else device)
    return found


@lru_cache(maxsize=8)
def _study_names(folder: RunFolder) -> tuple[str, ...]:
    """Names of the run's studies, which never change, so one look reads the splits for all."""
    return tuple(fold.name for fold in folder.read_splits(folder.read_dataset()))


def _study_state(
    folder: RunFolder,
    config: StudyConfig,
    name: str,
    trials: Sequence[FrozenTrial],
    maximise: bool,
) -> StudyState:
    best = choose_trial(read_candidates(trials), maximise=maximise)
    counts = count_trials(trials)
    return StudyState(
        name,
        counts["complete"],
        counts["pruned"],
        counts["failed"],
        planned=config.trials,
        epochs=sum(trial.last_step or 0 for trial in trials),
        best=None if best is None else best.value,
        finished=is_finished(folder, name),
        trial_seconds=_pace(_ends_of(trials)),
    )


def _read_trials(
    folder: RunFolder, names: Sequence[str], url: str | None
) -> dict[str, list[FrozenTrial]]:
    """Ended trials by study; none of a study that has not begun."""
    if url is None and not folder.journal.exists():
        return {name: [] for name in names}
    # Each look reads the journal anew: a storage that is kept would hold the records of a journal
    # that a resumption has replaced.
    storage: BaseStorage = open_journal(folder.journal) if url is None else open_trials(folder, url)
    found: dict[str, list[FrozenTrial]] = {name: [] for name in names}
    for name, study in load_studies(storage, folder, names, url).items():
        found[name] = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return found


def _is_locked(folder: RunFolder) -> bool:
    path = folder.path / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def state_table(state: RunState, now: datetime) -> Table:
    """Table with one line for each study; the state of the run above, and its devices below it.

    Args:
        state: state of the run.
        now: present time, of the clock that the trials' times are from.
    """
    table = Table(
        title=escape(describe(state, now)),
        title_justify="left",
        box=None,  # as narrow as can be, for terminals of 80 columns
        padding=(0, 2, 0, 0),
        caption=escape(state.devices) or None,
        caption_justify="left",
    )
    table.add_column("Study", no_wrap=True)
    for name in ("Trials", "Complete", "Pruned", "Failed", "Epochs", "Best\ninner", "Left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("State", min_width=12)
    for study in state.studies:
        table.add_row(
            study.name,
            f"{study.ended}/{study.planned}",
            f"{study.complete}",
            f"{study.pruned}",
            f"{study.failed}",
            f"{study.epochs:,}",
            "-" if study.best is None else f"{study.best:.3f}",
            _left_words(study),
            escape(_stage(study)),
        )
    return table


def _left_words(study: StudyState) -> str:
    left = study.search_left
    return "-" if study.finished or left is None else _words(left)


def describe(state: RunState, now: datetime) -> str:
    """State of a run in one line."""
    ended = sum(study.ended for study in state.studies)
    planned = sum(study.planned for study in state.studies)
    done = sum(study.finished for study in state.studies)
    what = (
        f"{state.name}: {ended} of at most {planned} trials, {done} of {len(state.studies)} studies"
    )
    if state.finished:
        return f"{what}; finished"
    if not state.running and not state.jobs:
        return f"{what}; no command of this machine works on it"
    ago = "" if state.latest is None else f"; the last trial ended {_words(now - state.latest)} ago"
    left = state.search_left
    rest = "" if left is None else f"; about {_words(left)} of search left"
    return f"{what}{ago}{rest}"


def _stage(study: StudyState) -> str:
    """What a study is at, and on which devices."""
    if study.finished:
        return "finished"
    if not study.devices:
        return "waits" if study.left else "is to end"
    counts = Counter(study.devices)
    where = ", ".join(
        device if count == 1 else f"{count} x {device}" for device, count in counts.items()
    )
    return f"{'searches' if study.left else 'ends'} on {where}"


def _words(time: timedelta) -> str:
    seconds = max(0, round(time.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
