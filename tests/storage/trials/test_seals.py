"""A damaged journal is read as before the damage, or refused with its line; never otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pytest

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import check_trials, keep_trial, open_trials
from outerfold.storage.trials.mending import repair_journal
from outerfold.storage.trials.seals import (
    KEPT,
    SEAL,
    SEALED,
    ChangedTrial,
    check_seals,
    hash_trial,
    seal,
)
from tests.storage.trials.test_journal import ended

TRIALS = 4
DAMAGED = 120
WAY_ON = re.compile(r"line \d+ of \d+ .*: restore the file from a backup, or give `head -n \d+ ")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Journal of two studies, as a driver writes it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return write_journal(RunFolder(tmp_path_factory.mktemp("whole"))).read_bytes()


def write_journal(folder: RunFolder, *, marked: bool = True) -> Path:
    for name in ("outer-0", "outer-1"):
        study = optuna.create_study(study_name=name, storage=open_trials(folder))
        if marked:
            study.set_user_attr(SEALED, True)
        own = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        for number in range(TRIALS):
            trial = own.ask()
            score = trial.suggest_float("rate", 0, 1) + len(trial.suggest_categorical("s", "ab"))
            for epoch in (1, 2):
                trial.report(score / epoch, epoch)
            trial.set_user_attr("fold_scores", [0.1 + 0.2, score])
            state = optuna.trial.TrialState.PRUNED if number == 1 else None
            keep_trial(study, own.tell(trial, None if state else score, state=state))
    return folder.journal


def read(folder: RunFolder) -> dict[str, list[str]]:
    """What a search reads of each trial, by study."""
    storage = open_trials(folder)
    return {
        study.study_name: [
            repr(
                (t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs)
            )
            for t in storage.get_all_trials(study._study_id)
        ]
        for study in storage.get_all_studies()
    }


def opened(tmp_path: Path, contents: bytes) -> dict[str, list[str]]:
    """Trials of a journal with these contents, as a resumed run finds them."""
    folder = RunFolder(tmp_path)
    folder.journal.unlink(missing_ok=True)
    folder.journal.write_bytes(contents)
    repair_journal(folder.journal)
    check_trials(folder)
    return read(folder)


def damage(whole: bytes, seed: int) -> bytes:
    """The journal with one fault of one of seven kinds."""
    rng, lines = np.random.default_rng(seed), whole.splitlines(keepends=True)
    at, place = int(rng.integers(len(lines))), int(rng.integers(len(whole)))
    kinds = [
        lambda: whole[:place],
        lambda: whole[:place] + bytes(50) + whole[place + 50 :],
        lambda: (
            whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :]
        ),
        lambda: b"".join([*lines[:at], b'{"op_code": 4, "worker_id": "x"}\n', *lines[at:]]),
        lambda: b"".join([*lines[:at], b"garbage\n", *lines[at:]]),
        lambda: b"".join([*lines[:at], *lines[at + 1 :]]),
        lambda: swap_digit(whole, rng),
    ]
    return kinds[seed % len(kinds)]()


def swap_digit(whole: bytes, rng: np.random.Generator) -> bytes:
    digits = [at for at, byte in enumerate(whole) if chr(byte).isdigit()]
    at = digits[int(rng.integers(len(digits)))]
    other = (whole[at] - ord("0") + int(rng.integers(1, 10))) % 10
    return whole[:at] + str(other).encode() + whole[at + 1 :]


def test_a_damaged_journal_goes_on_identically_or_is_refused_with_its_line(
    tmp_path: Path, whole: bytes
) -> None:
    before = opened(tmp_path, whole)
    refused = same = 0
    for seed in range(DAMAGED):
        try:
            found = opened(tmp_path, damage(whole, seed))
        except DataError as error:
            refused += bool(WAY_ON.search(str(error)))
            continue
        same += 1
        for name, trials in before.items():  # missing last trials are run anew
            there = found.get(name, [])
            assert there == trials[: len(there)], seed
    assert refused + same == DAMAGED
    assert min(refused, same) > DAMAGED // 5


def test_a_changed_digit_of_a_score_is_refused_and_the_way_on_works(
    tmp_path: Path, whole: bytes
) -> None:
    lines = whole.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if json.loads(line).get("state") == 2)
    record = json.loads(lines[at])
    record["intermediate_values"]["2"] += 1e-9
    lines[at] = json.dumps(record).encode() + b"\n"
    with pytest.raises(DataError, match=rf"line {at + 1} of {len(lines)} holds trial 1 of outer-0"):
        opened(tmp_path, b"".join(lines))
    left = opened(tmp_path, b"".join(lines[:at]))
    assert len(left["outer-0"]) == 1


def test_trials_of_an_earlier_version_are_read_and_counted(tmp_path: Path, whole: bytes) -> None:
    lines = [json.loads(line) for line in write_journal(RunFolder(tmp_path), marked=False).open()]
    for number, record in enumerate(r for r in lines if r["op_code"] == 4 and r["study_id"] == 0):
        if number < 2:
            del record["system_attrs"][SEAL]
    older = "".join(json.dumps(record) + "\n" for record in lines).encode()
    assert opened(tmp_path, older) == opened(tmp_path, whole)
    opened(tmp_path, older)
    assert check_trials(RunFolder(tmp_path)) == 2
    late = next(r for r in reversed(lines) if r["op_code"] == 4)
    del late["system_attrs"][SEAL]  # one without a hash after one with it is no earlier version's
    with pytest.raises(DataError, match="holds trial 3 of outer-1, which is not the one"):
        opened(tmp_path, "".join(json.dumps(record) + "\n" for record in lines).encode())


def test_a_study_that_was_deleted_while_the_run_went_on_is_one_sentence(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="outer-0", storage=open_trials(RunFolder(tmp_path)))
    trial = optuna.trial.create_trial(value=0.5)
    optuna.delete_study(study_name="outer-0", storage=study._storage)
    with pytest.raises(DataError, match="outer-0: the study was deleted from the trial storage"):
        keep_trial(study, trial)


def test_the_hash_depends_on_the_study_and_not_on_the_order_of_names() -> None:
    one, other = ended(0), ended(0)
    one.user_attrs, other.user_attrs = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert hash_trial("outer-0", one, 0) == hash_trial("outer-0", other, 0)
    for same in ("run/outer-0", "a/run/outer-0", "run/outer-0" + KEPT):
        assert hash_trial(same, one, 0) == hash_trial("outer-0", one, 0)
    assert hash_trial("outer-1", one, 0) != hash_trial("outer-0", one, 0)
    assert hash_trial("outer-0", one, 1) != hash_trial("outer-0", one, 0)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_trial_from_the_first_with_a_hash_on_is_checked(at: int) -> None:
    bare, sealed = ended(0), [seal("outer-0", ended(number)) for number in (1, 2)]
    trials = [bare, *sealed]
    assert check_seals("outer-0", trials, sealed=False) == 1
    trials[at].values = [0.125]
    if at == 0:  # of an earlier version
        assert check_seals("outer-0", trials, sealed=False) == 1
    else:
        with pytest.raises(ChangedTrial) as found:
            check_seals("outer-0", trials, sealed=False)
        assert found.value.number == at
    with pytest.raises(ChangedTrial) as found:
        check_seals("outer-0", trials, sealed=True)
    assert found.value.number == 0
    whole = [seal("outer-0", ended(number)) for number in (0, 1)]
    assert check_seals("outer-0", whole, sealed=True) == 0
