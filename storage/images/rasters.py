"""Decoding of JPEG, PNG, TIFF and other picture files to 8-bit pixels."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.errors import first_line
from outerfold.storage.images.decoding import DEEP, SHALLOW, decoding_turn
from outerfold.storage.images.pixels import (
    DECODE_ERRORS,
    Decoded,
    is_crushed,
    require_size,
    window,
)
from outerfold.storage.images.tiffs import (
    BITS,
    ORIENTATION,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    WHITE_IS_ZERO,
    decode_by_opencv,
    read_tiff,
)
from outerfold.storage.records import ByteArray, DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

FORMATS = ("JPEG", "PNG", "PPM", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000")
"""Pillow's decoders that are used. Others are never tried: the one of PostScript runs a program."""

TIFF = {b"II*\0": 8, b"MM\0*": 8, b"II+\0": 16}
"""First bytes of a TIFF, the last of one with places of 64 bits, and the bytes of its header."""

SUBFILE = 254
"""Tag of a TIFF file that tells a reduced copy from an image (TIFF 6.0, section 8)."""

FEW_BYTES = 64
"""Bytes that an encoder may leave before the end marker; libjpeg passes over them."""
OF_THE_SCAN = 8
"""Zeros before the end marker that are kept, since they may be of the scan and not its padding."""
_CORRUPT = re.compile(r"Corrupt JPEG data: (?:(\d+) extraneous bytes before marker 0xd9)?")
_OPENING = threading.Lock()


def decode_raster(path: Path, data: bytes, *, draft: int = 0) -> Decoded:
    """Pixels of the bytes of a file that is no DICOM.

    Args:
        path: the file, for messages.
        data: its bytes.
        draft: with more than 0, a JPEG is decoded at reduced scale, with sides of at least that.

    Raises:
        DataError: the bytes cannot be decoded, are cut off, or hold several or too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _open(data) as image, _turn_of(path, image):
            _require_one_image(path, image)
            if image.format in {"JPEG", "MPO"}:
                _require_end(data)
                if draft:
                    _require_undamaged(data)
                    image.draft("L", (draft, draft))
            return _to_eight_bits(image, data)
    except DataError:
        raise
    except (*DECODE_ERRORS, Image.DecompressionBombError) as error:
        if isinstance(error, UnidentifiedImageError) and data[:4] in TIFF:
            return _decode_deep_tiff(path, data)
        unknown = isinstance(error, UnidentifiedImageError)  # its text names an object of ours
        raise DataError(
            f"{path}: cannot be decoded as an image "
            f"({'its format is not known' if unknown else error}); replace or remove the file"
        ) from error


def _open(data: bytes) -> PilImage:
    """An image whose header was read; the limit of pixels is ours, not Pillow's warning.

    Pillow's own limit is a setting of the process, which other code of the process relies on.
    """
    from PIL import Image

    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(BytesIO(data), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _turn_of(path: Path, image: PilImage) -> Iterator[None]:
    pixels = image.width * image.height
    require_size(path, pixels)
    deep = image.mode == "F" or image.mode.startswith("I") or _is_deep_colour(image)
    with decoding_turn(pixels, DEEP if deep else SHALLOW):
        yield


def _require_one_image(path: Path, image: PilImage) -> None:
    """Refuse several pages or frames; reduced copies of one image and previews of a JPEG count not.

    Raises:
        DataError: there are several.
    """
    pages = getattr(image, "n_frames", 1) if image.format not in {"JPEG", "MPO"} else 1
    if pages > 1 and image.format == "TIFF":
        pages = sum(not _is_reduced(image, page) for page in range(pages))
        image.seek(0)
    if pages > 1:
        raise DataError(
            f"{path}: holds {pages} pages or frames, but a file must hold one image; export them "
            "as files of their own"
        )


def _is_reduced(image: PilImage, page: int) -> bool:
    """Whether a page of a TIFF is a smaller copy (bit 0) or a mask (bit 2) of another one."""
    image.seek(page)
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return bool(int(tags.get(SUBFILE, 0)) & 5)


def _require_end(data: bytes) -> None:
    """Refuse a JPEG whose scan never ends, as a file does of which the rest is missing or zero.

    Pillow fills up what is missing without an error if enough bytes follow.

    Raises:
        ValueError: there is no end marker after the first scan.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    # Within a scan 0xFF is always followed by 0 or a restart marker, so this is no pixel.
    if data.find(b"\xff\xd9", at) < 0:
        raise ValueError("the JPEG has no end: part of the file is missing or zero")


def _require_undamaged(data: bytes) -> None:
    """Refuse a JPEG with damage inside its scan, as a lost sector of zeros makes it.

    Pillow and viewers show a grey area in its place without an error. libjpeg only warns, and
    simplejpeg tells its warnings. Black areas are none: a scan that is sound is read to its end.

    Raises:
        ValueError: libjpeg calls the data corrupt.
    """
    import simplejpeg

    end = data.rfind(b"\xff\xd9")
    # Some encoders pad a scan with zeros, which harms nothing. The first of them may be of the
    # scan: its last byte is 0 now and then, and 0 always follows a last 0xFF.
    scan = data[: min(end, len(data[:end].rstrip(b"\x00")) + OF_THE_SCAN)] + data[end:]
    try:
        simplejpeg.decode_jpeg(
            scan, colorspace="GRAY", strict=True, min_height=1, min_width=1, min_factor=8
        )
    except ValueError as warning:
        found = _CORRUPT.match(str(warning))
        if found and (found[1] is None or int(found[1]) >= FEW_BYTES):
            raise ValueError(f"part of the JPEG is damaged: {warning}") from None


