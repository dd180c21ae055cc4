"""What a cache holds: its stores, their sizes and last uses, and the removal of unused ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.errors import DataError

KINDS = ("pooled", "tokens", "squares")
"""Folders of a cache that hold stores."""
RECORD = "tables.json"
"""File of a run folder with the stores that the run read."""


@dataclass(frozen=True)
class Store:
    """One store of a cache.

    Attributes:
        name: its folder within the cache, such as ``pooled/7b4adafd7f5cba228321b6ab``.
        what: what its rows are, in words.
        rows: number of rows.
        bytes: size on disk.
        used: time of the last run that read or wrote it.
    """

    name: str
    what: str
    rows: int
    bytes: int
    used: datetime


def list_stores(cache: Path) -> list[Store]:
    """Stores of a cache, the largest first; empty if there is no cache."""
    homes = [home for kind in KINDS for home in sorted((cache / kind).glob("*/about.json"))]
    found = [_describe(cache, about.parent) for about in homes]
    return sorted(found, key=lambda store: (-store.bytes, store.name))


def record_stores(run: Path, cache: Path, stores: Iterable[str]) -> None:
    """Write down in a run folder which stores of a cache the run reads.

    Args:
        run: the run folder.
        cache: folder of the cache.
        stores: names of the stores.
    """
    write_json(run / RECORD, {"cache": str(cache), "stores": sorted(set(stores))})


def recorded_stores(runs: Sequence[Path], cache: Path) -> set[str]:
    """Names of the stores of a cache that any of the runs reads.

    Raises:
        DataError: a folder is no run, or an earlier version made it and recorded no stores.
    """
    kept: set[str] = set()
    for run in runs:
        if not (run / "config.toml").exists():
            raise DataError(f"{run}: is no run directory; name the folders of runs")
        if not (run / RECORD).exists():
            raise DataError(
                f"{run}: the run does not say which tables of the cache it reads, since an earlier "
                "version made it; give its command again, which writes that down, or leave it out"
            )
        record = read_json(run / RECORD)
        if Path(record["cache"]).resolve() == cache.resolve():
            kept |= set(record["stores"])
    return kept


def remove_stores(cache: Path, keep: set[str]) -> tuple[list[Store], list[Store]]:
    """Remove all stores of a cache but those that are named.

    Returns:
        The removed stores, and those that another process is writing and that therefore stay.
    """
    removed, busy = [], []
    for store in list_stores(cache):
        if store.name in keep:
            continue
        home = cache / store.name
        try:
            with FileLock(home / "rows.lock", timeout=0):
                shutil.rmtree(home, ignore_errors=True)
        except Timeout:
            busy.append(store)
        else:
            shutil.rmtree(home, ignore_errors=True)  # the lock file, where it could not go before
            removed.append(store)
    return removed, busy


def _describe(cache: Path, home: Path) -> Store:
    about = read_json(home / "about.json")
    files = [path for path in home.iterdir() if path.is_file()]
    return Store(
        home.relative_to(cache).as_posix(),
        _in_words(home.parent.name, about),
        len(RowCache.reopen(home)),
        sum(path.stat().st_size for path in files),
        datetime.fromtimestamp((home / "about.json").stat().st_mtime),
    )


def _in_words(kind: str, about: dict[str, Any]) -> str:
    key = about["key"]
    if kind == "squares":
        return f"decoded images of {about['row_shape'][0]} px"
    rows = {"pooled": "embeddings", "tokens": "tokens"}[kind]
    by = f" by {key['backend']}" if key.get("backend") else ""
    return f"{rows} of {key['encoder']}{by}, on {key['device']}"
