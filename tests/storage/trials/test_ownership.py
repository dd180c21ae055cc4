"""One run owns its trials, and one command drives it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import InMemoryStorage

from outerfold.storage.cache.files import read_json
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.ownership import (
    DRIVER,
    JOURNAL,
    OWNER_FILE,
    RUN,
    become_driver,
    claim_run,
    kept_storage,
    refuse_former_driver,
)

URL = "postgresql://user:secret@host/db"


def with_study(name: str, run: str | None) -> InMemoryStorage:
    storage = InMemoryStorage()
    study = optuna.create_study(study_name=name, storage=storage)
    if run is not None:
        study.set_user_attr(RUN, run)
    return storage


@pytest.mark.parametrize(
    ("url", "where"), [(None, JOURNAL), (URL, "postgresql://user:***@host/db")]
)
def test_a_run_keeps_its_id_and_where_its_trials_are(
    folder: RunFolder, url: str | None, where: str
) -> None:
    run = claim_run(folder, InMemoryStorage(), url)
    assert read_json(folder.path / OWNER_FILE) == {RUN: run, "storage": where}
    assert kept_storage(folder) == where
    assert claim_run(folder, InMemoryStorage(), url) == run
    assert read_json(folder.path / OWNER_FILE) == {RUN: run, "storage": where}


def test_two_runs_have_two_ids(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = RunFolder(tmp_path / "other")
    assert claim_run(folder, InMemoryStorage(), None) != claim_run(other, InMemoryStorage(), None)


@pytest.mark.parametrize(("first", "then"), [(None, URL), (URL, None)])
def test_trials_stay_in_the_kind_of_storage_where_they_are(
    folder: RunFolder, first: str | None, then: str | None
) -> None:
    claim_run(folder, InMemoryStorage(), first)
    with pytest.raises(DataError, match=r"its trials are kept in .*; give --storage as before"):
        claim_run(folder, InMemoryStorage(), then)


def test_a_journal_of_an_earlier_version_is_the_runs_storage(folder: RunFolder) -> None:
    assert kept_storage(folder) == JOURNAL
    folder.journal.touch()
    with pytest.raises(DataError, match=r"are kept in trials\.journal, but --storage now names"):
        claim_run(folder, InMemoryStorage(), URL)
    assert not (folder.path / OWNER_FILE).exists()
    run = claim_run(folder, InMemoryStorage(), None)
    assert read_json(folder.path / OWNER_FILE) == {RUN: run, "storage": JOURNAL}


def test_studies_of_another_run_of_this_name_are_refused(folder: RunFolder) -> None:
    storage = with_study("run/outer-0", "another")
    with pytest.raises(DataError, match=r"holds the study run/outer-0 of another run") as found:
        claim_run(folder, storage, URL)
    assert "secret" not in str(found.value)
    assert not (folder.path / OWNER_FILE).exists()
    claim_run(folder, with_study("run-2/outer-0", "another"), URL)
    claim_run(folder, with_study("run/outer-0", None), URL)  # not yet marked: its own
    own = kept = claim_run(folder, InMemoryStorage(), URL)
    assert claim_run(folder, with_study("run/outer-0", own), URL) == kept


def test_a_journal_holds_one_run_only(folder: RunFolder) -> None:
    claim_run(folder, with_study("outer-0", "another"), None)


def test_the_last_command_drives_the_run(folder: RunFolder) -> None:
    first = become_driver(folder)
    refuse_former_driver(folder, first)
    second = become_driver(folder)
    assert (folder.path / DRIVER).read_text() == second != first
    refuse_former_driver(folder, second)
    refuse_former_driver(folder, "")  # a job of no driver
    with pytest.raises(DataError, match="another command has taken over"):
        refuse_former_driver(folder, first)
