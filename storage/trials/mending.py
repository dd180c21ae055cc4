"""Damage of a journal: a torn last line is cut off; any other is named with its line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from outerfold.storage.errors import DataError

CREATES_TRIAL = 4
"""Optuna's code of a record that adds a trial."""


def remove_lock(journal: Path) -> None:
    """Remove the lock that a killed writer left; only the owner of the run directory may do so."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)


def repair_journal(journal: Path) -> Path | None:
    """Cut an incomplete last line off a journal; return the backup, or None if none was cut.

    A line that a power loss cut short makes every later load fail. It is safe to remove, since
    nothing was done because of it.

    Raises:
        DataError: an earlier line is incomplete, which is damage of another kind.
    """
    if not journal.exists():
        return None
    lines = journal.read_bytes().splitlines(keepends=True)
    broken = [i for i, line in enumerate(lines) if _parse(line) is None]
    if not broken:
        return None
    if broken[0] != len(lines) - 1:
        reason = "is not a journal entry; it is not the last line, so this is no interrupted write"
        raise DataError(describe_damage(journal, broken[0] + 1, reason))
    backup = journal.with_name(f"{journal.name}.torn-{len(lines)}")
    shutil.copy2(journal, backup)
    with journal.open("rb+") as file:
        file.truncate(sum(len(line) for line in lines[:-1]))
        os.fsync(file.fileno())
    return backup


def describe_damage(journal: Path, line: int, reason: str) -> str:
    """Sentence on a damaged line of a journal, and the way on.

    Args:
        journal: path of the journal.
        line: number of the line, from 1.
        reason: what is wrong, as a clause.
    """
    count = len(journal.read_bytes().splitlines())
    name = shlex.quote(str(journal))
    kept = shlex.quote(f"{journal}.before-{line}")
    return (
        f"{journal}: line {line} of {count} {reason}: restore the file from a backup, or give "
        f"`head -n {line - 1} {name} > {kept} && mv {kept} {name}` and the run's command again, "
        "which runs the trials of the later lines anew"
    )


def first_bad_line(journal: Path) -> int:
    """Number, from 1, of the first line of a journal that Optuna cannot take."""
    records: list[dict[str, Any]] = []
    lines = journal.read_bytes().splitlines(keepends=True)
    for line in lines:
        record = _parse(line)
        if record is None:
            break
        records.append(record)
    if _is_readable(records):
        return min(len(records) + 1, len(lines))
    good, bad = 0, len(records)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _is_readable(records[:middle]):
            good = middle
        else:
            bad = middle
    return bad


def line_of_trial(journal: Path, study: int, number: int) -> int:
    """Number of the line, from 1, that added a trial; 1 if none did.

    Args:
        journal: path of the journal.
        study: id of the study.
        number: number of the trial.
    """
    seen = 0
    for at, line in enumerate(journal.read_bytes().splitlines(keepends=True), 1):
        record = _parse(line) or {}
        if (record.get("op_code"), record.get("study_id")) != (CREATES_TRIAL, study):
            continue
        if seen == number:
            return at
        seen += 1
    return 1


class _Records(BaseJournalBackend):
    """Journal in memory that is only read."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Records from a number on."""
        return self.records[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse to write.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError


def _is_readable(records: list[dict[str, Any]]) -> bool:
    try:
        JournalStorage(_Records(records))
    except Exception:  # noqa: BLE001 - Optuna raises many kinds for what is no record
        return False
    return True


def _parse(line: bytes) -> dict[str, Any] | None:
    """Record of a line; None where it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and isinstance(record.get("op_code"), int)
    return record if whole else None
