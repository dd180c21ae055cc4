"""A cache tells what it holds, and gives up what no run reads, unless somebody writes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from outerfold.storage.cache.inventory import (
    list_stores,
    record_stores,
    recorded_stores,
    remove_stores,
)
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.records import DataError

KEY = {"encoder": "timm:x", "device": "cpu", "backend": "openvino 1"}


def filled(cache: Path, kind: str, rows: int, **more: str) -> RowCache:
    store = RowCache.open(cache / kind, {**KEY, **more}, (4,), np.float32)
    if rows:
        with store.writing() as writer:
            names = [f"{number:064x}" for number in range(rows)]
            writer.append(names, np.zeros((rows, 4), np.float32))
    return store


def name(cache: Path, store: RowCache) -> str:
    return store.folder.relative_to(cache).as_posix()


def run(path: Path, cache: Path, *stores: str) -> Path:
    path.mkdir()
    (path / "config.toml").write_text("")
    record_stores(path, cache, stores)
    return path


def test_stores_are_listed_with_what_they_hold_the_largest_first(tmp_path: Path) -> None:
    few, many = filled(tmp_path, "pooled", 2), filled(tmp_path, "tokens", 300)
    os.utime(few.folder / "about.json", (0, 10**9))
    first, second = list_stores(tmp_path)
    assert (first.name, first.rows) == (name(tmp_path, many), 300)
    assert (second.name, second.rows) == (name(tmp_path, few), 2)
    assert second.what == "embeddings of timm:x by openvino 1, on cpu"
    assert first.what == "tokens of timm:x by openvino 1, on cpu"
    assert first.bytes > second.bytes >= 2 * 16
    assert second.used.year == 2001
    filled(tmp_path, "pooled", 0)
    assert list_stores(tmp_path)[1].used.year > 2001
    assert list_stores(tmp_path / "nowhere") == []


def test_what_a_listed_run_reads_stays_and_the_rest_goes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    kept, gone = filled(cache, "pooled", 2), filled(cache, "pooled", 2, encoder="timm:y")
    one = run(tmp_path / "run", cache, name(cache, kept))
    other = run(tmp_path / "elsewhere", tmp_path / "another", name(cache, gone))
    keep = recorded_stores([one, other], cache)
    assert keep == {name(cache, kept)}
    removed, busy = remove_stores(cache, keep)
    assert [store.name for store in removed] == [name(cache, gone)]
    assert busy == []
    assert not gone.folder.exists()
    assert len(RowCache.reopen(kept.folder)) == 2


def test_a_store_that_is_being_written_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, "tokens", 2)
    with FileLock(store.folder / "rows.lock"):
        removed, busy = remove_stores(tmp_path, set())
    assert removed == []
    assert [one.name for one in busy] == [name(tmp_path, store)]
    assert len(RowCache.reopen(store.folder)) == 2


def test_folders_that_are_no_runs_or_say_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is no run directory"):
        recorded_stores([tmp_path / "empty"], tmp_path)
    (tmp_path / "empty" / "config.toml").write_text("")
    with pytest.raises(DataError, match="an earlier version made it; give its command again"):
        recorded_stores([tmp_path / "empty"], tmp_path)
