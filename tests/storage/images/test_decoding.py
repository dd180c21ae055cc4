"""As many images are decoded at once as memory allows, in all threads and processes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from outerfold.storage.cores import count_free_memory
from outerfold.storage.images import decoding
from outerfold.storage.images.decoding import DEEP, count_turns, decoding_turn


def test_turns_fit_into_half_of_the_free_memory() -> None:
    assert count_turns(30_000_000, DEEP, cores=16, memory=16 << 30) == 5
    assert count_turns(200_000_000, DEEP, cores=16, memory=1 << 30) == 1
    assert count_turns(2_000_000, DEEP, cores=16, memory=64 << 30) == 16


def test_two_large_images_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "count_free_memory", lambda: 1 << 20)
    monkeypatch.setattr(decoding, "count_cores", lambda: 4)
    monkeypatch.setattr(decoding, "_folder", lambda: tmp_path)
    inside, most, lock = [0], [0], threading.Lock()

    def decode() -> None:
        with decoding_turn(10_000_000, DEEP):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.03)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_free_memory_is_that_of_the_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert count_free_memory(meminfo, tmp_path) == 2048 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert count_free_memory(meminfo, tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert count_free_memory(meminfo, tmp_path) == 2048 * 1024
    assert count_free_memory(tmp_path / "none", tmp_path / "none") > 0
