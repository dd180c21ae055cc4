from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from outerfold.storage.cache.row_store import RowCache, digest
from outerfold.storage.records import DataError
from tests.places import ROOT

KEY = {"encoder": "tiny", "image_size": 32}


def name_of(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


def row_of(i: int, width: int = 4) -> NDArray[np.float32]:
    return np.arange(i, i + width, dtype=np.float32)


def open_store(folder: Path, width: int = 4) -> RowCache:
    return RowCache.open(folder, KEY, (width,), np.float32)


def add(store: RowCache, numbers: range, width: int = 4) -> RowCache:
    with store.writing() as writer:
        rows = np.stack([row_of(i, width) for i in numbers])
        writer.append([name_of(i) for i in numbers], rows)
    return store.refreshed()


def test_rows_come_back_by_name_in_any_order(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(5))
    asked = [3, 0, 3, 4]
    expected = np.stack([row_of(i) for i in asked])
    np.testing.assert_array_equal(store.read([name_of(i) for i in asked]), expected)


def test_every_row_is_found_among_many_commits(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.writing() as writer:
        for start in range(0, 3000, 100):
            numbers = range(start, start + 100)
            writer.append([name_of(i) for i in numbers], np.stack([row_of(i) for i in numbers]))
    order = np.random.default_rng(0).permutation(3000)
    found = store.refreshed().read([name_of(int(i)) for i in order])
    np.testing.assert_array_equal(found[:, 0], order.astype(np.float32))


def test_a_name_that_ends_in_zero_bytes_is_told_from_its_beginning(tmp_path: Path) -> None:
    names = ["ab" * 30 + "0000", "ab" * 30 + "0001", "00" * 32]
    store = open_store(tmp_path)
    with store.writing() as writer:
        writer.append(names[:2], np.stack([row_of(1), row_of(2)]))
    again = store.refreshed()
    assert again.positions(names).tolist() == [0, 1, -1]


def test_a_row_that_is_absent_is_said_to_be(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(2))
    assert store.missing([name_of(i) for i in (7, 1, 8)]) == [name_of(7), name_of(8)]
    with pytest.raises(DataError, match="1 of the requested rows are not in the store"):
        store.read([name_of(7)])


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert len(store) == 0
    assert store.missing([name_of(0)]) == [name_of(0)]
    assert store.read([]).shape == (0, 4)


@pytest.mark.parametrize(
    "other",
    [{**KEY, "image_size": 64}, {**KEY, "encoder": "other"}, {**KEY, "mean": [0.5]}],
)
def test_a_different_key_is_a_different_store(tmp_path: Path, other: dict[str, object]) -> None:
    add(open_store(tmp_path), range(3))
    assert len(RowCache.open(tmp_path, other, (4,), np.float32)) == 0
    assert len(open_store(tmp_path)) == 3


def test_a_key_is_the_same_whatever_its_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_reopened_from_its_folder_it_is_the_same_store(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(3))
    again = RowCache.reopen(store.folder)
    assert (again.row_shape, again.dtype) == (store.row_shape, store.dtype)
    np.testing.assert_array_equal(again.read([name_of(2)])[0], row_of(2))


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a row store"):
        RowCache.reopen(tmp_path)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 4), np.float32), np.zeros((1, 5), np.float32), np.zeros((1, 4))],
)
def test_rows_of_another_shape_or_kind_are_refused(tmp_path: Path, rows: NDArray) -> None:  # type: ignore[type-arg]
    with open_store(tmp_path).writing() as writer, pytest.raises(ValueError, match="expected"):
        writer.append([name_of(0)], rows)


def test_a_reader_keeps_what_it_saw_while_another_writes(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(3))
    before = store.read([name_of(1)])
    add(open_store(tmp_path), range(3, 6))
    np.testing.assert_array_equal(store.read([name_of(1)]), before)
    assert (len(store), len(store.refreshed())) == (3, 6)


@pytest.mark.parametrize("file", ["rows.bin", "rows.index"])
@pytest.mark.parametrize("lost", [1, 7, 30, 60])
def test_a_torn_file_is_never_read_as_whole(tmp_path: Path, file: str, lost: int) -> None:
    """Whatever the last write lost, what was committed before it stays, and no more than that."""
    store = add(add(open_store(tmp_path), range(10)), range(10, 20))
    path = store.folder / file
    os.truncate(path, path.stat().st_size - lost)
    torn = store.refreshed()
    assert len(torn) == 10
    names = [name_of(i) for i in range(10)]
    np.testing.assert_array_equal(torn.read(names)[:, 0], np.arange(10))


@pytest.mark.parametrize("file", ["rows.bin", "rows.index"])
def test_writing_goes_on_after_a_torn_write(tmp_path: Path, file: str) -> None:
    store = add(add(open_store(tmp_path), range(10)), range(10, 20))
    path = store.folder / file
    os.truncate(path, path.stat().st_size - 5)
    mended = add(open_store(tmp_path), range(10, 20))
    assert len(mended) == 20
    np.testing.assert_array_equal(mended.read([name_of(i) for i in range(20)])[:, 0], np.arange(20))


