"""Image files to 8-bit arrays, and to the hash that names their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from outerfold.storage.records import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
from outerfold.storage.images.pixels import DECODE_ERRORS, ByteArray, window

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".pgm", ".tif", ".tiff", ".dcm"})
"""Lower-case suffixes of files that count as images."""


def is_image(path: Path) -> bool:
    """Whether the suffix is that of an image, in any case; hidden files are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: Path | str) -> ByteArray:
    """The image as (h, w, 3) RGB, 0..255.

    Grey, palette, 1-bit and CMYK files are converted, alpha is dropped, EXIF rotation applied.
    Grey of more than 8 bits is stretched between the percentiles of ``WINDOW``; for DICOM see
    ``storage/images/dicom.py``.

    Raises:
        DataError: unreadable, empty or truncated file; DICOM without pydicom.
    """
    path = Path(path)
    if path.suffix.lower() == ".dcm":
        from outerfold.storage.images.dicom import read_dicom

        return _rgb(read_dicom(path))
    return _rgb(_decode(path))


def read_thumbnail(path: Path | str, side: int = 64) -> ByteArray:
    """The image squeezed to (side, side) grey, aspect ratio not kept.

    JPEGs are decoded at reduced scale, several times faster than ``read_image``; the whole
    file is still read, so damage shows.

    Raises:
        DataError: as ``read_image``.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() in {".jpg", ".jpeg"}:
        grey = _decode(path, draft=2 * side)
    else:
        grey = read_image(path)
    image = Image.fromarray(grey).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.uint8)


def content_hash(path: Path | str) -> str:
    """SHA-256 of the file's bytes, hexadecimal; a file is read once a process, until it changes.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        now = Path(path).stat()
        return _hashed(str(path), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=1 << 20)
def _hashed(path: str, *_state: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _decode(path: Path, *, draft: int = 0) -> ByteArray:
    """(h, w) or (h, w, 3) uint8; ``draft`` > 0 lets JPEG shrink to no less than that side."""
    from PIL import Image

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the image file is empty (0 bytes); replace or remove it")
        with Image.open(path) as image:
            if draft:
                image.draft("L", (draft, draft))
            return _as_bytes(image)
    except DataError:
        raise
    except (*DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from error


def _as_bytes(image: PilImage) -> ByteArray:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        return window(np.asarray(upright, dtype=np.float64))
    mode = "L" if upright.mode in {"1", "L"} else "RGB"
    return np.array(upright.convert(mode), dtype=np.uint8)


def _rgb(pixels: ByteArray) -> ByteArray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
