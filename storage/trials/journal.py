"""Where trials are kept: Optuna's journal, opened, repaired and cleared of interrupted trials."""

from __future__ import annotations

import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from outerfold.storage.errors import first_line
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.database import retry, without_password


def open_trials(folder: RunFolder, url: str | None = None, *, wait: bool = False) -> BaseStorage:
    """The trial storage of a run: its journal file, or a database of several machines.

    Args:
        wait: for a database that answered before and is being restarted.

    Raises:
        DataError: the URL names SQLite, which gives one trial to two writers, or no database that
            can be opened.
    """
    if url is None:
        folder.journal.touch()
        return _opened(folder.journal, folder.journal.stat().st_ino)
    if url.startswith("sqlite"):
        raise DataError(
            f"--storage {url}: SQLite can hand the same trial to two writers; leave --storage out "
            "for the journal file, or name a PostgreSQL or MySQL server"
        )

    def connect() -> RDBStorage:
        # A connection that a restarted server has dropped is found out before it is used.
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    try:
        return retry(connect) if wait else connect()
    except ImportError as error:
        raise DataError(
            f"--storage {without_password(url)}: cannot be opened "
            f"({first_line(error.__cause__ or error)}); install the package that it needs, for "
            "postgresql+psycopg:// with pip install 'outerfold[postgresql]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise DataError(
            f"--storage {without_password(url)}: cannot be opened ({first_line(error)}); name a "
            "server that answers, as in postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        ) from None


def keep_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Add an ended trial as its study's next; one that is there already is not added again.

    Raises:
        RuntimeError: trials before it are missing, or in its place is another study's or process's.
        DataError: the database does not answer.
    """
    retry(lambda: _keep(study, trial))


def _keep(study: optuna.Study, trial: FrozenTrial) -> None:
    kept = study.get_trials(deepcopy=False)
    held = len(kept)
    if held > trial.number and _same(kept[trial.number], trial):
        return
    if held == trial.number:
        study.add_trial(trial)
        held = len(study.get_trials(deepcopy=False)) - 1
    if held != trial.number:
        raise RuntimeError(
            f"{study.study_name}: trial {trial.number} does not come after the {held} there are; "
            "is another process writing to this run? Give the same command again"
        )


def _same(kept: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether a trial was kept before, by a call whose answer was lost."""
    return (kept.state, kept.params) == (trial.state, trial.params)


class _Journal(JournalFileBackend):
    """Optuna's journal file, which waits for the disk only where a trial begins or ends.

    Optuna waits after every line, 6 ms on a busy disk and a quarter of a second a trial. What a
    power loss may take of a running trial is cut off or cleared away at the next start; a killed
    process takes nothing, since the system holds what was written. The wait at a trial's end
    covers all lines before it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See ``JournalFileBackend``; in its format."""
        if any("trial_id" not in log or "state" in log for log in logs):
            super().append_logs(logs)
            return
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with self.path.open("ab") as file:
                file.write(lines.encode("utf-8"))
        finally:
            self.lock.release()


@lru_cache(maxsize=1)
def _opened(path: Path, _file: int) -> JournalStorage:
    """One a process and file: to read 10,000 trials takes seconds."""
    return open_journal(path)


def open_journal(path: Path) -> JournalStorage:
    """The trials in one journal file, read anew."""
    return JournalStorage(_Journal(path))


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


def discard_interrupted(folder: RunFolder, url: str | None = None) -> dict[str, int]:
    """Take trials of this run that never ended out of the storage; returns their number by study.

    An interrupted trial says nothing, but its epochs would steer the pruner, and its number the
    seeds. Without it the study goes on exactly as if it had not been stopped. The same goes for
    the second of two that are one, added twice since a server was restarted before it could say
    that it had added the first. A second interruption loses nothing: the journal is rewritten
    beside itself and renamed; in a database the study is first copied under another name.
    """
    storage = open_trials(folder, url)
    if url is not None:
        _restore(storage, _names(storage, folder, url))
    studies = {
        name: optuna.load_study(study_name=name, storage=storage)
        for name in _names(storage, folder, url)
    }
    stale = {
        name: len(study.get_trials(deepcopy=False)) - len(_ended(study))
        for name, study in studies.items()
    }
    found = {name: count for name, count in stale.items() if count}
    if found and url is None:
        _rewrite(folder.journal, list(studies.values()))
    elif found:
        for name in found:
            _replace(storage, studies[name])
    return found


def study_name(folder: RunFolder, study: str, url: str | None = None) -> str:
    """What a study is called in the storage: ``outer-0`` in a journal, which holds one run only.

    In a database, where other runs are, it is ``RUN/outer-0``. A trial's own view of the study
    goes by the short name: Hyperband deals its brackets by it, and where trials are kept is to
    have no part in a result.
    """
    return study if url is None else f"{folder.name}/{study}"


def _names(storage: BaseStorage, folder: RunFolder, url: str | None) -> list[str]:
    names = optuna.get_all_study_names(storage=storage)
    return [name for name in names if name.startswith(study_name(folder, "", url))]


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return [t for i, t in enumerate(ended) if i == 0 or not _twins(t, ended[i - 1])]


def _twins(one: FrozenTrial, other: FrozenTrial) -> bool:
    # No two trials begin and end at the same microsecond.
    when = (one.datetime_start, one.datetime_complete)
    return when == (other.datetime_start, other.datetime_complete) and one.params == other.params


def _copy(study: optuna.Study, storage: BaseStorage, name: str) -> None:
    fresh = optuna.create_study(study_name=name, storage=storage, direction=study.direction)
    for key, value in study.user_attrs.items():
        if key != WHOLE:
            fresh.set_user_attr(key, value)
    fresh.add_trials(_ended(study))


def _rewrite(journal: Path, studies: list[optuna.Study]) -> None:
    aside = journal.with_name(f"{journal.name}.rewritten")
    aside.unlink(missing_ok=True)
    unlock(aside)
    storage = open_journal(aside)
    for study in studies:
        _copy(study, storage, study.study_name)
    aside.replace(journal)


KEPT, WHOLE = "~kept", "whole"
"""A database's copy of a study while it is replaced, and the mark that the copy is complete."""


def _replace(storage: BaseStorage, study: optuna.Study) -> None:
    name = study.study_name
    _copy(study, storage, name + KEPT)
    optuna.load_study(study_name=name + KEPT, storage=storage).set_user_attr(WHOLE, True)
    _restore(storage, [name, name + KEPT])


def _restore(storage: BaseStorage, names: list[str]) -> None:
    """Finish or undo replacements that were interrupted."""
    for kept in (name for name in names if name.endswith(KEPT)):
        copy = optuna.load_study(study_name=kept, storage=storage)
        name = kept.removesuffix(KEPT)
        if copy.user_attrs.get(WHOLE):
            if name in names:
                optuna.delete_study(study_name=name, storage=storage)
            _copy(copy, storage, name)
        optuna.delete_study(study_name=kept, storage=storage)


def _whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
