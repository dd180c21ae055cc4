"""Small real image folders for storage tests, and the shared real data where it is."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.places import ROOT


def real_data(name: str) -> Path:
    """A folder of the shared real data; skips the test where it is absent."""
    folder = Path(os.environ.get("OUTERFOLD_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"real data {folder} absent; set OUTERFOLD_DATA")
    return folder


def picture(seed: int, side: int = 48) -> np.ndarray:
    """(side, side) smooth random grey, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def write_picture(path: Path, seed: int, side: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, side)).save(path)
    return path


def class_folders(root: Path, sizes: dict[str, int], views: int = 1) -> Path:
    """ROOT/CLASS/P007_0.png: ``sizes[class]`` patients of ``views`` images each."""
    number = 0
    for name, patients in sizes.items():
        for _ in range(patients):
            number += 1
            for view in range(views):
                write_picture(root / name / f"P{number:03d}_{view}.png", 100 * number + view)
    return root


def write_metadata(root: Path, header: str, rows: list[str], name: str = "metadata.csv") -> Path:
    (root / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root / name


def picture_bytes(seed: int) -> bytes:
    """A PNG of 8 x 8 pixels, different for every seed."""
    file = BytesIO()
    Image.fromarray(picture(seed, 8)).save(file, "PNG")
    return file.getvalue()
