"""Reading of image files as 8-bit arrays, and the hash of a file's content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from outerfold.storage.images.pixels import Decoded
from outerfold.storage.images.rasters import decode_raster
from outerfold.storage.records import ByteArray, DataError

_SUFFIXES = ".jpg .jpeg .png .pgm .ppm .tif .tiff .bmp .webp .gif .jp2 .dcm .dicom"
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())
"""Lower-case suffixes of files that count as images."""


def is_image(path: Path) -> bool:
    """Whether a file has an image suffix, in upper or lower case, and is not hidden.

    A file without a suffix, or with digits for one, counts if it begins as DICOM does.
    """
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix[1:] and not suffix[1:].isdigit():
        return suffix in {".dcm", ".dicom"}
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_image(path: Path | str, content: str = "") -> ByteArray:
    """Pixels (h, w, 3) of an image file as RGB, 0..255.

    Grey, palette, 1-bit and CMYK files are converted, alpha is dropped and EXIF rotation applied.
    Values of more than 8 bits are stretched between the percentiles of ``WINDOW``; for DICOM see
    ``storage/images/dicom.py``.

    Args:
        path: the image file.
        content: SHA-256 that the file must have, of the very bytes that are decoded; empty for any.

    Raises:
        DataError: the file cannot be read, is empty, truncated or too large, holds several images,
            has another content, or is DICOM without pydicom.
    """
    path = Path(path)
    data = _read_bytes(path)
    if content and hashlib.sha256(data).hexdigest() != content:
        raise DataError(
            f"{path}: was changed while the data were read; give the command again once nothing "
            "writes to it"
        )
    return _repeat_grey(_decode(path, data).pixels)


def require_readable(path: Path) -> None:
    """Refuse a file that is no image, by its name or by its content, before any work is done.

    Raises:
        DataError: the file does not exist, is no image file, or cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path}: does not exist; check the path")
    if not path.is_file() or not is_image(path):
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{path}: is no image file; known suffixes are {suffixes}")
    examine_image(path, 64)


def read_thumbnail(path: Path | str, side: int = 64) -> ByteArray:
    """Pixels (side, side) of an image file as grey, 0..255; the aspect ratio is not kept.

    A JPEG is decoded at reduced scale, several times faster than by ``read_image``; the whole
    file is still read, so that damage is found.

    Raises:
        DataError: in the same cases as ``read_image``.
    """
    return examine_image(path, side)[0]


def examine_image(path: Path | str, side: int) -> tuple[ByteArray, bool]:
    """Return ``read_thumbnail`` and whether the 8-bit image has lost most of the file's levels.

    Raises:
        DataError: in the same cases as ``read_image``.
    """
    from PIL import Image

    path = Path(path)
    decoded = _decode(path, _read_bytes(path), draft=2 * side)
    image = Image.fromarray(decoded.pixels).convert("L")
    small = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8), decoded.crushed


def _decode(path: Path, data: bytes, *, draft: int = 0) -> Decoded:
    if _is_dicom(path):
        from outerfold.storage.images.dicom import read_dicom

        return read_dicom(path, data)
    return decode_raster(path, data, draft=draft)


def find_identities(path: Path | str) -> tuple[str, ...]:
    """Names of the DICOM tags of a file that tell who is shown; empty for other files."""
    path = Path(path)
    if not _is_dicom(path):
        return ()
    from outerfold.storage.images import dicom

    return dicom.find_identities(path)


def read_patient_ids(paths: Sequence[Path]) -> tuple[str, ...]:
    """The DICOM tag ``PatientID`` of n files; empty where a file has none.

    There are no texts at all unless every file is DICOM. Only headers are read.
    Without pydicom no file has the tag.
    """
    from joblib import Parallel, delayed

    if not all(map(_is_dicom, paths)):
        return ()
    from outerfold.storage.images.dicom import read_patient_id

    workers = Parallel(n_jobs=8, prefer="threads")
    return tuple(workers(delayed(read_patient_id)(path) for path in paths))


def content_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes, 64 hex digits; a process reads a file again only if it changed.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        now = Path(path).stat()
        return _hash_file(str(path), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    except OSError as error:
        dead = Path(path).is_symlink() and not Path(path).exists()
        why = "it is a link to a file that is not there" if dead else error.strerror
        raise DataError(f"{path}: cannot be read ({why})") from error


@lru_cache(maxsize=1 << 20)
def _hash_file(path: str, *_state: int) -> str:
    # ``_state`` (inode, size and times) is part of the cache's key: a changed file is read again.
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from error
    if not data:
        raise DataError(f"{path}: the image file is empty (0 bytes); replace or remove it")
    return data


def _repeat_grey(pixels: ByteArray) -> ByteArray:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
