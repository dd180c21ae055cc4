"""Conversion of one DICOM image to 8-bit pixels, with the display settings in its tags."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.images.pixels import DECODE_ERRORS, window
from outerfold.storage.records import ByteArray, DataError

Values = NDArray[np.float64]

DICOM_ERRORS = (AttributeError, KeyError, TypeError, RuntimeError, NotImplementedError)
"""Errors that pydicom raises for absent tags, invalid values and codecs that are not installed."""


def read_dicom(path: Path, data: bytes) -> ByteArray:
    """Pixels (h, w) or (h, w, 3) of a DICOM file, 0 (dark) to 255 (bright).

    Grey values are rescaled (slope and intercept, or a modality LUT), then windowed: by the VOI
    LUT, else by the first window, else between percentiles. Pixels of the padding value become
    black and are left out of the percentiles. MONOCHROME1 is inverted. Palettes become RGB.

    Args:
        path: the file, for messages.
        data: its bytes.

    Raises:
        DataError: the file cannot be decoded or has several frames, or pydicom is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise DataError(
            f"{path}: reading DICOM needs pydicom; install it with: pip install 'outerfold[dicom]'"
        ) from error
    try:
        dataset = pydicom.dcmread(BytesIO(data))
        pixels = _display_pixels(dataset)
    except (*DECODE_ERRORS, *DICOM_ERRORS, InvalidDicomError) as error:
        raise DataError(
            f"{path}: cannot be decoded as DICOM ({error}); replace or remove the file"
        ) from error
    if pixels.ndim > 2 and pixels.shape[-1] != 3:
        raise DataError(
            f"{path}: holds {pixels.shape[0]} frames, but a file must hold one image; "
            "export the slices or a synthetic 2D view first"
        )
    return pixels


def _display_pixels(dataset: Any) -> ByteArray:
    """Pixels (h, w) or (h, w, 3), 0..255; (frames, h, w) for a volume."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    raw = pixel_array(dataset)
    meaning = str(dataset.get("PhotometricInterpretation", ""))
    if meaning == "PALETTE COLOR" and raw.ndim == 2:
        return _eight_bits(apply_color_lut(raw, dataset)[..., :3])
    if raw.ndim != 2:
        return _eight_bits(raw)
    grey = _grey(raw, dataset)
    return np.where(
        _padding(raw, dataset), 0, np.invert(grey) if meaning == "MONOCHROME1" else grey
    )


def _eight_bits(colours: NDArray[Any]) -> ByteArray:
    """Colour values (h, w, 3) in 8 bits; of deeper values the highest byte is kept."""
    return np.asarray(colours >> 8 * (colours.dtype.itemsize - 1), dtype=np.uint8)


def _grey(raw: NDArray[Any], dataset: Any) -> ByteArray:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    if "VOILUTSequence" in dataset:
        modality = np.rint(apply_modality_lut(raw, dataset)).astype(np.int64)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        shown = apply_voi(modality, dataset).astype(np.float64) / (2**bits - 1)
        return np.asarray(np.round(np.clip(shown, 0, 1) * 255), dtype=np.uint8)
    values = np.asarray(apply_modality_lut(raw, dataset), dtype=np.float64)
    centre, width = (_first(dataset.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None:
        shown = _windowed(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
        return np.asarray(np.round(shown * 255), dtype=np.uint8)
    counted = values[~_padding(raw, dataset)]
    return window(values, counted if counted.size else None)


def _windowed(values: Values, centre: float, width: float, function: str) -> Values:
    """Values (h, w) as shares 0..1 of the display's range.

    Reference: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.

    Raises:
        ValueError: the function does not allow this width.
    """
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or (width == 0 and function != "LINEAR"):
        raise ValueError(f"window width {width:g} is too small")
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
