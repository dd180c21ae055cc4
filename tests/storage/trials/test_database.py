"""Trials in a database: what an interruption leaves there is finished, undone or refused.

Runs refuse SQLite, which stands in here for a server: it has one writer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials import journal as module
from outerfold.storage.trials.journal import (
    WHOLE,
    check_trials,
    discard_interrupted,
    keep_trial,
    open_trials,
)
from outerfold.storage.trials.seals import KEPT, SEALED
from tests.storage.trials.test_journal import ended, told

URL = "postgresql://user:secret@host/db"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RDBStorage:
    found = RDBStorage(f"sqlite:///{tmp_path}/trials.db")
    monkeypatch.setattr(module, "open_trials", lambda folder, url=None, **_: found)
    return found


def names(storage: RDBStorage) -> list[str]:
    return sorted(optuna.get_all_study_names(storage=storage))


def begin(storage: RDBStorage, name: str, trials: int = 2) -> optuna.Study:
    """A study with ended trials, each with its hash."""
    made = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    made.set_user_attr(SEALED, True)
    for number in range(trials):
        keep_trial(made, ended(number, 0.5 + number / 10))
    return made


def load(storage: RDBStorage, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage)


def test_interrupted_trials_of_this_run_go_and_those_of_another_stay(
    folder: RunFolder, storage: RDBStorage
) -> None:
    mine, other = begin(storage, "run/outer-0"), begin(storage, "run/outer-1")
    stranger = begin(storage, "another/outer-0")
    before = told(mine.get_trials()), told(other.get_trials())
    mine.ask()
    stranger.ask()
    mine.set_user_attr("run", "id")
    assert discard_interrupted(folder, URL) == {"run/outer-0": 1}
    assert names(storage) == ["another/outer-0", "run/outer-0", "run/outer-1"]
    after = load(storage, "run/outer-0")
    assert (told(after.get_trials()), told(other.get_trials())) == before
    assert after.user_attrs == {SEALED: True, "run": "id"}
    assert after.direction == optuna.study.StudyDirection.MAXIMIZE
    assert len(stranger.get_trials()) == 3
    assert check_trials(folder, URL) == 0
    assert discard_interrupted(folder, URL) == {}


@pytest.mark.parametrize("original", ["whole", "gone"])
def test_a_replacement_that_was_interrupted_after_its_copy_is_finished(
    folder: RunFolder, storage: RDBStorage, original: str
) -> None:
    kept = begin(storage, "run/outer-0" + KEPT)
    kept.set_user_attr(WHOLE, True)
    if original == "whole":
        begin(storage, "run/outer-0").ask()
    expected = told(kept.get_trials())
    assert discard_interrupted(folder, URL) == {}
    assert names(storage) == ["run/outer-0"]
    after = load(storage, "run/outer-0")
    assert told(after.get_trials()) == expected
    assert WHOLE not in after.user_attrs
    assert after.user_attrs[SEALED] is True


def test_a_replacement_that_was_interrupted_within_its_copy_is_undone(
    folder: RunFolder, storage: RDBStorage
) -> None:
    begin(storage, "run/outer-0" + KEPT, trials=1)
    original = begin(storage, "run/outer-0")
    before = told(original.get_trials())
    assert discard_interrupted(folder, URL) == {}
    assert names(storage) == ["run/outer-0"]
    assert told(load(storage, "run/outer-0").get_trials()) == before


def test_a_trial_that_was_added_twice_is_removed_once(
    folder: RunFolder, storage: RDBStorage
) -> None:
    study = begin(storage, "run/outer-0")
    study.add_trial(study.get_trials()[-1])
    assert discard_interrupted(folder, URL) == {"run/outer-0": 1}
    assert [trial.value for trial in load(storage, "run/outer-0").get_trials()] == [0.5, 0.6]


def test_equal_times_of_other_parameters_are_other_trials(
    folder: RunFolder, storage: RDBStorage
) -> None:
    study = begin(storage, "run/outer-0", trials=1)
    (first,) = study.get_trials()
    first.params = {"height": 0.25}
    study.add_trial(first)
    assert discard_interrupted(folder, URL) == {}
    assert len(study.get_trials()) == 2


def test_a_running_trial_in_a_database_is_no_change_and_a_changed_one_is(
    folder: RunFolder, storage: RDBStorage
) -> None:
    study = begin(storage, "run/outer-0")
    study.ask()
    assert check_trials(folder, URL) == 0
    changed = begin(storage, "run/outer-1", trials=1)
    alien = ended(1, 0.75)
    alien.system_attrs = {"outerfold:sha256": "0" * 64}
    changed.add_trial(alien)
    with pytest.raises(DataError, match=r"holds trial 1 of run/outer-1, which is not the") as found:
        check_trials(folder, URL)
    assert "secret" not in str(found.value)
    assert "restore the database" in str(found.value)


def test_trials_of_an_earlier_version_are_counted(folder: RunFolder, storage: RDBStorage) -> None:
    for name in ("run/outer-0", "run/outer-1"):
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
        for number in range(3):
            study.add_trial(ended(number, 0.5))
    assert check_trials(folder, URL) == 6


def test_a_running_trial_in_a_journal_is_a_change(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_trials", open_trials)
    study = optuna.create_study(study_name="outer-0", storage=open_trials(folder))
    study.set_user_attr(SEALED, True)
    keep_trial(study, ended(0))
    assert check_trials(folder) == 0
    study.ask()
    with pytest.raises(DataError, match="holds trial 1 of outer-0"):
        check_trials(folder)


def test_a_dropped_connection_is_found_before_its_use(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "RDBStorage", lambda *a, **k: asked.append((a, k)))
    open_trials(folder, URL)
    assert asked == [((URL,), {"engine_kwargs": {"pool_pre_ping": True}})]


def test_the_states_of_kept_trials_are_those_that_ended(
    folder: RunFolder, storage: RDBStorage
) -> None:
    study = begin(storage, "run/outer-0")
    study.tell(study.ask(), state=TrialState.FAIL)
    study.ask()
    discard_interrupted(folder, URL)
    states = [trial.state for trial in load(storage, "run/outer-0").get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
