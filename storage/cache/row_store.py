"""Store of array rows on disk; rows have one shape, are found by name and survive a killed process.

A store is two growing files. ``rows.bin`` holds the rows, one after another, and is read as a
memory map. ``rows.index`` holds commits: the number of added rows, their names (SHA-256) and
checksums. Rows are written to disk before their commit, so a row is in the store once its commit
is whole. Bytes after the last whole commit, left by a kill or a power loss, are never read, and
the next writer cuts them off. One file handle serves any number of rows: with one file for each
chunk, 100 000 images in several views would exceed the usual limit of 1024 open files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from outerfold.storage.cache.files import make_cache_folder, write_bytes, write_text
from outerfold.storage.records import DataError, IntArray

log = logging.getLogger(__name__)

HEADER = struct.Struct("<4sIII")  # magic, rows, checksum of the rows, checksum of the names
MAGIC = b"ofr1"
NAME_BYTES = 32
BLOCK_BYTES = 1 << 24
"""Bytes that are read at once for a checksum."""


def digest(key: Mapping[str, object]) -> str:
    """SHA-256 (64 hex digits) of a description; the order of its entries makes no difference."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Commit:
    names: bytes  # 32 bytes a row
    checksum: int  # CRC-32 of the rows

    def __len__(self) -> int:
        return len(self.names) // NAME_BYTES


