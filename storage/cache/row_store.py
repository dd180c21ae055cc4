"""Rows of one shape on disk, found by content and not by position, that survive a kill.

A store is two growing files. ``rows.bin`` holds the rows, one after another, and is read as a
memory map. ``rows.index`` holds commits: how many rows were added, their names (SHA-256) and
checksums. Rows reach the disk before their commit does, so a row counts once its commit is whole;
whatever a kill or a power loss leaves behind a last whole commit is cut off by the next writer
and never read. One file handle serves any number of rows: a file for each chunk of 100 000
images in several views would pass the usual limit of 1024 open files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from outerfold.storage.cache.files import write_text
from outerfold.storage.records import DataError, IntArray

log = logging.getLogger(__name__)

HEADER = struct.Struct("<4sIII")  # magic, rows, checksum of the rows, checksum of the names
MAGIC = b"ofr1"
NAME_BYTES = 32


def digest(key: Mapping[str, object]) -> str:
    """SHA-256 (64 hex digits) of a description, whatever the order of its entries."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Commit:
    names: bytes  # 32 bytes a row
    checksum: int  # of the rows

    def __len__(self) -> int:
        return len(self.names) // NAME_BYTES


@dataclass(frozen=True, eq=False)
class RowCache:
    """One store; a row is an array of ``row_shape`` and has a name of 64 hex digits.

    Any number of processes may read while one writes: each sees the rows that were committed when
    it first looked (``refreshed()`` looks again). ``writing()`` holds the writers apart.
    """

    folder: Path
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(
        cls, folder: Path, key: Mapping[str, object], row_shape: Sequence[int], dtype: DTypeLike
    ) -> RowCache:
        """The store of ``key`` under ``folder``, made if need be.

        Args:
            folder: where stores of this kind live.
            key: all that the rows' values depend on besides their names, in JSON's types.
            row_shape: shape of one row.
            dtype: what a row is made of.
        """
        kind = np.dtype(dtype)
        about = {"key": dict(key), "row_shape": list(row_shape), "dtype": kind.str}
        home = folder / digest(about)[:24]
        if not (home / "about.json").exists():
            home.mkdir(parents=True, exist_ok=True)
            write_text(home / "about.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
        return cls(home, tuple(row_shape), kind)

    @classmethod
    def reopen(cls, home: Path) -> RowCache:
        """The store that lies in ``home``, as its own description says.

        Raises:
            DataError: there is none.
        """
        try:
            about = json.loads((home / "about.json").read_text(encoding="utf-8"))
            return cls(home, tuple(about["row_shape"]), np.dtype(about["dtype"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{home}: not a row store ({error}); run the study again to compute it anew"
            ) from None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @cached_property
    def _names(self) -> tuple[NDArray[np.bytes_], IntArray]:
        """Names in order, and the position each has in ``rows.bin``; 40 bytes a row."""
        packed = b"".join(commit.names for commit in self._commits())
        names = np.frombuffer(packed, dtype=f"S{NAME_BYTES}")
        order = np.argsort(names, kind="stable")
        return names[order], order

    @cached_property
    def _rows(self) -> NDArray[Any]:
        committed = sum(len(commit) for commit in self._commits())
        if committed == 0:
            return np.empty((0, *self.row_shape), self.dtype)
        shape = (committed, *self.row_shape)
        return np.memmap(self.folder / "rows.bin", dtype=self.dtype, mode="r", shape=shape)

    def __len__(self) -> int:
        return len(self._names[0])

    def positions(self, names: Sequence[str]) -> IntArray:
        """Positions (len(names),) for ``at``; -1 where a row is not in the store."""
        known, order = self._names
        if not (len(known) and len(names)):
            return np.full(len(names), -1, dtype=np.int64)
        asked = np.frombuffer(_packed(names), dtype=known.dtype)
        near = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(known[near] == asked, order[near], -1)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that are not in the store, in their order."""
        return [names[i] for i in np.flatnonzero(self.positions(names) < 0).tolist()]

    def at(self, positions: IntArray) -> NDArray[Any]:
        """A copy (len(positions), *row_shape) of rows in memory."""
        return self.view(positions)[:]

    def view(self, positions: IntArray) -> StoredRows:
        """The rows at ``positions``, left on disk until they are asked for."""
        if len(positions) and positions.min() < 0:
            raise DataError(f"{self.folder}: {(positions < 0).sum()} rows asked for are not there")
        return StoredRows(self._rows, positions)

    def read(self, names: Sequence[str]) -> NDArray[Any]:
        """A copy (len(names), *row_shape) of rows; one that is absent raises ``DataError``."""
        return self.at(self.positions(names))

    def refreshed(self) -> RowCache:
        """The same store with what other processes have committed since."""
        return RowCache(self.folder, self.row_shape, self.dtype)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the store for one writer; waits for another process that has it.

        The lock is the operating system's and goes with the process that held it. Anything behind
        the last whole commit is cut off first.
        """
        with FileLock(self.folder / "rows.lock"):
            kept = list(self._commits())
            while kept and not self._sound(kept):
                kept.pop()
            self._cut(kept)
            yield Writer(self.refreshed())

    def _commits(self) -> Iterator[_Commit]:
        """Whole commits whose rows are all on disk, oldest first."""
        index, rows = self.folder / "rows.index", self.folder / "rows.bin"
        if not (index.exists() and rows.exists()):
            return
        room = rows.stat().st_size // max(self.row_bytes, 1)
        data = index.read_bytes()
        at = 0
        while at + HEADER.size <= len(data):
            magic, count, rows_checksum, names_checksum = HEADER.unpack_from(data, at)
            at += HEADER.size
            names = data[at : at + count * NAME_BYTES]
            at += count * NAME_BYTES
            room -= count
            whole = magic == MAGIC and room >= 0 and zlib.crc32(names) == names_checksum
            if not whole or len(names) != count * NAME_BYTES:
                return
            yield _Commit(names, rows_checksum)

    def _sound(self, commits: Sequence[_Commit]) -> bool:
        """Whether the last commit's rows are what was written: a disk may reorder writes."""
        before = sum(len(commit) for commit in commits[:-1])
        with (self.folder / "rows.bin").open("rb") as file:
            file.seek(before * self.row_bytes)
            return zlib.crc32(file.read(len(commits[-1]) * self.row_bytes)) == commits[-1].checksum

    def _cut(self, kept: Sequence[_Commit]) -> None:
        """Shorten both files to the commits that are kept."""
        count = sum(len(commit) for commit in kept)
        sizes = {
            "rows.index": len(kept) * HEADER.size + count * NAME_BYTES,
            "rows.bin": count * self.row_bytes,
        }
        for name, size in sizes.items():
            path = self.folder / name
            if path.exists() and path.stat().st_size > size:
                log.warning("%s: cut %d unfinished bytes", path, path.stat().st_size - size)
                os.truncate(path, size)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of a store in an order of one's own, read when asked for; holds 8 bytes a row.

    Attributes:
        rows: the whole store as a memory map.
        at: (n,) position in it of each row.
    """

    rows: NDArray[Any]
    at: IntArray

    def __len__(self) -> int:
        return len(self.at)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows, were they read at once."""
        return (len(self.at), *self.rows.shape[1:])

    def __getitem__(self, which: IntArray | slice) -> NDArray[Any]:
        """A copy (len(which), *row_shape) in memory."""
        return np.asarray(self.rows[self.at[which]])


@dataclass(frozen=True, eq=False)
class Writer:
    """The one process that may add rows; ``store`` is what was there when it began."""

    store: RowCache

    def append(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Add rows (len(names), *row_shape); on disk, all or none, when this returns."""
        store = self.store
        if rows.shape != (len(names), *store.row_shape) or rows.dtype != store.dtype:
            raise ValueError(
                f"{len(names)} rows of {store.row_shape} {store.dtype} expected, "
                f"found {rows.shape} {rows.dtype}"
            )
        body = np.ascontiguousarray(rows).tobytes()
        packed = _packed(names)
        header = HEADER.pack(MAGIC, len(names), zlib.crc32(body), zlib.crc32(packed))
        _append(store.folder / "rows.bin", body)
        _append(store.folder / "rows.index", header + packed)


def _packed(names: Sequence[str]) -> bytes:
    return b"".join(bytes.fromhex(name) for name in names)


def _append(path: Path, body: bytes) -> None:
    with path.open("ab") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
