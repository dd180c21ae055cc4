"""Where trials are kept: Optuna's journal, opened, repaired and cleared of interrupted trials."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from storage.records import DataError
from storage.run_folder import RunFolder

_log = logging.getLogger(__name__)


def open_trials(folder: RunFolder, url: str | None = None) -> BaseStorage:
    """The trial storage of a run: its journal file, or a database of several machines.

    Raises:
        DataError: the URL names SQLite, which gives one trial to two writers.
    """
    if url is None:
        return _open_journal(folder.journal)
    if url.startswith("sqlite"):
        raise DataError(
            f"--storage {url}: SQLite can hand the same trial to two writers; leave --storage out "
            "for the journal file, or name a PostgreSQL or MySQL server"
        )
    return RDBStorage(url)


def _open_journal(path: Path) -> JournalStorage:
    backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
    return JournalStorage(backend)


def unlock(journal: Path) -> None:
    """Remove the lock a killed writer left; only for the owner of the run directory."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)


def mend(journal: Path) -> Path | None:
    """Cut a torn last line off a journal; returns the backup, or None where nothing was torn.

    A line cut short by a power loss makes every later load fail, so it is removed; what it said
    was never acted upon. A torn line in the middle is damage of another kind and is refused.
    """
    if not journal.exists():
        return None
    lines = journal.read_bytes().splitlines(keepends=True)
    broken = [i for i, line in enumerate(lines) if not _whole(line)]
    if not broken:
        return None
    if broken[0] != len(lines) - 1:
        raise DataError(
            f"{journal}: line {broken[0] + 1} of {len(lines)} is not a journal entry; it is not "
            "the last, so this is no interrupted write: restore the file from a backup"
        )
    backup = journal.with_name(f"{journal.name}.torn-{len(lines)}")
    shutil.copy2(journal, backup)
    with journal.open("rb+") as file:
        file.truncate(sum(len(line) for line in lines[:-1]))
        os.fsync(file.fileno())
    return backup


def discard_interrupted(folder: RunFolder) -> dict[str, int]:
    """Take trials that never ended out of the journal; returns their number by study.

    An interrupted trial says nothing, but its epochs would steer the pruner, and its number the
    seeds. Without it the study goes on exactly as if it had not been stopped. The journal is
    rewritten beside itself and renamed, so a second interruption loses nothing.
    """
    storage = open_trials(folder)
    studies = optuna.get_all_study_names(storage=storage)
    kept, dropped = {}, {}
    for name in studies:
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(deepcopy=False)
        kept[name] = study.direction, [t for t in trials if t.state.is_finished()]
        stale = sum(t.state in (TrialState.RUNNING, TrialState.WAITING) for t in trials)
        if stale:
            dropped[name] = stale
    if dropped:
        _rewrite(folder.journal, kept)
    return dropped


def _rewrite(
    journal: Path,
    kept: dict[str, tuple[optuna.study.StudyDirection, list[optuna.trial.FrozenTrial]]],
) -> None:
    aside = journal.with_name(f"{journal.name}.rewritten")
    aside.unlink(missing_ok=True)
    unlock(aside)
    storage = JournalStorage(
        JournalFileBackend(str(aside), lock_obj=JournalFileOpenLock(str(aside)))
    )
    for name, (direction, trials) in kept.items():
        study = optuna.create_study(study_name=name, storage=storage, direction=direction)
        study.add_trials(trials)
    aside.replace(journal)


def _whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
