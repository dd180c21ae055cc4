"""Demo data: synthetic breast images, written to disk in the layouts of the real data sets."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outerfold.storage.datasets.phantoms import (
    Anatomy,
    Lesion,
    LesionKind,
    draw_phantom,
    mask,
    texture,
)
from outerfold.storage.readers._base import SYNTHETIC_MARKER
from outerfold.storage.readers.mini_ddsm import SHEET
from outerfold.storage.readers.targets import Task
from outerfold.storage.records import ByteArray, DataError
from outerfold.storage.seeds import derive_seed

DEFAULT_PATIENTS: dict[Task, int] = {"multimodal": 150, "dbt": 240}
SHARES: dict[Task, dict[str, float]] = {
    "multimodal": {"Cancer": 0.28, "Benign": 0.34, "Normal": 0.38},
    "dbt": {"Cancer": 0.12, "Benign": 0.16, "Actionable": 0.18, "Normal": 0.54},
}
LETTERS = {"Normal": "A", "Cancer": "B", "Benign": "C"}
"""DDSM volume letter of each class; in the demo each class has one letter."""

VIEWS = (("LEFT", "CC"), ("LEFT", "MLO"), ("RIGHT", "CC"), ("RIGHT", "MLO"))
NOTICE = (
    "These images were made by a program (outerfold demo). They show no patient, and scores\n"
    "measured on them say nothing about real data.\n"
)
CONTRAST: dict[Task, dict[str, float]] = {
    "multimodal": {"Cancer": 0.56, "Benign": 0.32},
    "dbt": {"Cancer": 0.45, "Benign": 0.3, "Actionable": 0.5},
}
"""Median lesion contrast, as a share of 255 grey values. Contrasts vary around it, so that some
lesions are too faint to be found.

