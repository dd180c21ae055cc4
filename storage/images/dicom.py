"""Conversion of one DICOM image to 8-bit pixels, with the display settings in its tags."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.images.decoding import DEEP, decoding_turn
from outerfold.storage.images.pixels import (
    DECODE_ERRORS,
    FEW_LEVELS,
    Decoded,
    is_crushed,
    require_size,
    window,
)
from outerfold.storage.records import ByteArray, DataError

Values = NDArray[np.float64]

DICOM_ERRORS = (*DECODE_ERRORS, AttributeError, RuntimeError, zlib.error)
"""Errors that pydicom raises for absent tags, invalid values and codecs that are not installed."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""UID of the only syntax in which all elements are compressed, those of the size among them."""

IDENTITIES, BURNED_IN = ("PatientName", "PatientBirthDate"), "BurnedInAnnotation"
PATIENT = "PatientID"
ANONYMOUS = frozenset(
    [
        "",
        "anonymous",
        "anonymized",
        "anonymised",
        "anon",
        "removed",
        "none",
        "unknown",
        "deidentified",
    ]
)
"""Names, in lower case, of nobody."""

BYTES_A_PIXEL = 8
"""Bytes of a deflated file at most, for each pixel that an image may have."""


def read_dicom(path: Path, data: bytes) -> Decoded:
    """Pixels of a DICOM file, 0 (dark) to 255 (bright).

    Grey values are rescaled (slope and intercept, or a modality LUT), then windowed: by the VOI
    LUT, else by the first window, else between percentiles. Empty tables, windows of no width, and
    windows in which the values could take fewer than 32 levels are passed over. Pixels of the
    padding value become black and are left out of the percentiles. MONOCHROME1 is inverted.
    Palettes become RGB; deep colour is stretched as grey is. A file may lack its preamble.

    Args:
        path: the file, for messages.
        data: its bytes.

    Raises:
        DataError: the file cannot be decoded, has several frames or too many pixels, or pydicom or
            its codec is not installed.
    """
    try:
        import pydicom  # noqa: F401
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise DataError(
            f"{path}: reading DICOM needs pydicom; install it with: pip install 'outerfold[dicom]'"
        ) from error
    try:
        dataset = _parse(path, data)
        with decoding_turn(_require_one_frame(path, dataset), DEEP):
            return _display_pixels(dataset)
    except DataError:
        raise
    except (*DICOM_ERRORS, InvalidDicomError, BytesLengthException) as error:
        raise DataError(f"{path}: {_told(str(error))}") from error


def find_identities(path: Path) -> tuple[str, ...]:
    """Names of the tags by which a DICOM file tells who is shown, or says that its picture does.

    Empty or anonymised values, and a name that repeats the patient's id, are none. A file that
    cannot be read has none.
    """
    found = _read_tags(path, (*IDENTITIES, BURNED_IN, PATIENT))
    own = found.get(PATIENT, "")
    named = [name for name in IDENTITIES if not _is_anonymous(found.get(name, ""), own)]
    return (*named, *([BURNED_IN] if found.get(BURNED_IN, "").upper() == "YES" else []))


def read_patient_id(path: Path) -> str:
    """Text of the tag ``PatientID``; empty where a file has none, or cannot be read."""
    return _read_tags(path, (PATIENT,)).get(PATIENT, "")


def _read_tags(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Texts of tags of a file's header; empty where the file cannot be read, or without pydicom."""
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError:
        return {}
    try:
        with path.open("rb") as file:
            if DEFLATED in file.read(2048):  # its tags would be decompressed with its pixels
                return {}
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names))
        return {name: str(found.get(name) or "").strip() for name in names}
    except (*DICOM_ERRORS, InvalidDicomError):
        return {}


def _is_anonymous(value: str, own: str) -> bool:
    plain = value.replace("^", " ").strip().lower()
    return plain in ANONYMOUS or value == own or not plain.strip("x0-. *")


def _told(error: str) -> str:
    if "missing dependencies" in error or "missing required dependencies" in error:
        syntax = error.split("'")[1] if error.count("'") > 1 else "this syntax"
        return (
            f"the codec of {syntax} is not installed; install it with: "
            "pip install 'outerfold[dicom]'"
        )
    first = " ".join(error.split())
    return f"cannot be decoded as DICOM ({first}); replace or remove the file"


def _parse(path: Path, data: bytes) -> Any:
    """The data set of a file, also of one without preamble and file meta information.

    Raises:
        InvalidDicomError: the bytes are no DICOM.
        DataError: the file would be larger than an image may be.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    if DEFLATED in data[:2048]:
        _require_bounded(path, data)
    try:
        dataset = pydicom.dcmread(BytesIO(data))
    except InvalidDicomError:
        dataset = pydicom.dcmread(BytesIO(data), force=True)
        if "Rows" not in dataset or "PixelData" not in dataset:
            raise
    if not dataset.file_meta.get("TransferSyntaxUID"):
        from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _require_bounded(path: Path, data: bytes) -> None:
    """Refuse a deflated file whose size is beyond any image; no more than a block is kept."""
    start = 144 + int.from_bytes(data[140:144], "little")  # after the group of the file's meta data
    engine, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[start:]
    while rest and not engine.eof:
        size += len(engine.decompress(rest, 1 << 20))
        require_size(path, size // BYTES_A_PIXEL)
        rest = engine.unconsumed_tail


def _require_one_frame(path: Path, dataset: Any) -> int:
    """Number of pixels of the one frame; several frames or too many pixels are refused."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(
            f"{path}: holds {frames} frames, but a file must hold one image; "
            "export the slices or a synthetic 2D view first"
        )
    pixels = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    require_size(path, pixels)
    return pixels


