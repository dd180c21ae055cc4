"""Which line of a damaged journal is named, and that the way on keeps what lies before it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import optuna
import pytest

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import keep_trial, open_trials
from outerfold.storage.trials.mending import (
    CREATES_TRIAL,
    describe_damage,
    first_bad_line,
    line_of_trial,
    repair_journal,
)
from tests.storage.trials.test_journal import ended


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """A journal of two studies with three trials each, kept in turn."""
    folder = RunFolder(tmp_path / "whole")
    folder.path.mkdir()
    studies = [
        optuna.create_study(study_name=f"outer-{at}", storage=open_trials(folder)) for at in (0, 1)
    ]
    for number in range(3):
        for study in studies:
            keep_trial(study, ended(number))
    return folder.journal.read_bytes().splitlines(keepends=True)


def written(tmp_path: Path, lines: list[bytes]) -> Path:
    path = tmp_path / "a b.journal"
    path.write_bytes(b"".join(lines))
    return path


def test_the_first_bad_line_is_the_one_that_optuna_cannot_take(
    tmp_path: Path, lines: list[bytes]
) -> None:
    alien = b'{"op_code": 4, "worker_id": "x"}\n'
    for at in range(len(lines)):
        for bad in (alien, b"garbage\n", b"[1]\n", b'{"op_code": "4"}\n', bytes(9) + b"\n"):
            damaged = [*lines[:at], bad, *lines[at:]]
            assert first_bad_line(written(tmp_path, damaged)) == at + 1, (at, bad)
    torn = [*lines[:-1], lines[-1][:-1]]
    assert first_bad_line(written(tmp_path, torn)) == len(lines)
    assert first_bad_line(written(tmp_path, lines)) == len(lines)  # no line is bad
    deep = b"[" * 100_000 + b"\n"
    assert first_bad_line(written(tmp_path, [*lines[:2], deep, *lines[2:]])) == 3


def test_of_two_bad_lines_the_first_is_named(tmp_path: Path, lines: list[bytes]) -> None:
    alien = b'{"op_code": 4, "worker_id": "x"}\n'
    for first in range(1, len(lines)):
        damaged = [*lines[:first], alien, *lines[first:], alien, b"garbage\n"]
        assert first_bad_line(written(tmp_path, damaged)) == first + 1


def test_the_line_of_a_trial_is_the_one_that_added_it(tmp_path: Path, lines: list[bytes]) -> None:
    path = written(tmp_path, [lines[0], b"garbage\n", *lines[1:]])
    records = [json.loads(line) if b"{" in line else {} for line in path.read_bytes().splitlines()]
    for study in (0, 1):
        own = [
            at
            for at, record in enumerate(records, 1)
            if record.get("op_code") == CREATES_TRIAL and record["study_id"] == study
        ]
        assert [line_of_trial(path, study, number) for number in range(3)] == own
        assert len(own) == 3
        assert line_of_trial(path, study, 3) == 1
    assert line_of_trial(path, 7, 0) == 1


def test_the_way_on_keeps_the_lines_before(tmp_path: Path, lines: list[bytes]) -> None:
    path = written(tmp_path, lines)
    text = describe_damage(path, 4, "is odd")
    assert text.startswith(f"{path}: line 4 of {len(lines)} is odd: restore the file")
    subprocess.run(text.split("`")[1], shell=True, check=True)
    assert path.read_bytes() == b"".join(lines[:3])


def test_a_torn_end_alone_is_cut_off(tmp_path: Path, lines: list[bytes]) -> None:
    path = written(tmp_path, [*lines, lines[0][:9]])
    backup = repair_journal(path)
    assert backup == path.with_name(f"a b.journal.torn-{len(lines) + 1}")
    assert backup is not None
    assert backup.read_bytes() == b"".join([*lines, lines[0][:9]])
    assert path.read_bytes() == b"".join(lines)
    assert repair_journal(path) is None
    assert repair_journal(tmp_path / "none") is None
    with pytest.raises(DataError, match=r"line 2 of \d+ is not a journal entry; it is not the"):
        repair_journal(written(tmp_path, [lines[0], b"garbage\n", *lines[1:]]))
    with pytest.raises(DataError, match=r"line 2 of \d+ is not a journal entry; it is not the"):
        repair_journal(written(tmp_path, [lines[0], b"garbage\n", *lines[1:], b"torn"]))
