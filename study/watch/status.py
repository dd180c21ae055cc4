"""State of a run, read from its folder and its trials; nothing is written there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from rich.table import Table

from outerfold.objectives.choice import choose_trial, read_candidates
from outerfold.objectives.metrics import METRICS
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished
from outerfold.storage.trials.journal import load_studies, open_journal, open_trials
from outerfold.study.config.record import StudyConfig
from outerfold.study.schedule.patience import count_trials

RECENT = 20
"""Number of the latest trials of a run from which the time that is left is expected."""


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
    """

    name: str
    complete: int
    pruned: int
    failed: int
    planned: int
    epochs: int
    best: float | None
    finished: bool

    @property
    def ended(self) -> int:
        """Number of ended trials."""
        return self.complete + self.pruned + self.failed

    @property
    def left(self) -> int:
        """Largest number of trials that are left."""
        return 0 if self.finished else max(0, self.planned - self.ended)


@dataclass(frozen=True)
class RunState:
    """State of a run.

    Attributes:
        name: name of its folder.
        running: whether a command of this machine works on it.
        studies: its studies, outer folds first.
        latest: time at which the latest trial ended; None before the first.
        trial_seconds: mean seconds between two ends of trials, of the latest ones; None below two.
    """

    name: str
    running: bool
    studies: tuple[StudyState, ...]
    latest: datetime | None
    trial_seconds: float | None

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
    ends = sorted(
        one.datetime_complete for each in trials.values() for one in each if one.datetime_complete
    )
    recent = ends[-RECENT:]
    span = (recent[-1] - recent[0]).total_seconds() if recent else 0.0
    state = RunState(
        folder.name,
        _is_locked(folder),
        tuple(_study_state(folder, config, name, trials[name], maximise) for name in names),
        ends[-1] if ends else None,
        span / (len(recent) - 1) if len(recent) > 1 else None,
    )
    return state, trials


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
    return StudyState(
        name,
        **count_trials(trials),
        planned=config.trials,
        epochs=sum(trial.last_step or 0 for trial in trials),
        best=None if best is None else best.value,
        finished=is_finished(folder, name),
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
    """Table with one line for each study, and the state of the run as its title.

    Args:
        state: state of the run.
        now: present time, of the clock that the trials' times are from.
    """
    table = Table(title=describe(state, now), title_justify="left")
    columns = ("Study", "Trials", "Complete", "Pruned", "Failed", "Epochs", "Best inner", "")
    for name in columns:
        table.add_column(name, justify="left" if name in ("Study", "") else "right")
    for study in state.studies:
        table.add_row(
            study.name,
            f"{study.ended}/{study.planned}",
            f"{study.complete}",
            f"{study.pruned}",
            f"{study.failed}",
            f"{study.epochs:,}",
            "-" if study.best is None else f"{study.best:.3f}",
            _stage(study),
        )
    return table


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
    if not state.running:
        return f"{what}; no command of this machine works on it"
    ago = "" if state.latest is None else f"; the last trial ended {_words(now - state.latest)} ago"
    left = state.search_left
    rest = "" if left is None else f"; about {_words(left)} of search left"
    return f"{what}{ago}{rest}"


def _stage(study: StudyState) -> str:
    if study.finished:
        return "finished"
    if not study.ended:
        return "waits"
    return "searches" if study.left else "ends"


def _words(time: timedelta) -> str:
    seconds = max(0, round(time.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