def test_rubbish_behind_the_last_commit_is_cut_off(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(3))
    for file in ("rows.bin", "rows.index"):
        with (store.folder / file).open("ab") as out:
            out.write(b"\x07" * 33)
    assert len(store.refreshed()) == 3
    mended = add(open_store(tmp_path), range(3, 5))
    np.testing.assert_array_equal(mended.read([name_of(4)])[0], row_of(4))


def test_rows_that_a_disk_lost_behind_their_commit_are_dropped(tmp_path: Path) -> None:
    """A power loss may leave a file long enough but full of zeros."""
    store = add(add(open_store(tmp_path), range(2)), range(2, 4))
    with (store.folder / "rows.bin").open("r+b") as file:
        file.seek(2 * store.row_bytes)
        file.write(b"\0" * 2 * store.row_bytes)
    with store.writing() as writer:
        assert writer.store.missing([name_of(i) for i in range(4)]) == [name_of(2), name_of(3)]


def test_an_index_entry_that_was_damaged_hides_what_follows(tmp_path: Path) -> None:
    store = add(add(open_store(tmp_path), range(2)), range(2, 4))
    index = bytearray((store.folder / "rows.index").read_bytes())
    index[-1] ^= 1
    (store.folder / "rows.index").write_bytes(index)
    assert len(store.refreshed()) == 2


WRITER = """
import sys
from pathlib import Path
from outerfold.storage.cache.row_store import RowCache
from tests.storage.cache.test_row_store import add, name_of, open_store, row_of
import numpy as np

store = open_store(Path(sys.argv[1]), 4096)
with store.writing() as writer:
    print("started", flush=True)
    done = len(writer.store)
    for start in range(done, 1000, 20):
        numbers = range(start, start + 20)
        rows = np.stack([row_of(i, 4096) for i in numbers])
        writer.append([name_of(i) for i in numbers], rows)
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_in_mid_write_it_goes_on_and_ends_up_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(2):
        writer = start_writer(tmp_path / "killed")
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(float(rng.uniform(0.01, 0.08)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        store = open_store(tmp_path / "killed", 4096)
        seen.append(len(store))
        assert len(store) % 20 == 0
        names = [name_of(i) for i in range(len(store))]
        np.testing.assert_array_equal(store.read(names)[:, 0], np.arange(len(store)))
    assert seen == sorted(seen)
    assert start_writer(tmp_path / "killed").wait() == 0
    assert start_writer(tmp_path / "whole").wait() == 0
    killed, whole = (open_store(tmp_path / n, 4096).folder for n in ("killed", "whole"))
    for file in ("rows.bin", "rows.index"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes()


def test_damaged_rows_are_absent_until_they_are_written_again(tmp_path: Path) -> None:
    """One bit of the second of three commits; its neighbours, and their places, stay."""
    store = add(add(add(open_store(tmp_path), range(3)), range(3, 6)), range(6, 9))
    names = [name_of(i) for i in range(9)]
    assert store.mended(names) is store
    reader = store.refreshed()
    before = reader.positions(names)
    rows = store.folder / "rows.bin"
    body = bytearray(rows.read_bytes())
    body[4 * 4 * 4 + 1] ^= 1
    rows.write_bytes(body)
    assert store.mended(names[:3]).missing(names) == [], "commits that nobody asks for are not read"
    mended = store.mended(names)
    assert mended.missing(names) == names[3:6]
    np.testing.assert_array_equal(mended.read(names[6:])[:, 0], np.arange(6, 9))
    np.testing.assert_array_equal(reader.positions(names), before)
    again = add(mended, range(3, 6))
    assert again.mended(names).missing(names) == []
    np.testing.assert_array_equal(again.read(names)[:, 0], np.arange(9))


def test_a_damaged_description_is_written_again(tmp_path: Path) -> None:
    store = add(open_store(tmp_path), range(3))
    (store.folder / "about.json").write_bytes(b"{")
    assert len(open_store(tmp_path)) == 3
    assert RowCache.reopen(store.folder).row_shape == (4,)


def test_two_writers_take_turns(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = open_store(tmp_path, 4096)
    assert (store.folder / "rows.bin").stat().st_size == 1000 * store.row_bytes
    assert len(store) == 1000


def test_erased_rows_are_zero_on_disk_and_others_stay(tmp_path: Path) -> None:
    store = RowCache.open(tmp_path, {"of": "erase"}, (4,), np.float32)
    names = [digest({"row": n}) for n in range(6)]
    rows = np.arange(1, 25, dtype=np.float32).reshape(6, 4)
    with store.writing() as writer:
        writer.append(names[:3], rows[:3])
        writer.append(names[3:], rows[3:])
    store = store.refreshed()
    assert store.erase([names[1], names[5], digest({"row": 99})]) == 2
    store = store.refreshed()
    assert store.missing(names) == [names[1], names[5]]
    kept = [names[n] for n in (0, 2, 3, 4)]
    np.testing.assert_array_equal(store.mended(kept).read(kept), rows[[0, 2, 3, 4]])
    on_disk = np.fromfile(store.folder / "rows.bin", np.float32).reshape(6, 4)
    assert not on_disk[[1, 5]].any()
    assert store.count_damaged() == 0
    assert store.erase(names[1:2]) == 0
