"""What the framing of images is worth: a linear probe of frozen features, patients kept together.

    python -m benchmarks.preprocessing

Frozen EfficientNet-Lite0 features of BUS-BRA (pathology, and four BI-RADS classes) and of
BrEaST-Lesions-USG, from images stretched to a square, padded with black, and padded with the
encoder's mean colour; logistic regression with one fixed penalty on standardised features, trained
and tested on the same folds. Nothing is searched. Reads bus-bra/, breast-usg/ and mini-ddsm/ below
--data (or $OUTERFOLD_DATA) and writes preprocessing.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.coverage_report import markdown
from pipelines.encoders._base import Encoder
from pipelines.encoders.registry import build
from reports.intervals import overall, paired_difference
from reports.jackknife import Interval
from storage.breast import breast_box
from storage.files import write_text
from storage.framing import Framing
from storage.images import ByteArray, read_image
from storage.readers.read import read
from storage.records import Dataset, OuterFold, Predictions
from study.provenance import versions
from study.splits import split

HERE = Path(__file__).parent
ENCODER = "bundled:efficientnet_lite0"
PENALTY = 0.003
"""C of the logistic regression: 1280 features of a few hundred rows want a strong one."""
FOLDS, REPEATS, BATCH = 5, 3, 16
SHOWN_VERSIONS = ("python", "numpy", "scikit-learn", "timm", "torch")
WAYS = ("stretch", "pad, black", "pad, mean colour")


@dataclass(frozen=True, eq=False)
class Probed:
    """One question to one data set, answered from images framed in each way."""

    name: str
    data: Dataset
    answers: Mapping[str, Predictions]


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    start = time.perf_counter()
    encoder = build(ENCODER)
    probed = []
    for rows in (_bus_bra(options.data), _breast_usg(options.data)):
        found = {way: features(rows[0][1], encoder, way) for way in WAYS}
        probed += [_probe(name, data, found) for name, data in rows]
    seconds = time.perf_counter() - start
    parts = [
        "# What the framing of images is worth",
        f"`python -m benchmarks.preprocessing`: {REPEATS} repeats of {FOLDS} patient-grouped folds,"
        f" the same for every way; {seconds / 60:.1f} min on one thread.",
        "\n\n".join(section(one) for one in probed),
        "Differences: the paired patient jackknife (stretch 1.25, nothing was searched), the same "
        "patient left out of both. ROC-AUC of four classes is the mean of one against the rest.",
        cropping(options.data),
        "Versions: " + ", ".join(f"{name} {versions()[name]}" for name in SHOWN_VERSIONS) + ".",
    ]
    write_text(options.out / "preprocessing.md", "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def features(data: Dataset, encoder: Encoder, way: str) -> np.ndarray:
    """(n, dim) of images framed one way."""
    side = encoder.image_size
    fill = np.round(np.array(encoder.mean) * 255) if "mean" in way else np.zeros(3)
    with ThreadPoolExecutor(2) as pool:
        squares = list(
            pool.map(lambda path: framed(read_image(path), side, way, fill), data.features.images)
        )
    found = [
        encoder.encode(np.stack(squares[at : at + BATCH])).pooled
        for at in range(0, len(squares), BATCH)
    ]
    return np.concatenate(found)


def framed(image: ByteArray, side: int, way: str, fill: np.ndarray) -> ByteArray:
    """(side, side, 3); a padded frame of another colour than black is made by padding first."""
    if way == "stretch":
        return Framing("stretch").square(image, side)
    square = Framing("pad").square(image, side)
    inside = Framing("pad").square(np.full_like(image, 255), side)
    return np.where(inside > 0, square, fill.astype(np.uint8))


def section(one: Probed) -> str:
    """A row a way, each held against the stretched images."""
    patients = len(set(one.data.patients.tolist()))
    images = [read_size(path) for path in one.data.features.images]
    ratio = np.percentile([width / height for height, width in images], (5, 50, 95))
    rows = []
    for way, answer in one.answers.items():
        change = paired_difference(answer, one.answers["stretch"], tuned=False)["roc_auc"]
        estimate = overall(answer, tuned=False)["roc_auc"]
        rows.append([way, _spelt(estimate), "" if way == "stretch" else _spelt(change, sign="+")])
    size = f"{len(one.data):,} images of {patients:,} patients"
    shape = "width over height {:.2f}, {:.2f}, {:.2f} (5th, 50th, 95th percentile)".format(*ratio)
    table = markdown(["", "ROC-AUC (95 % CI)", "minus stretched (95 % CI)"], rows)
    return f"## {one.name}\n\n{size}, {shape}.\n\n{table}"


def cropping(folder: Path) -> str:
    """What ``--crop breast`` leaves of films, and of ultrasounds, which it should leave alone."""
    rows = []
    for name, pattern in (
        ("Mini-DDSM, films", "mini-ddsm/Benign/*/*.jpg"),
        ("BUS-BRA, ultrasounds", "bus-bra/*/*.jpg"),
        ("BrEaST-Lesions-USG, ultrasounds", "breast-usg/*/*.jpg"),
    ):
        paths = [path for path in sorted(folder.glob(pattern)) if "mask" not in path.name.lower()]
        shares = []
        for path in paths:
            image = read_image(path)
            top, bottom, left, right = breast_box(image)
            shares.append((bottom - top) * (right - left) / (image.shape[0] * image.shape[1]))
        cropped = np.array(shares)[np.array(shares) < 1]
        kept = f"{np.median(cropped):.0%}" if len(cropped) else "–"
        rows.append([name, str(len(paths)), str(len(cropped)), kept])
    table = markdown(["", "images", "cropped", "of a cropped image is kept (median)"], rows)
    return f"## What --crop breast cuts\n\n{table}"


def read_size(path: str) -> tuple[int, int]:
    height, width = read_image(path).shape[:2]
    return height, width


def _probe(name: str, data: Dataset, found: Mapping[str, np.ndarray]) -> Probed:
    studies = split(data, outer_folds=FOLDS, inner_folds=2, repeats=REPEATS, seed=0).studies
    folds = [fold for fold in studies if fold.test]
    return Probed(name, data, {way: _answer(data, rows, folds) for way, rows in found.items()})


def _answer(data: Dataset, rows: np.ndarray, folds: list[OuterFold]) -> Predictions:
    parts = []
    for fold in folds:
        fit, test = data.features.positions(fold.train), data.features.positions(fold.test)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
        model.fit(rows[fit], data.labels[fit])
        parts.append((fold, test, model.predict_proba(rows[test])))
    at = np.concatenate([test for _, test, _ in parts])
    probabilities = np.concatenate([scores for *_, scores in parts])
    return Predictions(
        data.ids[at], data.patients[at],
        np.concatenate([np.full(len(test), fold.name) for fold, test, _ in parts]),
        np.concatenate([np.full(len(test), fold.repeat) for fold, test, _ in parts]),
        data.labels[at], probabilities, probabilities.argmax(axis=1), data.classes,
    )  # fmt: skip


def _bus_bra(folder: Path) -> list[tuple[str, Dataset]]:
    data = read(folder / "bus-bra", task="dbt")
    with (folder / "bus-bra" / "metadata.csv").open(encoding="utf-8") as file:
        malignant = {Path(row["file"]).name: row["pathology"] for row in csv.DictReader(file)}
    verdicts = [malignant[Path(path).name] for path in data.features.images]
    pathology = np.array([int(verdict == "malignant") for verdict in verdicts])
    return [
        ("BUS-BRA, malignant or benign",
         replace(data, labels=pathology, classes=("benign", "malignant"))),
        ("BUS-BRA, BI-RADS 2 to 5", data),
    ]  # fmt: skip


def _breast_usg(folder: Path) -> list[tuple[str, Dataset]]:
    return [
        ("BrEaST-Lesions-USG, malignant or not", read(folder / "breast-usg", task="multimodal"))
    ]


def _spelt(found: Interval, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return f"{found.estimate:{sign}.3f} (no interval: {found.reason})"
    return f"{found.estimate:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("OUTERFOLD_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="holds the three folders")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of preprocessing.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
