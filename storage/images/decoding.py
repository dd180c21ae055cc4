"""Turns of decoders: as many images are decoded at once, in all processes, as memory allows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from outerfold.storage.cores import count_cores, count_free_memory

SHALLOW, DEEP = 12, 48
"""Bytes that are needed to decode a pixel of 8 bits, and one of more bits, which becomes numbers of
64 bits and their copies."""

SHARE = 0.5
"""Share of the free memory that all decoders together may use."""

SMALL = 1_000_000
"""Pixels of an image that needs no turn."""

WAIT_SECONDS = 0.02


def count_turns(pixels: int, each: int, *, cores: int, memory: int) -> int:
    """Number of images of this size that may be decoded at once.

    Args:
        pixels: pixels of the image.
        each: bytes for each pixel.
        cores: number of cores, and so of decoders at most.
        memory: bytes of free memory.

    Example:
        >>> count_turns(30_000_000, DEEP, cores=16, memory=16 << 30)
        5
    """
    return max(1, min(cores, int(SHARE * memory) // max(1, pixels * each)))


@contextmanager
def decoding_turn(pixels: int, each: int) -> Iterator[None]:
    """Wait until so few images are decoded that memory suffices for this one too.

    The operating system gives a turn back when its process ends.

    Args:
        pixels: pixels of the image, by its header.
        each: bytes for each pixel, ``SHALLOW`` or ``DEEP``.
    """
    cores = count_cores()
    turns = cores
    if pixels > SMALL:
        turns = count_turns(pixels, each, cores=cores, memory=count_free_memory())
    if turns >= cores:
        yield
        return
    lock = _take_turn(_folder(), turns)
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"outerfold-turns-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _take_turn(folder: Path, turns: int) -> FileLock:
    while True:
        for number in range(turns):
            lock = FileLock(folder / str(number))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return lock
        time.sleep(WAIT_SECONDS)
