"""Decoded images at an encoder's size, kept as 8-bit squares in a memory-mapped store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.images.framing import Framing
from outerfold.storage.images.pixels import WINDOW
from outerfold.storage.images.read import read_image

CHUNK = 256
"""Rows written at once: what a kill can cost, some seconds of work."""

DECODE = 2
"""Raised when ``storage/images/read.py`` or ``storage/images/dicom.py`` gives other pixels."""


def square_key(side: int, framing: Framing) -> dict[str, object]:
    """All that a square's pixels depend on besides the image file."""
    return {"decode": DECODE, "window": list(WINDOW), "side": side, **framing.key()}


def read_square(path: Path | str, side: int, framing: Framing) -> NDArray[np.uint8]:
    """An image file as (side, side, 3); an unreadable one raises ``DataError``."""
    return framing.square(read_image(path), side)


def open_squares(cache: Path, side: int, framing: Framing) -> RowCache:
    """The store of squares of this side; rows are named by the SHA-256 of the image file."""
    return RowCache.open(cache / "squares", square_key(side, framing), (side, side, 3), np.uint8)


def keep_squares(
    store: RowCache,
    paths: Mapping[str, str],
    framing: Framing,
    *,
    threads: int,
    done: Callable[[int], None],
) -> RowCache:
    """Decode what the store lacks of ``paths`` (content hash to file); returns it with that.

    Args:
        store: from ``open_squares``.
        paths: files by the SHA-256 of their content.
        framing: the one the store was opened with.
        threads: decoders at work; Pillow decodes outside the interpreter's lock.
        done: told how many images each written chunk held.
    """
    if not store.missing(list(paths)):
        return store
    read = partial(read_square, side=store.row_shape[0], framing=framing)
    with store.writing() as writer, ThreadPoolExecutor(threads) as pool:
        missing = writer.store.missing(list(paths))
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            squares = list(pool.map(read, [paths[content] for content in chunk]))
            writer.append(chunk, np.stack(squares))
            done(len(chunk))
    return store.refreshed()