def _display_pixels(dataset: Any) -> Decoded:
    """Pixels (h, w) or (h, w, 3), 0..255.

    Raises:
        ValueError: the values have another shape.
    """
    from pydicom.pixels.processing import apply_color_lut

    raw = _stored_values(dataset)
    meaning = str(dataset.get("PhotometricInterpretation", ""))
    if raw.ndim == 3 and raw.shape[-1] == 3:
        deep = int(dataset.get("BitsStored") or 8) > 8
        shown = window(raw) if deep else np.asarray(raw, dtype=np.uint8)
        return Decoded(shown, deep and is_crushed(shown, raw))
    if raw.ndim != 2:
        raise ValueError(f"values of shape {raw.shape} are no image")
    if meaning == "PALETTE COLOR":
        table = apply_color_lut(raw, dataset)[..., :3]
        return Decoded(np.asarray(table >> 8 * (table.dtype.itemsize - 1), dtype=np.uint8))
    grey, padding = _grey(raw, dataset), _padding(raw, dataset)
    shown = np.where(padding, 0, np.invert(grey) if meaning == "MONOCHROME1" else grey)
    return Decoded(shown, is_crushed(shown, raw))


def _stored_values(dataset: Any) -> NDArray[Any]:
    """Values of the bits that hold the pixel: ``BitsStored`` bits, the highest of them ``HighBit``.

    pydicom takes the lowest bits whatever ``HighBit`` says. So do files that fill only these.
    """
    from pydicom.pixels.utils import pixel_array

    stored, high = int(dataset.get("BitsStored") or 0), int(dataset.get("HighBit") or 0)
    allocated = int(dataset.get("BitsAllocated") or 0)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if compressed or not 0 < stored <= high < allocated:
        return pixel_array(dataset)
    whole = pixel_array(dataset, correct_unused_bits=False)
    below = 2 ** (high + 1 - stored) - 1
    if np.any(whole & below) and whole.min() >= 0 and whole.max() < 2**stored:
        return pixel_array(dataset)
    return (whole << (allocated - 1 - high)) >> (allocated - stored)


def _grey(raw: NDArray[Any], dataset: Any) -> ByteArray:
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(raw, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence"):
        return _by_table(values, dataset)
    centre, width = (_first(dataset.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if centre is not None and width is not None and _is_window(width, function, dataset):
        shown = _windowed(values, centre, width, function)
        return np.asarray(np.round(shown * 255), dtype=np.uint8)
    counted = values[~_padding(raw, dataset)]
    return window(values, counted if counted.size else None)


def _by_table(values: Values, dataset: Any) -> ByteArray:
    """Values as the VOI LUT shows them; white is its largest entry if that lacks declared bits."""
    from pydicom.pixels.processing import apply_voi

    whole = np.rint(values).astype(np.int64)
    item = dataset.VOILUTSequence[0]
    white = 2 ** int(item.LUTDescriptor[2]) - 1
    first, count = int(item.LUTDescriptor[1]), int(item.LUTDescriptor[0]) or 2**16
    entries = apply_voi(np.arange(first, first + count), dataset)
    if 0 < int(entries.max()) < white // 2:
        white = int(entries.max())
    shown = np.clip(apply_voi(whole, dataset).astype(np.float64) / white, 0, 1)
    return np.asarray(np.round(shown * 255), dtype=np.uint8)


def _is_window(width: float, function: str, dataset: Any) -> bool:
    """Whether a window can be meant: it has a width, and its values can take enough levels.

    A window of 12 bits on a picture of 8 bits was left over from the acquisition: at most 16 of
    256 levels would be seen.
    """
    least = 1.0 if function == "LINEAR" else 0.0
    if not least <= width < np.inf or (width == 0 and function != "LINEAR"):
        return False
    slope = abs(float(dataset.get("RescaleSlope") or 1))
    held = 2 ** int(dataset.get("BitsStored") or 16) * slope
    return "ModalityLUTSequence" in dataset or width * FEW_LEVELS <= held * 256


def _windowed(values: Values, centre: float, width: float, function: str) -> Values:
    """Values (h, w) as shares 0..1 of the display's range.

    Reference: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.
    """
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return np.asarray(values > centre, dtype=np.float64)
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def _padding(raw: NDArray[Any], dataset: Any) -> NDArray[np.bool_]:
    """Mask (h, w), True where a stored value is padding around the image.

    A file with a padding limit declares all values between the padding value and the limit.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(raw.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    found: NDArray[np.bool_] = (raw >= min(value, limit)) & (raw <= max(value, limit))
    return found


def _first(value: Any) -> float | None:
    """The number, or the first of several; further windows in a file are alternatives."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)
