"""Grey values of DICOM files beside those of a second reader, SimpleITK, which reads with GDCM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK
from numpy.typing import NDArray

from outerfold.storage.images.pixels import WINDOW
from outerfold.storage.images.read import read_image
from outerfold.storage.records import DataError

COLOUR = 3
"""Levels by which two decoders of JPEG colours may differ."""
FEWEST = 30
"""Files that both readers must read for the comparison to say anything."""


def second_values(path: Path) -> NDArray[np.float64] | None:
    """Values (h, w), after rescale, or colours (h, w, 3); None where SimpleITK reads no such."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError:
        return None
    values = np.squeeze(values)
    grey = values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 3)
    return values.astype(np.float64) if grey else None


def displayed(values: NDArray[np.float64], tags: Any) -> NDArray[np.float64]:
    """The display values 0..255 by the formulas of DICOM PS3.3, C.11.2.1.2.1, written anew."""
    width, centre = tags.get("WindowWidth"), tags.get("WindowCenter")
    if width is not None and centre is not None:
        c, w = (
            float(v[0] if isinstance(v, pydicom.multival.MultiValue) else v)
            for v in (centre, width)
        )
        inside = ((values - (c - 0.5)) / (w - 1) + 0.5) * 255
        shown = np.where(values <= c - 0.5 - (w - 1) / 2, 0.0, inside)
        shown = np.where(values > c - 0.5 + (w - 1) / 2, 255.0, shown)
    else:
        low, high = np.percentile(values, WINDOW)
        low, high = (low, high) if high > low else (values.min(), values.max())
        shown = np.clip((values - low) / ((high - low) or 1.0), 0, 1) * 255
    return 255 - shown if tags.PhotometricInterpretation == "MONOCHROME1" else shown


def is_compared(tags: Any) -> bool:
    """Whether these few formulas say how a file is shown."""
    if int(tags.get("SamplesPerPixel", 1)) == 3:
        return int(tags.get("BitsStored", 8)) == 8
    special = ("VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue", "VOILUTFunction")
    width = tags.get("WindowWidth")
    first = width[0] if isinstance(width, pydicom.multival.MultiValue) else width
    held = 2 ** int(tags.get("BitsStored", 16)) * abs(float(tags.get("RescaleSlope") or 1))
    return (
        str(tags.get("PhotometricInterpretation")).startswith("MONOCHROME")
        and not any(tags.get(name) for name in special)
        and (first is None or 1 < float(first) <= 8 * held)
    )


def compare(path: Path) -> bool:
    """Whether both readers read a file; their pictures must then agree to one grey level."""
    try:
        tags = pydicom.dcmread(path, stop_before_pixels=True)
        if not is_compared(tags):
            return False
        own = read_image(path).astype(np.float64)
    except (DataError, pydicom.errors.InvalidDicomError, AttributeError):
        return False
    values = second_values(path)
    if values is None or values.shape[:2] != own.shape[:2]:
        return False
    if values.ndim == 3:
        np.testing.assert_allclose(own, values, atol=COLOUR, err_msg=path.name)
        return True
    own = own[..., 0]
    if len(np.unique(own)) < 32:
        return False
    np.testing.assert_allclose(own, displayed(values, tags), atol=1.01, err_msg=path.name)
    return True


@pytest.mark.filterwarnings("ignore")
def test_grey_values_are_those_of_a_second_reader() -> None:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    small = [path for path in folder.glob("*.dcm") if path.stat().st_size < 600_000]
    assert sum(map(compare, small)) >= FEWEST
