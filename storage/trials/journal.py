"""Storage of trials in Optuna's journal: opening, checks and removal of interrupted trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from outerfold.storage.cache.files import sync_folder
from outerfold.storage.errors import first_line
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.database import retry, without_password
from outerfold.storage.trials.mending import (
    describe_damage,
    first_bad_line,
    line_of_trial,
    remove_lock,
)
from outerfold.storage.trials.seals import KEPT, SEALED, ChangedTrial, check_seals, seal


def open_trials(folder: RunFolder, url: str | None = None, *, wait: bool = False) -> BaseStorage:
    """Trial storage of a run: its journal file, or a database that several machines use.

    Args:
        folder: the run directory.
        url: URL of the database; None opens the journal file.
        wait: whether to wait for a database that does not answer, as during a restart.

    Raises:
        DataError: the database cannot be opened, or the URL names SQLite, which can give the same
            trial to two writers.
    """
    if url is None:
        folder.journal.touch()
        return _open_once(folder.journal, folder.journal.stat().st_ino)
    if url.startswith("sqlite"):
        raise DataError(
            f"--storage {without_password(url)}: SQLite can hand the same trial to two writers; "
            "leave --storage out for the journal file, or name a PostgreSQL or MySQL server"
        )

    def connect() -> RDBStorage:
        # pool_pre_ping finds a connection that a restarted server has dropped before its use.
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
    """Add an ended trial to its study, as the next one; a trial that is already there is skipped.

    It gets a hash, by which ``check_trials`` finds out whether it was changed since.

    Raises:
        RuntimeError: earlier trials are missing, or another trial has this number.
        DataError: the database does not answer, or the study was deleted.
    """
    sealed = seal(study.study_name, trial)
    try:
        retry(lambda: _add_trial(study, sealed))
    except KeyError:  # Optuna's error for a study that is not in the storage
        raise DataError(
            f"{study.study_name}: the study was deleted from the trial storage while the run went "
            "on, as the dashboard can; give the same command again, which runs its trials anew"
        ) from None


def _add_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    kept = _trials(study)
    held = len(kept)
    if held > trial.number and _is_same(kept[trial.number], trial):
        return
    if held == trial.number:
        study.add_trial(trial)
        held = len(_trials(study)) - 1
    if held != trial.number:
        raise RuntimeError(
            f"{study.study_name}: trial {trial.number} cannot follow the {held} trials that are "
            "kept; is another process writing to this run? Give the same command again"
        )


def _is_same(kept: FrozenTrial, trial: FrozenTrial) -> bool:
    """Whether the kept trial is this one, added by an earlier call whose answer was lost.

    The parameters alone do not tell: trial 0 of every study has those of the default
    configuration.
    """
    same = (kept.state, kept.params) == (trial.state, trial.params)
    return same and kept.intermediate_values == trial.intermediate_values


class _Journal(JournalFileBackend):
    """Optuna's journal file, which waits for the disk only when a trial begins or ends.

    Optuna waits after every line: 6 ms on a busy disk, a quarter of a second for each trial. A
    power loss may remove lines of a running trial, which the next start removes anyway. A killed
    process loses nothing, since the operating system holds the written lines. The wait at the end
    of a trial covers all lines before it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileOpenLock(str(path))
        super().__init__(str(path), lock_obj=self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append ``logs`` in the format of ``JournalFileBackend``."""
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
def _open_once(path: Path, _inode: int) -> JournalStorage:
    """Journal storage, kept for each process and file: reading 10,000 trials takes seconds."""
    try:
        return open_journal(path)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - Optuna raises many kinds for a line that is no record
        line = first_bad_line(path)
        raise DataError(describe_damage(path, line, "is no record of a trial")) from None


def open_journal(path: Path) -> JournalStorage:
    """Storage of the trials in one journal file, read from the start."""
    return JournalStorage(_Journal(path))


def check_trials(folder: RunFolder, url: str | None = None) -> int:
    """Check the trials of a run against their hashes.

    Returns:
        Number of ended trials of an earlier version, which have no hash.

    Raises:
        DataError: a trial is not the one that was kept; a journal's line is named.
    """
    _open_once.cache_clear()  # a file that was put in the journal's place may have its number
    storage = open_trials(folder, url)
    bare = 0
    for name in _study_names(storage, folder, url):
        study = optuna.load_study(study_name=name, storage=storage)
        sealed = bool(study.user_attrs.get(SEALED))
        whole = sealed and url is None  # a database may hold a trial that an addition left
        trials = _trials(study) if whole else _ended_trials(study)
        try:
            bare += check_seals(name, _without_copies(trials), sealed=sealed)
        except ChangedTrial as changed:
            found = f"holds trial {changed.number} of {name}, which is not the one that was kept"
            if url is not None:
                raise DataError(
                    f"--storage {without_password(url)}: it {found}; restore the database from a "
                    "backup, or give another --run"
                ) from None
            study_id = storage.get_study_id_from_name(name)
            line = line_of_trial(folder.journal, study_id, changed.number)
            raise DataError(describe_damage(folder.journal, line, found)) from None
    return bare


def discard_interrupted(folder: RunFolder, url: str | None = None) -> dict[str, int]:
    """Remove trials of this run that never ended from the storage; return their number by study.

    An interrupted trial has no result, but its epochs would affect the pruner, and its number the
    seeds. Without it the study continues exactly as if it had not been interrupted. Of a trial
    that was added twice, the second copy is also removed: if a server restarts before it confirms
    an addition, the trial is sent again. A second interruption loses nothing: a new journal is
    written beside the old one and then renamed; in a database the study is first copied under
    another name.
    """
    storage = open_trials(folder, url)
    if url is not None:
        _finish_replacements(storage, _study_names(storage, folder, url))
    studies = {
        name: optuna.load_study(study_name=name, storage=storage)
        for name in _study_names(storage, folder, url)
    }
    stale = {
        name: len(_trials(study)) - len(_ended_trials(study)) for name, study in studies.items()
    }
    found = {name: count for name, count in stale.items() if count}
    if found and url is None:
        _rewrite_journal(folder.journal, list(studies.values()))
    elif found:
        for name in found:
            _replace_study(storage, studies[name])
    return found


def study_name(folder: RunFolder, study: str, url: str | None = None) -> str:
    """Name of a study in the storage: ``outer-0`` in a journal, which holds one run only.

    In a database, which may hold other runs, it is ``RUN/outer-0``. A trial's own view of the
    study has the short name, because Hyperband derives its brackets from it and the kind of
    storage must not change a result.
    """
    return study if url is None else f"{folder.name}/{study}"


def load_studies(
    storage: BaseStorage, folder: RunFolder, names: Iterable[str], url: str | None = None
) -> dict[str, optuna.Study]:
    """Studies of a run that the storage has, by their short names.

    Args:
        storage: the opened storage.
        folder: the run directory.
        names: short names of the run's studies; those that have not begun are left out.
        url: URL of the database that ``storage`` is; None for the run's journal.
    """
    known = set(optuna.get_all_study_names(storage=storage))
    full = {name: study_name(folder, name, url) for name in names}
    return {
        name: optuna.load_study(study_name=stored, storage=storage)
        for name, stored in full.items()
        if stored in known
    }


def _study_names(storage: BaseStorage, folder: RunFolder, url: str | None) -> list[str]:
    names = optuna.get_all_study_names(storage=storage)
    return [name for name in names if name.startswith(study_name(folder, "", url))]


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, as the storage holds them; a copy of 10,000 takes a second."""
    return study.get_trials(deepcopy=False)


def _ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, without the second of two equal ones."""
    return _without_copies([t for t in _trials(study) if t.state.is_finished()])


def _without_copies(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [t for i, t in enumerate(trials) if i == 0 or not _are_equal(t, trials[i - 1])]


def _are_equal(one: FrozenTrial, other: FrozenTrial) -> bool:
    # Two different trials never begin and end at the same microsecond.
    when = (one.datetime_start, one.datetime_complete)
    return when == (other.datetime_start, other.datetime_complete) and one.params == other.params


def _copy_study(study: optuna.Study, storage: BaseStorage, name: str) -> None:
    fresh = optuna.create_study(study_name=name, storage=storage, direction=study.direction)
    for key, value in study.user_attrs.items():
        if key != WHOLE:
            fresh.set_user_attr(key, value)
    fresh.add_trials(_ended_trials(study))


def _rewrite_journal(journal: Path, studies: list[optuna.Study]) -> None:
    aside = journal.with_name(f"{journal.name}.rewritten")
    aside.unlink(missing_ok=True)
    remove_lock(aside)
    storage = open_journal(aside)
    for study in studies:
        _copy_study(study, storage, study.study_name)
    aside.replace(journal)
    sync_folder(journal.parent)


WHOLE = "whole"
"""Attribute that marks a study's copy in a database as complete."""


def _replace_study(storage: BaseStorage, study: optuna.Study) -> None:
    name = study.study_name
    _copy_study(study, storage, name + KEPT)
    optuna.load_study(study_name=name + KEPT, storage=storage).set_user_attr(WHOLE, True)
    _finish_replacements(storage, [name, name + KEPT])


def _finish_replacements(storage: BaseStorage, names: list[str]) -> None:
    """Finish replacements whose copy is complete; undo those whose copy is not."""
    for kept in (name for name in names if name.endswith(KEPT)):
        copy = optuna.load_study(study_name=kept, storage=storage)
        name = kept.removesuffix(KEPT)
        if copy.user_attrs.get(WHOLE):
            if name in names:
                optuna.delete_study(study_name=name, storage=storage)
            _copy_study(copy, storage, name)
        optuna.delete_study(study_name=kept, storage=storage)
