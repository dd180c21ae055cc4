"""Squares: decoded 8-bit images at an encoder's size, kept in a memory-mapped store.

Worker processes import this module, so it loads neither torch nor an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outerfold.pipelines.augmentation.views import view_of
from outerfold.pipelines.images.ahead import Ahead
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.images.framing import Framing
from outerfold.storage.images.pixels import WINDOW
from outerfold.storage.images.read import read_image

CHUNK = 256
"""Number of rows written at once; a killed process loses at most these, some seconds of work."""

AT_ONCE = 16
"""Number of images that a worker reads as one task."""

DECODE = 3
"""Version of the decoder; it must increase when ``storage/images`` gives other pixels of a file."""


def square_key(side: int, framing: Framing) -> dict[str, object]:
    """Return the cache key of squares: everything their pixels depend on besides the image file.

    Args:
        side: side of the square, in pixels.
        framing: how an image of any shape becomes a square.
    """
    return {"decode": DECODE, "window": list(WINDOW), "side": side, **framing.key()}


def read_square(
    path: Path | str, side: int, framing: Framing, content: str = ""
) -> NDArray[np.uint8]:
    """Read an image file as a square (side, side, 3).

    Args:
        path: the image file.
        side: side of the square, in pixels.
        framing: how an image of any shape becomes a square.
        content: SHA-256 that the file must have; empty for any.

    Raises:
        DataError: the file cannot be read, or has another content.
    """
    return framing.square(read_image(path, content), side)


def open_squares(cache: Path, side: int, framing: Framing) -> RowCache:
    """Open the store of squares of this side; rows are named by the SHA-256 of the file."""
    return RowCache.open(cache / "squares", square_key(side, framing), (side, side, 3), np.uint8)


def keep_squares(
    store: RowCache,
    paths: Mapping[str, str],
    framing: Framing,
    *,
    ahead: Ahead,
    done: Callable[[int], None],
) -> RowCache:
    """Decode the images that the store lacks and return the store with them.

    Args:
        store: store from ``open_squares``.
        paths: image files by the SHA-256 of their content.
        framing: framing with which the store was opened.
        ahead: workers that read and frame the images.
        done: function called with the number of images of each written chunk.

    Raises:
        DataError: a file cannot be read, or was changed since it was hashed.
    """
    store = store.mended(list(paths))
    if not store.missing(list(paths)):
        return store
    read = partial(_read_squares, side=store.row_shape[0], framing=framing)
    with store.writing() as writer:
        missing = writer.store.missing(list(paths))
        size = min(CHUNK, AT_ONCE)
        tasks = [missing[at : at + size] for at in range(0, len(missing), size)]
        files = ([(content, paths[content]) for content in names] for names in tasks)
        names: list[str] = []
        squares: list[NDArray[np.uint8]] = []
        found = ahead.map(read, files, images=len(missing))
        for number, (task, part) in enumerate(zip(tasks, found, strict=True), 1):
            names, squares = [*names, *task], [*squares, part]
            if len(names) >= CHUNK or number == len(tasks):
                writer.append(names, np.concatenate(squares))
                done(len(names))
                names, squares = [], []
    return store.refreshed()


def _read_squares(
    files: Sequence[tuple[str, str]], side: int, framing: Framing
) -> NDArray[np.uint8]:
    return np.stack([read_square(path, side, framing, content) for content, path in files])


def make_views(
    jobs: Sequence[tuple[str, int]], folder: Path, rows: int, style: str
) -> NDArray[np.uint8]:
    """Read squares from their store and make views (n, side, side, 3) of them.

    Args:
        jobs: SHA-256 of the image file and number of the view, for each of n views.
        folder: folder of the store.
        rows: number of rows that the store has now.
        style: set of transforms of the views.
    """
    images = _reopen_squares(folder, rows).read([content for content, _ in jobs])
    made = [view_of(image, *job, style) for image, job in zip(images, jobs, strict=True)]
    return np.stack(made)


@lru_cache(maxsize=1)
def _reopen_squares(folder: Path, rows: int) -> RowCache:
    """Open the store of squares once for a number of rows; a store with more is opened anew."""
    return RowCache.reopen(folder)
