"""Trials outlive crashes: a torn line is cut, an interrupted trial is as if it had never been."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from outerfold.objectives.pruning import PRUNERS
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.seeds import derive_seed
from outerfold.storage.trials.journal import (
    _without_copies,
    discard_interrupted,
    keep_trial,
    load_studies,
    open_trials,
)
from outerfold.storage.trials.mending import remove_lock, repair_journal

EPOCHS = 12


def study(
    folder: RunFolder, name: str = "outer-0", *, number: int = 0, direction: str = "maximize"
) -> optuna.Study:
    """A study as a worker opens it for trial ``number``."""
    seed = derive_seed(7, name, number) % 2**32
    return optuna.create_study(
        study_name=name,
        storage=open_trials(folder),
        load_if_exists=True,
        direction=direction,
        pruner=PRUNERS["halving"](EPOCHS),
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=3),
    )


def run_trial(folder: RunFolder, name: str, number: int, *, killed: bool = False) -> None:
    """One trial as a worker runs it; killed, it has reported and looked at its pruner."""
    of = study(folder, name, number=number)
    trial = of.ask()
    assert trial.number == number
    height = trial.suggest_float("height", 0, 1)
    kind = trial.suggest_categorical("kind", ["none", "over", "smote"])
    if number == 4:
        trial.set_user_attr("failure", "ValueError: five")
        of.tell(trial, state=TrialState.FAIL)
        return
    for epoch in range(1, EPOCHS + 1):
        trial.report(height - len(kind) / 100 + epoch / 1000, epoch)
        given_up = epoch < EPOCHS and trial.should_prune()
        if killed:
            return
        if given_up:
            of.tell(trial, state=TrialState.PRUNED)
            return
    trial.set_user_attr("epochs", EPOCHS)
    trial.set_user_attr("fold_scores", [0.1 + 0.2, height])
    of.tell(trial, height)


def told(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """All that a trial holds but the ids of a storage."""
    return [
        {
            "number": t.number,
            "state": t.state,
            "values": t.values,
            "params": t.params,
            "distributions": t.distributions,
            "user": t.user_attrs,
            "system": t.system_attrs,
            "epochs": t.intermediate_values,
            "start": t.datetime_start,
            "end": t.datetime_complete,
        }
        for t in trials
    ]


# -- opening ---------------------------------------------------------------------------------


def test_trials_are_kept_in_the_runs_journal(folder: RunFolder) -> None:
    run_trial(folder, "outer-0", 0)
    assert folder.journal.exists()
    assert len(study(folder).trials) == 1


def test_a_trial_waits_for_the_disk_only_where_it_begins_and_ends(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(folder)
    sizes, wait = [], os.fsync

    def noted(file: int) -> None:
        wait(file)
        sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", noted)
    run_trial(folder, "outer-0", 0)
    assert len(sizes) == 3, "the study is opened, the trial begins, the trial ends"
    assert sizes[-1] == folder.journal.stat().st_size, "the last wait covers every line"


def test_lines_are_as_optuna_writes_them(folder: RunFolder) -> None:
    run_trial(folder, "outer-0", 0)
    own = folder.journal.with_name("optunas")
    lines = [json.loads(line) for line in folder.journal.read_bytes().splitlines()]
    JournalFileBackend(str(own)).append_logs(lines)
    assert own.read_bytes() == folder.journal.read_bytes()
    assert any("intermediate_value" in line for line in lines)


@pytest.mark.parametrize("url", ["sqlite:///x.db", "sqlite+pysqlite:///x.db"])
def test_sqlite_is_refused(folder: RunFolder, url: str) -> None:
    with pytest.raises(DataError, match=r"SQLite can hand the same trial to two writers; leave"):
        open_trials(folder, url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://me:secret@localhost:1/x",
            r"--storage postgresql://me:\*\*\*@localhost:1/x: c",
        ),
        ("nonsense", r"--storage nonsense: cannot be opened \("),
    ],
)
def test_a_database_that_cannot_be_opened_is_refused_without_its_password(
    folder: RunFolder, url: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        open_trials(folder, url)
    assert "secret" not in str(refusal.value)


# -- torn lines ------------------------------------------------------------------------------


def journal_of(folder: RunFolder, trials: int = 3) -> list[bytes]:
    for number in range(trials):
        run_trial(folder, "outer-0", number)
    return folder.journal.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_torn_last_line_is_cut_off_and_a_backup_is_kept(folder: RunFolder, share: float) -> None:
    lines = journal_of(folder)
    last = lines[-1]
    torn = b"".join(lines[:-1]) + last[: max(1, int(share * len(last)))]
    folder.journal.write_bytes(torn)
    backup = repair_journal(folder.journal)
    assert backup is not None
    assert backup.read_bytes() == torn
    assert folder.journal.read_bytes() == b"".join(lines[:-1])
    assert len(study(folder).trials) == 3, "every load failed before"


def test_a_last_line_without_its_end_is_cut_off_even_where_it_can_be_read(
    folder: RunFolder,
) -> None:
    """The next writer would go on in the same line and make one broken entry of two."""
    lines = journal_of(folder)
    folder.journal.write_bytes(b"".join(lines)[:-1])
    assert repair_journal(folder.journal) is not None
    assert folder.journal.read_bytes() == b"".join(lines[:-1])


def test_zeros_that_a_power_loss_left_at_the_end_are_cut_off(folder: RunFolder) -> None:
    lines = journal_of(folder)
    folder.journal.write_bytes(b"".join(lines) + b"\0" * 300)
    assert repair_journal(folder.journal) is not None
    assert folder.journal.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("damage", [b"{\n", b"\0\0\0\n", b"\xff\xfe\n"])
def test_a_torn_line_in_the_middle_is_refused_and_left_alone(
    folder: RunFolder, damage: bytes
) -> None:
    lines = journal_of(folder)
    broken = b"".join([*lines[:4], damage, *lines[5:]])
    folder.journal.write_bytes(broken)
    with pytest.raises(
        DataError,
        match=rf"trials.journal: line 5 of {len(lines)} is not a journal entry; it is not the "
        r"last line, so this is no interrupted write: restore the file from a backup",
    ):
        repair_journal(folder.journal)
    assert folder.journal.read_bytes() == broken
    assert [path.name for path in folder.path.glob("*.torn*")] == []


def test_a_whole_journal_and_none_at_all_need_no_mending(folder: RunFolder) -> None:
    assert repair_journal(folder.journal) is None
    whole = b"".join(journal_of(folder))
    assert repair_journal(folder.journal) is None
    assert folder.journal.read_bytes() == whole


def test_a_lock_that_a_killed_writer_left_is_removed(folder: RunFolder) -> None:
    lock = folder.path / "trials.journal.lock"
    lock.write_text("")
    remove_lock(folder.journal)
    assert not lock.exists()
    run_trial(folder, "outer-0", 0)
    remove_lock(folder.journal)


# -- interrupted trials ----------------------------------------------------------------------


def test_interrupted_trials_go_and_ended_ones_stay_with_all_that_they_hold(
    folder: RunFolder,
) -> None:
    for name in ("outer-0", "outer-1", "final"):
        for number in range(8):
            run_trial(folder, name, number)
    run_trial(folder, "outer-0", 8, killed=True)
    run_trial(folder, "final", 8, killed=True)
    before = {
        name: told(study(folder, name).trials[:8]) for name in ("outer-0", "outer-1", "final")
    }
    states = [trial["state"] for trial in before["outer-0"]]
    assert {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL} <= set(states)
    assert any("completed_rung_0" in trial["system"] for trial in before["outer-0"])
    assert discard_interrupted(folder) == {"outer-0": 1, "final": 1}
    for name, trials in before.items():
        assert told(study(folder, name).trials) == trials
    assert discard_interrupted(folder) == {}


def test_a_study_goes_on_after_an_interrupted_trial_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    told_of = []
    for name, stops in (("whole", ()), ("stopped", (2, 5, 6))):
        (tmp_path / name / "run").mkdir(parents=True)
        folder = RunFolder(tmp_path / name / "run")
        for number in range(9):
            if number in stops:
                run_trial(folder, "outer-0", number, killed=True)
                discard_interrupted(folder)
            run_trial(folder, "outer-0", number)
        trials = told(study(folder).trials)
        told_of.append([{k: v for k, v in t.items() if k not in ("start", "end")} for t in trials])
    assert told_of[0] == told_of[1]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_rewritten_study_keeps_its_direction_also_without_a_trial(
    folder: RunFolder, direction: str
) -> None:
    study(folder, "outer-0", direction=direction)
    study(folder, "final", direction=direction).ask()
    assert discard_interrupted(folder) == {"final": 1}
    for name in ("outer-0", "final"):
        again = optuna.load_study(study_name=name, storage=open_trials(folder))
        assert again.direction.name.lower() == direction
        assert again.trials == []


def test_a_journal_without_interrupted_trials_is_left_as_it_is(folder: RunFolder) -> None:
    whole = b"".join(journal_of(folder))
    assert discard_interrupted(folder) == {}
    assert folder.journal.read_bytes() == whole


def test_a_rewriting_that_was_itself_interrupted_loses_nothing(folder: RunFolder) -> None:
    journal_of(folder)
    run_trial(folder, "outer-0", 3, killed=True)
    before = told(study(folder).trials[:3])
    (folder.path / "trials.journal.rewritten").write_bytes(b'{"op_code": 0, "worker')
    (folder.path / "trials.journal.rewritten.lock").write_text("")
    assert discard_interrupted(folder) == {"outer-0": 1}
    assert told(study(folder).trials) == before
    assert sorted(path.name for path in folder.path.iterdir()) == ["trials.journal"]


def test_an_enqueued_trial_that_no_one_began_goes_too(folder: RunFolder) -> None:
    journal_of(folder)
    study(folder).enqueue_trial({"height": 0.5})
    assert discard_interrupted(folder) == {"outer-0": 1}
    assert len(study(folder).trials) == 3


# -- adding ----------------------------------------------------------------------------------


def ended(number: int, height: float = 0.5, **changes: Any) -> FrozenTrial:
    """A complete trial as a worker hands it over."""
    made = optuna.trial.create_trial(
        params={"height": height},
        distributions={"height": optuna.distributions.FloatDistribution(0, 1)},
        intermediate_values={1: height / 2, 2: height},
        value=height,
    )
    made.number = number
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_trial_that_is_sent_twice_is_kept_once(folder: RunFolder) -> None:
    of = study(folder)
    for number in (0, 1, 1, 0):
        keep_trial(of, ended(number, 0.1 * (number + 1)))
    assert [trial.value for trial in of.get_trials()] == [0.1, 0.2]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": TrialState.PRUNED},
        {"params": {"height": 0.25}},
        {"intermediate_values": {1: 0.25, 2: 0.75}},
    ],
)
def test_another_trial_of_a_number_that_is_taken_is_refused(
    folder: RunFolder, changes: dict[str, Any]
) -> None:
    of = study(folder)
    keep_trial(of, ended(0))
    keep_trial(of, ended(1, 0.75))
    with pytest.raises(RuntimeError, match="trial 0 cannot follow the 2 trials"):
        keep_trial(of, ended(0, **changes))
    assert [trial.value for trial in of.get_trials()] == [0.5, 0.75]


def test_a_trial_whose_forerunner_is_missing_is_refused(folder: RunFolder) -> None:
    of = study(folder)
    keep_trial(of, ended(0))
    with pytest.raises(RuntimeError, match="trial 2 cannot follow the 1 trials that are kept"):
        keep_trial(of, ended(2))
    assert len(of.get_trials()) == 1


def test_two_trials_of_the_same_parameters_are_both_kept(folder: RunFolder) -> None:
    """Two failed draws may be alike; only what was sent twice is one trial."""
    of = study(folder)
    for number in (0, 1):
        keep_trial(of, ended(number))
    of.ask()
    assert discard_interrupted(folder) == {"outer-0": 1}
    assert [trial.value for trial in study(folder).get_trials()] == [0.5, 0.5]


def test_only_a_trial_right_after_its_equal_is_a_copy() -> None:
    one, other = ended(0), ended(1, 0.75)
    for kept, left in (
        ([one], [one]),
        ([one, one], [one]),
        ([one, other], [one, other]),
        ([one, one, other, other], [one, other]),
        ([one, other, one], [one, other, one]),
        ([], []),
    ):
        assert _without_copies(kept) == left


def test_studies_that_have_not_begun_are_left_out(folder: RunFolder) -> None:
    study(folder, "outer-1")
    found = load_studies(open_trials(folder), folder, ["outer-0", "outer-1", "final"])
    assert list(found) == ["outer-1"]
    assert found["outer-1"].study_name == "outer-1"
