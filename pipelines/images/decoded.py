"""Squares: decoded 8-bit images at an encoder's size, kept in a memory-mapped store."""

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
"""Number of rows written at once; a killed process loses at most these, some seconds of work."""

DECODE = 2
"""Version of the decoder; it must increase when ``storage/images/read.py`` or
``storage/images/dicom.py`` gives other pixels."""


def square_key(side: int, framing: Framing) -> dict[str, object]:
    """Return the cache key of squares: everything their pixels depend on besides the image file.

    Args:
        side: side of the square, in pixels.
        framing: how an image of any shape becomes a square.
    """
    return {"decode": DECODE, "window": list(WINDOW), "side": side, **framing.key()}


def read_square(path: Path | str, side: int, framing: Framing) -> NDArray[np.uint8]:
    """Read an image file as a square (side, side, 3).

    Raises:
        DataError: the file cannot be read.
    """
    return framing.square(read_image(path), side)


def open_squares(cache: Path, side: int, framing: Framing) -> RowCache:
    """Open the store of squares of this side; rows are named by the SHA-256 of the file."""
    return RowCache.open(cache / "squares", square_key(side, framing), (side, side, 3), np.uint8)


def keep_squares(
    store: RowCache,
    paths: Mapping[str, str],
    framing: Framing,
    *,
    threads: int,
    done: Callable[[int], None],
) -> RowCache:
    """Decode the images that the store lacks and return the store with them.

    Args:
        store: store from ``open_squares``.
        paths: image files by the SHA-256 of their content.
        framing: framing with which the store was opened.
        threads: number of decoding threads; Pillow decodes outside the interpreter's lock.
        done: function called with the number of images of each written chunk.

    Raises:
        DataError: a file cannot be read.
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
