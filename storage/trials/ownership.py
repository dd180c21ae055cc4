"""Whose trials are whose, and who works on a run now: what a run directory says of both."""

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
"""Attribute of a study in a database: the run it belongs to."""
JOURNAL = "trials.journal"


def claim(folder: RunFolder, storage: BaseStorage, url: str | None) -> str:
    """The id of a run; studies in a database are its own where they carry it.

    Raises:
        DataError: the run was started with its trials elsewhere, or the database holds studies of
            another run of this name.
    """
    where = JOURNAL if url is None else without_password(url)
    kept = _kept(folder)
    if kept and (kept["storage"] == JOURNAL) != (url is None):
        raise DataError(
            f"--run {folder.path}: its trials are kept in {kept['storage']}, and --storage now "
            f"says {where}; give --storage as before, or another --run"
        )
    run = kept[RUN] if kept else uuid.uuid4().hex
    if url is not None:
        _refuse_strangers(folder, storage, url, run)
    if not (folder.path / OWNER_FILE).exists():
        write_json(folder.path / OWNER_FILE, {RUN: run, "storage": where})
    return run


def _kept(folder: RunFolder) -> dict[str, str]:
    if (folder.path / OWNER_FILE).exists():
        kept: dict[str, str] = read_json(folder.path / OWNER_FILE)
        return kept
    return {RUN: uuid.uuid4().hex, "storage": JOURNAL} if folder.journal.exists() else {}


def _refuse_strangers(folder: RunFolder, storage: BaseStorage, url: str, run: str) -> None:
    for name in optuna.get_all_study_names(storage=storage):
        if not name.startswith(study_name(folder, "", url)):
            continue
        owner = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get(RUN, run)
        if owner != run:
            raise DataError(
                f"--run {folder.path}: {without_password(url)} holds the study {name} of another "
                "run whose folder has the same name; name this one otherwise"
            )


def take_over(folder: RunFolder) -> str:
    """Make the caller the one driver of a run; returns the token that its jobs carry."""
    token = uuid.uuid4().hex
    write_text(folder.path / DRIVER, token)
    return token


def refuse_a_former_driver(folder: RunFolder, token: str) -> None:
    """``DataError`` where a job's driver has been followed by another; "" is of none."""
    if token and (folder.path / DRIVER).read_text(encoding="utf-8") != token:
        raise DataError(f"--run {folder.path}: another command has taken over; this job is void")
