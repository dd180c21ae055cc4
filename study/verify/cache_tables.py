"""Check of the tables of the cache that a run reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from outerfold.storage.cache.files import read_json
from outerfold.storage.cache.inventory import RECORD
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.verify.check import Check, carry_out

ANEW = "the run's command computes them anew"


def check_tables(folder: RunFolder) -> Check:
    """Check the rows of each table of the cache that a run reads against their checksums."""
    return carry_out("cache", lambda: _check_tables(folder))


def _check_tables(folder: RunFolder) -> tuple[str, Iterable[str]]:
    if not (folder.path / RECORD).exists():
        return "the run names no table of the cache", ()
    record = read_json(folder.path / RECORD)
    findings, count, gone = [], 0, 0
    for name in record["stores"]:
        home = Path(record["cache"]) / name
        if not home.exists():
            gone += 1
            continue
        table = RowCache.reopen(home)
        count += len(table)
        damaged = table.count_damaged()
        if damaged:
            findings.append(f"{home}: {damaged} of {len(table)} rows are damaged; {ANEW}")
    removed = f"; {gone} tables were removed, {ANEW}" if gone else ""
    return f"{count} rows of the cache are as they were written{removed}", findings