With the shifts below, a logistic regression on frozen EfficientNet-Lite0 features (and columns)
reaches a ROC-AUC of about 0.85 in patient-grouped folds; no model should come close to 1.
"""
DENSITY_SHIFT: dict[Task, float] = {"multimodal": 0.15, "dbt": 0.06}
COARSENESS_SHIFT: dict[Task, float] = {"multimodal": -0.17, "dbt": -0.06}
"""Changes of density and coarseness of the whole breast in cancer; they make views without a lesion
weakly informative."""


@dataclass(frozen=True)
class _Patient:
    name: str
    label: str
    anatomy: Anatomy
    lesion: Lesion | None
    age: int
    family_history: bool


def write_demo(root: Path, *, task: Task, seed: int = 0, patients: int | None = None) -> Path:
    """Write the demo of a task to ``root`` and return it; equal arguments give equal bytes.

    multimodal: the Mini-DDSM layout with four views of each patient. In ``DataWMask.xlsx`` some
    ages are missing and some densities are 0; the real set has no ``family_history`` column.
    dbt: class folders Normal, Actionable, Benign, Cancer with file names like ``DBT-P00013``.

    Args:
        root: folder that does not exist or is empty; it appears complete or not at all.
        task: ``multimodal`` or ``dbt``.
        seed: seed of all random numbers.
        patients: number of patients; None means 150 for multimodal (600 images) and 240 for dbt
            (about 600 images).

    Raises:
        DataError: ``root`` is not empty, or there are too few patients for the classes.
    """
    count = DEFAULT_PATIENTS[task] if patients is None else patients
    if count < 2 * len(SHARES[task]):
        raise DataError(
            f"a demo of {task} needs at least {2 * len(SHARES[task])} patients, found {count}"
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: is not empty; give the demo a new or empty folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        (partial / SYNTHETIC_MARKER).write_text(NOTICE, encoding="utf-8")
        people = _population(task, count, seed)
        (_write_mini_ddsm if task == "multimodal" else _write_dbt)(partial, people, seed)
        partial.chmod(0o755)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return root


def _population(task: Task, count: int, seed: int) -> list[_Patient]:
    """``count`` patients in random order, with the class shares of ``SHARES``."""
    shares = SHARES[task]
    sizes = {label: max(2, round(share * count)) for label, share in shares.items()}
    sizes["Normal"] += count - sum(sizes.values())
    labels = [label for label, size in sizes.items() for _ in range(size)]
    np.random.default_rng(derive_seed(seed, "demo", task, "order")).shuffle(labels)
    return [
        _draw_patient(task, number, label, seed) for number, label in enumerate(labels, start=1)
    ]


def _draw_patient(task: Task, number: int, label: str, seed: int) -> _Patient:
    rng = np.random.default_rng(derive_seed(seed, "demo", task, "patient", number))
    cancer = label == "Cancer"
    density = float(np.clip(rng.normal(0.42 + DENSITY_SHIFT[task] * cancer, 0.24), 0, 1))
    anatomy = Anatomy(
        density=density,
        size=float(np.clip(rng.normal(1, 0.08), 0.8, 1.2)),
        coarseness=float(rng.normal(1.85 + COARSENESS_SHIFT[task] * cancer, 0.16)),
        gain=float(rng.normal(1, 0.07)),
    )
    name = f"DBT-P{number:05d}" if task == "dbt" else f"{LETTERS[label]}_{number:04d}"
    return _Patient(
        name=name,
        label=label,
        anatomy=anatomy,
        lesion=_draw_lesion(task, label, rng),
        age=int(np.clip(rng.normal(53 + 9 * cancer, 11), 27, 89)),
        family_history=bool(rng.random() < (0.3 if cancer else 0.14)),
    )


def _draw_lesion(task: Task, label: str, rng: np.random.Generator) -> Lesion | None:
    kinds: dict[str, tuple[LesionKind, ...]] = {
        "Cancer": ("spiculated", "spiculated", "spiculated", "distortion"),
        "Benign": ("round", "round", "round", "spiculated"),
        "Actionable": ("distortion", "distortion", "round"),
    }
    if label not in kinds:
        return None
    kind = kinds[label][int(rng.integers(len(kinds[label])))]
    contrast = CONTRAST[task][label] * float(np.exp(rng.normal(0, 0.5)))
    return Lesion(kind, radius=float(rng.uniform(14, 26)), contrast=min(contrast, 0.8))


def _draw_views(
    patient: _Patient, task: Task, seed: int
) -> Iterator[tuple[str, str, ByteArray, np.random.Generator]]:
    """Side, view, image (224, 224) and random generator of each view of a patient.

    A patient has all four views for multimodal and one to four for dbt.
    """
    rng = np.random.default_rng(derive_seed(seed, "demo", task, "views", patient.name))
    field = texture(rng, patient.anatomy.coarseness)
    affected = VIEWS[int(rng.integers(4))][0]
    chosen = VIEWS if task == "multimodal" else _choose_views(rng)
    for side, view in chosen:
        shown = patient.lesion if task == "dbt" or side == affected else None
        image = draw_phantom(
            patient.anatomy, field, shown, rng, left=side == "LEFT", oblique=view == "MLO"
        )
        yield side, view, image, rng


def _choose_views(rng: np.random.Generator) -> tuple[tuple[str, str], ...]:
    order = rng.permutation(4)[: int(rng.integers(1, 5))]
    return tuple(VIEWS[at] for at in sorted(order.tolist()))


def _write_dbt(root: Path, people: list[_Patient], seed: int) -> None:
    from PIL import Image

    for patient in people:
        folder = root / patient.label
        folder.mkdir(exist_ok=True)
        for side, view, image, _ in _draw_views(patient, "dbt", seed):
            name = f"{patient.name}_{side[0].lower()}{view.lower()}.png"
            Image.fromarray(image).save(folder / name, compress_level=6)


def _write_mini_ddsm(root: Path, people: list[_Patient], seed: int) -> None:
    rows: list[list[object]] = []
    for patient in people:
        rows += _write_case(root, patient, seed)
    (root / SHEET).write_bytes(_make_sheet(rows))


HEADER = (
    "fullPath",
    "fileName",
    "View",
    "Side",
    "Status",
    "Tumour_Contour",
    "Tumour_Contour2",
    "Age",
    "Density",
    "family_history",
)


def _write_case(root: Path, patient: _Patient, seed: int) -> list[list[object]]:
    """Write one case folder; return its rows of the sheet, in the order of ``HEADER``."""
    from PIL import Image

    number = patient.name.split("_")[1]
    folder = root / patient.label / number
    folder.mkdir(parents=True)
    random = np.random.default_rng(derive_seed(seed, "demo", "sheet", patient.name))
    age = None if random.random() < 0.05 else patient.age
    density = 0 if random.random() < 0.03 else 1 + int(np.clip(patient.anatomy.density * 4, 0, 3))
    family = None if random.random() < 0.08 else "yes" if patient.family_history else "no"
    masked = patient.lesion is not None and random.random() < 0.1
    rows: list[list[object]] = []
    for side, view, image, rng in _draw_views(patient, "multimodal", seed):
        stem = f"{patient.name}_1.{side}_{view}"
        Image.fromarray(image).save(folder / f"{stem}.jpg", quality=90)
        contour = "-"
        if masked and patient.lesion is not None and view == "CC":
            Image.fromarray(mask(patient.lesion.radius, rng)).save(folder / f"{stem}_Mask.jpg")
            contour = f"{patient.label}\\{number}\\{stem}_Mask.jpg"
        path = f"{patient.label}\\{number}\\{stem}.jpg"
        rows.append(
            [path, f"{stem}.jpg", view, side, patient.label, contour, "-", age, density, family]
        )
    return rows


def _make_sheet(rows: list[list[object]]) -> bytes:
    """Bytes of an Excel file of the rows, which depend on the rows alone.

    The current time that openpyxl writes into the file is replaced by a fixed time.
    """
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(list(HEADER))
    for row in rows:
        book.active.append(row)
    stamped = io.BytesIO()
    book.save(stamped)
    plain = io.BytesIO()
    with zipfile.ZipFile(stamped) as source, zipfile.ZipFile(plain, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2000-01-01T00:00:00Z", content)
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return plain.getvalue()
