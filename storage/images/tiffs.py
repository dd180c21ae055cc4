"""Values of TIFF files that Pillow does not read or cuts to 8 bits: any depth, sign and planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 258, 262, 274, 339
SAMPLES, PLANES, STRIPS, STRIP_BYTES, TILES, TILE_BYTES = 277, 284, 273, 279, 324, 325
EXTRA_SAMPLES = 338
"""Tags of a TIFF file (TIFF 6.0, sections 3, 8, 15, 18 and 19)."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Values of ``PHOTOMETRIC``."""
_SHAPE = (256, 257, BITS, 259, PHOTOMETRIC, 266, SAMPLES, 278, PLANES, 317, 322, 323, EXTRA_SAMPLES)
_PLACES = (STRIPS, STRIP_BYTES, TILES, TILE_BYTES)
_LONG = 4


def read_tiff(data: bytes, tags: Mapping[int, Any]) -> NDArray[Any]:
    """Values (h, w) or (h, w, 3) of the first page, red first, not turned, white not inverted.

    OpenCV decodes them under a directory of ours. It lacks the orientation, which OpenCV obeys in
    some depths only; each separate plane is one grey image, since OpenCV takes several for pixels
    side by side; and floats of 16 bits are read as integers of the same bits.

    Args:
        data: bytes of the file.
        tags: the page's tags.

    Raises:
        ValueError: the values are not of a kind that can be read.
    """
    samples, kind = _first(tags, SAMPLES, 1), _first(tags, PHOTOMETRIC, BLACK_IS_ZERO)
    half = _first(tags, SAMPLE_FORMAT, 1) == 3 and _first(tags, BITS, 1) == 16
    if kind not in {WHITE_IS_ZERO, BLACK_IS_ZERO, RGB}:
        raise ValueError("a TIFF of more than 8 bits must be grey or RGB")
    if samples > 1 and _first(tags, PLANES, 1) == 2:
        wanted = range(3 if kind == RGB else 1)
        planes = [decode_by_opencv(_with_directory(data, tags, half, plane)) for plane in wanted]
        values = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    else:
        values = decode_by_opencv(_with_directory(data, tags, half))
        values = values[..., 2::-1] if values.ndim == 3 else values  # OpenCV gives blue first
    if values.ndim != (3 if kind == RGB else 2) or 8 * values.itemsize < _first(tags, BITS, 1):
        raise ValueError("no reader knows values of this kind")
    return values.view(np.float16) if half else values


def _first(tags: Mapping[int, Any], number: int, default: int) -> int:
    value = tags.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def decode_by_opencv(data: bytes) -> NDArray[Any]:
    """Values (h, w) or (h, w, channels) as they are stored, blue first.

    Raises:
        ValueError: OpenCV cannot decode them; it prints nothing.
    """
    import cv2

    try:
        with _silent():
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("it is damaged, or no reader knows values of its kind") from error
    if found is None:
        raise ValueError("it is damaged, or no reader knows values of its kind")
    return np.ascontiguousarray(found)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenCV from printing its own errors; ours names the file."""
    from cv2.utils import logging

    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _with_directory(
    data: bytes, tags: Mapping[int, Any], half: bool, plane: int | None = None
) -> bytes:
    """The file behind a new header and directory, of one plane or of all."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    head = data[:2] + (b"*\0\0\0\0\0" if data[:2] == b"II" else b"\0*\0\0\0\0")
    ours = ImageFileDirectory_v2(head)
    chosen = {tag: tags[tag] for tag in (*_SHAPE, *_PLACES, SAMPLE_FORMAT) if tag in tags}
    if half:
        chosen[SAMPLE_FORMAT] = (1,) * len(np.atleast_1d(chosen[SAMPLE_FORMAT]))
    if chosen.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        chosen[PHOTOMETRIC] = BLACK_IS_ZERO
    if plane is not None:
        chosen = _of_plane(chosen, plane)
    for tag, value in chosen.items():
        ours.tagtype[tag] = _LONG
        ours[tag] = value
    before = 8 + len(ours.tobytes(8))
    if TILES in chosen:  # the places of strips are moved by Pillow, those of tiles are not
        ours[TILES] = tuple(int(place) + before for place in np.atleast_1d(chosen[TILES]))
    start = b"\x08\0\0\0" if data[:2] == b"II" else b"\0\0\0\x08"
    return head[:4] + start + ours.tobytes(8) + data


def _of_plane(chosen: dict[int, Any], plane: int) -> dict[int, Any]:
    """The tags that make one plane a grey image: planes follow each other, strip by strip."""
    samples = _first(chosen, SAMPLES, 1)
    found: dict[int, Any] = {SAMPLES: 1, PLANES: 1, PHOTOMETRIC: BLACK_IS_ZERO}
    for tag in _PLACES:
        places = chosen.get(tag)
        if isinstance(places, tuple):
            count = len(places) // samples
            found[tag] = places[plane * count : (plane + 1) * count]
    for tag in (BITS, SAMPLE_FORMAT):
        if tag in chosen:
            found[tag] = _first(chosen, tag, 1)
    return {tag: value for tag, value in chosen.items() if tag != EXTRA_SAMPLES} | found