@dataclass(frozen=True, eq=False)
class RowCache:
    """One store; a row is an array of ``row_shape`` and ``dtype`` with a name of 64 hex digits.

    Any number of processes may read while one writes. Each reader sees the rows that were
    committed at its first access; ``refreshed()`` returns a store with the newer rows too.
    ``writing()`` lets one process write at a time.
    """

    folder: Path
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(
        cls, folder: Path, key: Mapping[str, object], row_shape: Sequence[int], dtype: DTypeLike
    ) -> RowCache:
        """Store of ``key`` in ``folder``; it is made if it does not exist.

        Args:
            folder: folder that holds stores of this kind.
            key: everything besides the names that the rows' values depend on, in JSON's types.
            row_shape: shape of one row.
            dtype: data type of a row's values.
        """
        value_type = np.dtype(dtype)
        about = {"key": dict(key), "row_shape": list(row_shape), "dtype": value_type.str}
        home = folder / digest(about)[:24]
        kept, text = home / "about.json", json.dumps(about, indent=1, sort_keys=True) + "\n"
        if not kept.exists() or kept.read_bytes() != text.encode():
            make_cache_folder(home)
            write_text(kept, text)
        with suppress(OSError):  # another user's cache can be read, too
            os.utime(home / "about.json")  # the time of the last use
        return cls(home, tuple(row_shape), value_type)

    @classmethod
    def reopen(cls, home: Path) -> RowCache:
        """Store in the folder ``home``; ``about.json`` there gives its shape and data type.

        Raises:
            DataError: ``home`` holds no store.
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
        """Sorted names (n,) and the position (n,) of each in ``rows.bin``; 40 bytes a row."""
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
        """Positions (len(names),) of the named rows, for ``at``; -1 where a row is absent."""
        known, order = self._names
        if not (len(known) and len(names)):
            return np.full(len(names), -1, dtype=np.int64)
        asked = np.frombuffer(_pack_names(names), dtype=known.dtype)
        near = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(known[near] == asked, order[near], -1)

    def missing(self, names: Sequence[str]) -> list[str]:
        """The ``names`` that are not in the store, in the given order."""
        return [names[i] for i in np.flatnonzero(self.positions(names) < 0).tolist()]

    def at(self, positions: IntArray) -> NDArray[Any]:
        """Copy (len(positions), *row_shape) of rows in memory.

        Raises:
            DataError: a position is negative.
        """
        return self.view(positions)[:]

    def view(self, positions: IntArray) -> StoredRows:
        """Rows at ``positions``, which stay on disk until they are used.

        Raises:
            DataError: a position is negative.
        """
        if len(positions) and positions.min() < 0:
            raise DataError(
                f"{self.folder}: {(positions < 0).sum()} of the requested rows are not in the store"
            )
        return StoredRows(self._rows, positions)

    def read(self, names: Sequence[str]) -> NDArray[Any]:
        """Copy (len(names), *row_shape) of the named rows in memory.

        Raises:
            DataError: a row is not in the store.
        """
        return self.at(self.positions(names))

    def refreshed(self) -> RowCache:
        """The same store, including rows that other processes have committed since."""
        return RowCache(self.folder, self.row_shape, self.dtype)

    def mended(self, names: Sequence[str]) -> RowCache:
        """The store, without those of the named rows whose bytes are not those that were written.

        The checksums of all commits that hold a named row are computed. Rows of a damaged commit
        lose their names and so are absent; their places stay, so other readers are not disturbed.

        Raises:
            DataError: the damaged rows cannot be taken out, since the store is read-only.
        """
        if not self._damaged(names):
            return self
        try:
            with FileLock(self.folder / "rows.lock"):
                damaged = self.refreshed()._damaged(names)
                if damaged:
                    self._forget(damaged)
        except OSError as error:
            raise DataError(
                f"{self.folder}: rows were damaged, and the folder cannot be written "
                f"({error.strerror}); let its owner give the command, or use another cache"
            ) from None
        return self.refreshed()

    def erase(self, names: Sequence[str]) -> int:
        """Overwrite the named rows with zeros and give them names that nothing asks for.

        Returns:
            Number of rows that were erased; names that the store lacks are passed over.
        """
        with FileLock(self.folder / "rows.lock"):
            store = self.refreshed()
            at = store.positions(names)
            gone = np.unique(at[at >= 0]).tolist()
            if not gone:
                return 0
            with (self.folder / "rows.bin").open("r+b") as file:
                for position in gone:
                    file.seek(position * self.row_bytes)
                    file.write(bytes(self.row_bytes))
                file.flush()
                os.fsync(file.fileno())
            store._rename(set(gone))
        return len(gone)

    def _rename(self, gone: set[int]) -> None:
        """Give rows at these positions new names, and their commits new checksums."""
        parts, first, commits = [], 0, list(self._commits())
        for number, commit in enumerate(commits):
            own = [at - first for at in gone if first <= at < first + len(commit)]
            names, checksum = bytearray(commit.names), commit.checksum
            for at in own:
                names[at * NAME_BYTES : (at + 1) * NAME_BYTES] = os.urandom(NAME_BYTES)
            if own:
                checksum = self._checksum(commits, number)
            packed = bytes(names)
            parts.append(HEADER.pack(MAGIC, len(commit), checksum, zlib.crc32(packed)) + packed)
            first += len(commit)
        write_bytes(self.folder / "rows.index", b"".join(parts))

    def count_damaged(self) -> int:
        """Number of rows that were written with others whose bytes are not those written."""
        commits = list(self._commits())
        return sum(
            len(commit)
            for number, commit in enumerate(commits)
            if self._checksum(commits, number) != commit.checksum
        )

    def _damaged(self, names: Sequence[str]) -> dict[int, int]:
        """Checksums of the bytes on disk by number of each commit that does not have its own."""
        commits = list(self._commits())
        ends = np.cumsum([len(commit) for commit in commits])
        at = self.positions(names)
        held = np.unique(np.searchsorted(ends, at[at >= 0], side="right"))
        found = {}
        for number in held.tolist():
            checksum = self._checksum(commits, number)
            if checksum != commits[number].checksum:
                found[number] = checksum
        return found

    def _forget(self, damaged: Mapping[int, int]) -> None:
        """Give the rows of damaged commits names that nothing asks for."""
        parts = []
        for number, commit in enumerate(self._commits()):
            names, checksum = commit.names, commit.checksum
            if number in damaged:
                log.warning("%s: %d damaged rows are computed anew", self.folder, len(commit))
                names, checksum = os.urandom(len(names)), damaged[number]
            parts.append(HEADER.pack(MAGIC, len(commit), checksum, zlib.crc32(names)) + names)
        write_bytes(self.folder / "rows.index", b"".join(parts))

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Lock the store for one writer; waits while another process writes.

        The operating system keeps the lock and releases it when the process ends. Bytes after the
        last whole commit are cut off first.
        """
        with FileLock(self.folder / "rows.lock"):
            kept = list(self._commits())
            while kept and self._checksum(kept, len(kept) - 1) != kept[-1].checksum:
                kept.pop()  # a disk may reorder writes
            self._cut_to(kept)
            yield Writer(self.refreshed())

    def _commits(self) -> Iterator[_Commit]:
        """Whole commits whose rows are all on disk, oldest first."""
        index, rows = self.folder / "rows.index", self.folder / "rows.bin"
        if not (index.exists() and rows.exists()):
            return
        rows_left = rows.stat().st_size // max(self.row_bytes, 1)
        data = index.read_bytes()
        at = 0
        while at + HEADER.size <= len(data):
            magic, count, rows_checksum, names_checksum = HEADER.unpack_from(data, at)
            at += HEADER.size
            names = data[at : at + count * NAME_BYTES]
            at += count * NAME_BYTES
            rows_left -= count
            whole = magic == MAGIC and rows_left >= 0 and zlib.crc32(names) == names_checksum
            if not whole or len(names) != count * NAME_BYTES:
                return
            yield _Commit(names, rows_checksum)

    def _checksum(self, commits: Sequence[_Commit], number: int) -> int:
        """CRC-32 of the bytes on disk of one commit's rows."""
        before = sum(len(commit) for commit in commits[:number])
        left, checksum = len(commits[number]) * self.row_bytes, 0
        with (self.folder / "rows.bin").open("rb") as file:
            file.seek(before * self.row_bytes)
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                checksum, left = zlib.crc32(block, checksum), left - len(block)
        return checksum

    def _cut_to(self, kept: Sequence[_Commit]) -> None:
        """Shorten both files to the commits ``kept``."""
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
    """Chosen rows of a store in a chosen order, read when they are indexed; takes 8 bytes a row.

    Attributes:
        rows: (rows of the store, *row_shape) the whole store as a memory map.
        at: (n,) position of each row in the store.
    """

    rows: NDArray[Any]
    at: IntArray

    def __len__(self) -> int:
        return len(self.at)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, *row_shape) of all rows together."""
        return (len(self.at), *self.rows.shape[1:])

    def __getitem__(self, which: IntArray | slice) -> NDArray[Any]:
        """Copy (len(which), *row_shape) of rows in memory."""
        return np.asarray(self.rows[self.at[which]])


@dataclass(frozen=True, eq=False)
class Writer:
    """Adds rows to a store while the process holds its lock.

    ``store`` holds the rows that were committed before the first addition.
    """

    store: RowCache

    def append(self, names: Sequence[str], rows: NDArray[Any]) -> None:
        """Add rows (len(names), *row_shape); all of them are on disk when this returns.

        A process that is killed meanwhile adds none of them.

        Raises:
            ValueError: the rows have another shape or data type than the store.
        """
        store = self.store
        if rows.shape != (len(names), *store.row_shape) or rows.dtype != store.dtype:
            raise ValueError(
                f"{len(names)} rows of {store.row_shape} {store.dtype} expected, "
                f"found {rows.shape} {rows.dtype}"
            )
        body = np.ascontiguousarray(rows).tobytes()
        packed = _pack_names(names)
        header = HEADER.pack(MAGIC, len(names), zlib.crc32(body), zlib.crc32(packed))
        _append(store.folder / "rows.bin", body)
        _append(store.folder / "rows.index", header + packed)


def _pack_names(names: Sequence[str]) -> bytes:
    return b"".join(bytes.fromhex(name) for name in names)


def _append(path: Path, body: bytes) -> None:
    with path.open("ab") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
