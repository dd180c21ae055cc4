"""Id of the run that owns trials, and the token of its driver, both kept in the run directory."""

from __future__ import annotations

import uuid

import optuna
from optuna.storages import BaseStorage

from outerfold.storage.cache.files import read_json, write_json, write_text
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.database import without_password
from outerfold.storage.trials.journal import study_name

OWNER_FILE, DRIVER = "storage.json", "driver"
RUN = "run"
"""Attribute of a study in a database: the id of its run."""
JOURNAL = "trials.journal"


def claim_run(folder: RunFolder, storage: BaseStorage, url: str | None) -> str:
    """Return the id of a run, made and kept at the first call; its studies in a database carry it.

    Args:
        folder: the run directory.
        storage: the opened storage of the trials.
        url: URL of the database; None for the journal file.

    Raises:
        DataError: the run keeps its trials in the other kind of storage, or the database holds
            studies of another run of this name.
    """
    where = JOURNAL if url is None else without_password(url)
    kept = _read_owner(folder)
    if kept and (kept["storage"] == JOURNAL) != (url is None):
        raise DataError(
            f"--run {folder.path}: its trials are kept in {kept['storage']}, but --storage now "
            f"names {where}; give --storage as before, or another --run"
        )
    run = kept[RUN] if kept else uuid.uuid4().hex
    if url is not None:
        _refuse_other_runs(folder, storage, url, run)
    if not (folder.path / OWNER_FILE).exists():
        write_json(folder.path / OWNER_FILE, {RUN: run, "storage": where})
    return run


def kept_storage(folder: RunFolder) -> str:
    """Where the trials of a run are: ``trials.journal``, or a database's URL without password."""
    return _read_owner(folder).get("storage", JOURNAL)


def _read_owner(folder: RunFolder) -> dict[str, str]:
    if (folder.path / OWNER_FILE).exists():
        kept: dict[str, str] = read_json(folder.path / OWNER_FILE)
        return kept
    return {RUN: uuid.uuid4().hex, "storage": JOURNAL} if folder.journal.exists() else {}


def _refuse_other_runs(folder: RunFolder, storage: BaseStorage, url: str, run: str) -> None:
    for name in optuna.get_all_study_names(storage=storage):
        if not name.startswith(study_name(folder, "", url)):
            continue
        owner = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(RUN, run)
        if owner != run:
            raise DataError(
                f"--run {folder.path}: {without_password(url)} holds the study {name} of another "
                "run whose folder has the same name; give this run another name"
            )


def become_driver(folder: RunFolder) -> str:
    """Make the caller the only driver of a run; return the token that its jobs carry."""
    token = uuid.uuid4().hex
    write_text(folder.path / DRIVER, token)
    return token


def refuse_former_driver(folder: RunFolder, token: str) -> None:
    """Refuse a job whose driver has been replaced by another one.

    Args:
        folder: the run directory.
        token: token of the job's driver; "" is never refused.

    Raises:
        DataError: another driver has taken over the run.
    """
    if token and (folder.path / DRIVER).read_text(encoding="utf-8") != token:
        raise DataError(
            f"--run {folder.path}: another command has taken over; this job's result is not used"
        )