def _to_eight_bits(image: PilImage, data: bytes) -> Decoded:
    from PIL import ImageOps

    if _is_deep_colour(image):
        return _decode_deep_colour(image, data)
    values = _single_channel(image)
    if values is None:
        upright = ImageOps.exif_transpose(image)
        mode = "L" if upright.mode in {"1", "L"} else "RGB"
        return Decoded(np.array(upright.convert(mode), dtype=np.uint8))
    shown = window(values)
    if _tag(image, PHOTOMETRIC) == 0:  # white is zero; Pillow inverts up to 8 bits only
        shown = np.where(np.isfinite(values), 255 - shown, 0).astype(np.uint8)
    crushed = is_crushed(shown, values)
    return Decoded(_turn(shown, _orientation(image)), crushed)


def _single_channel(image: PilImage) -> NDArray[Any] | None:
    """Values (h, w) of a grey image that has more than 8 bits or signed values; None for others."""
    signed = _tag(image, SAMPLE_FORMAT) == 2
    if image.mode == "L" and signed:
        return np.asarray(image).view(np.int8)
    if image.mode != "F" and not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    if image.mode == "I" and _tag(image, BITS) == 32 and not signed:
        return values.view(np.uint32)  # Pillow reads unsigned values as signed ones
    return values


def _tag(image: PilImage, number: int) -> int | None:
    """First value of a tag of a TIFF; None for other formats and where it is absent."""
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(number)
    return int(value[0] if isinstance(value, tuple) else value) if value is not None else None


def _is_deep_colour(image: PilImage) -> bool:
    """Whether a colour image has more than 8 bits a channel, of which Pillow keeps the highest."""
    tiles: Any = getattr(image, "tile", None)
    if image.mode not in {"RGB", "RGBA", "RGBX", "LA", "PA", "CMYK"} or not tiles:
        return False
    if image.format == "TIFF":
        return (_tag(image, BITS) or 8) > 8
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image) > 8
    arguments = tiles[0][3]
    if image.format == "PPM":
        return isinstance(arguments, tuple) and int(arguments[-1]) > 255
    return ";16" in str(arguments)


def _jpeg2000_bits(image: PilImage) -> int:
    """Bits of a channel by the image header box (ISO 15444-1, I.5.3.1); 8 where there is none."""
    file: Any = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    head = file.read(512)
    box = head.find(b"ihdr")
    return 8 if box < 0 or box + 15 > len(head) else (head[box + 14] & 127) + 1


def _decode_deep_colour(image: PilImage, data: bytes) -> Decoded:
    if image.format == "TIFF":
        values = read_tiff(data, image.tag_v2)  # type: ignore[attr-defined]
    else:
        values = decode_by_opencv(data)
        values = values[..., 2::-1] if values.ndim == 3 else values  # (h, w, 3), blue comes first
    shown = window(values)
    return Decoded(_turn(shown, _orientation(image)), is_crushed(shown, values))


def _decode_deep_tiff(path: Path, data: bytes) -> Decoded:
    """Values of a TIFF of a kind that Pillow does not read, such as 12 bits, float64 or float RGB.

    Raises:
        DataError: OpenCV cannot decode it either, or it holds several or too many pixels.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        tags = ImageFileDirectory_v2(data[: TIFF[data[:4]]])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if not {256, 257} <= set(tags):
            raise ValueError("its directory is cut off or gives no size")
        pixels = int(tags[256]) * int(tags[257])
        require_size(path, pixels)
        if tags.next:
            raise ValueError("it holds several pages")
        with decoding_turn(pixels, DEEP):
            values = read_tiff(data, tags)
            shown = window(values)
    except DataError:
        raise
    except DECODE_ERRORS as error:
        raise DataError(
            f"{path}: cannot be decoded as an image ({first_line(error)}); replace or remove the "
            "file"
        ) from error
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        shown = np.where(np.isfinite(values), 255 - shown, 0).astype(np.uint8)
    return Decoded(_turn(shown, int(tags.get(ORIENTATION, 1))), is_crushed(shown, values))


def _orientation(image: PilImage) -> int:
    return int(image.getexif().get(ORIENTATION, 1))


def _turn(pixels: ByteArray, orientation: int) -> ByteArray:
    """The pixels as the orientation of their EXIF tag says."""
    from PIL import Image, ImageOps

    if orientation == 1:
        return pixels
    flat = Image.fromarray(pixels)
    flat.getexif()[ORIENTATION] = orientation
    return np.array(ImageOps.exif_transpose(flat), dtype=np.uint8)
