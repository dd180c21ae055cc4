"""Effect of the framing of images on a linear probe of frozen features, with folds by patient.

    python -m benchmarks.models.preprocessing

Frozen EfficientNet-Lite0 features of BUS-BRA (pathology, and four BI-RADS classes) and of
BrEaST-Lesions-USG, from images stretched to a square, padded with black, and padded with the
encoder's mean colour. A logistic regression with one fixed penalty on standardised features is
trained and tested on the same folds. Nothing is searched. The script reads bus-bra/, breast-usg/
and mini-ddsm/ below --data (or $OUTERFOLD_DATA) and writes preprocessing.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import real_data
from outerfold.pipelines.encoders._base import Encoder, recipe
from outerfold.pipelines.encoders.registry import build
from outerfold.reports.intervals.jackknife import ConfidenceInterval
from outerfold.reports.intervals.overall import overall, paired_difference
from outerfold.storage.cache.files import write_text
from outerfold.storage.cache.row_store import RowCache
from outerfold.storage.images.breast_crop import breast_box
from outerfold.storage.images.framing import Framing
from outerfold.storage.images.read import content_hash, read_image
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import ByteArray, Dataset, OuterFold, Predictions
from outerfold.study.config.gather import cache_folder
from outerfold.study.setup.provenance import versions
from outerfold.study.splits import split

HERE = Path(__file__).parent
ENCODER = "bundled:efficientnet_lite0"
PENALTY = 0.003
"""C of the logistic regression: 1280 features with a few hundred rows need a strong penalty."""
FOLDS, REPEATS, BATCH = 5, 1, 16
SHOWN_VERSIONS = ("python", "numpy", "scikit-learn", "timm", "torch")
WAYS = ("stretch", "pad, black", "pad, mean colour")


@dataclass(frozen=True, eq=False)
class Probed:
    """Predictions for one classification of one data set, by way of framing."""

    name: str
    data: Dataset
    answers: Mapping[str, Predictions]


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    encoder = build(ENCODER)
    probed = []
    for rows in (breast_usg(options.data), bus_bra(options.data, options.patients)):
        found = {way: features(rows[0][1], encoder, way) for way in WAYS}
        probed += [_probe(name, data, found) for name, data in rows]
    chosen = f" --patients {options.patients}" if options.patients else ""
    parts = [
        "# Effect of the framing of images",
        f"`python -m benchmarks.models.preprocessing{chosen}`: {FOLDS} patient-grouped folds, "
        "the same for every way.",
        "\n\n".join(section(one) for one in probed),
        "Differences: the paired patient jackknife (standard error × 1.25, because nothing was "
        "searched), with the same patient left out of both. For four classes, ROC-AUC is the mean "
        "over classes, one against the rest.",
        cropping(options.data),
        "Versions: " + ", ".join(f"{name} {versions()[name]}" for name in SHOWN_VERSIONS) + ".",
    ]
    write_text(options.out / "preprocessing.md", "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def features(data: Dataset, encoder: Encoder, way: str) -> np.ndarray:
    """Features (n, dim) of images framed one way.

    They are kept batch by batch, so that a killed run can continue.
    """
    store = store_of(encoder, way)
    paths = {content_hash(path): path for path in data.features.images.tolist()}
    names = [content_hash(path) for path in data.features.images.tolist()]
    side, fill = encoder.image_size, np.round(np.array(encoder.mean) * 255)
    with store.writing() as writer:
        missing = writer.store.missing(list(paths))
        for at in range(0, len(missing), BATCH):
            batch = missing[at : at + BATCH]
            images = [frame_image(read_image(paths[name]), side, way, fill) for name in batch]
            writer.append(batch, encoder.encode(np.stack(images)).pooled)
    return store.refreshed().read(names)


def store_of(encoder: Encoder, way: str) -> RowCache:
    """Cache for features of images framed one way."""
    key = {**recipe(encoder), "way": way}
    return RowCache.open(cache_folder() / "framing-probe", key, (encoder.dim,), np.float32)


def frame_image(image: ByteArray, side: int, way: str, fill: np.ndarray) -> ByteArray:
    """Image framed to (side, side, 3); black padding is replaced if the way has another colour."""
    if way == "stretch":
        return Framing("stretch").square(image, side)
    square = Framing("pad").square(image, side)
    if "mean" not in way:
        return square
    inside = Framing("pad").square(np.full_like(image, 255), side)
    return np.where(inside > 0, square, fill.astype(np.uint8))


def section(one: Probed) -> str:
    """Section with one row per way of framing, each compared with the stretched images."""
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
    """Section on the part of an image that ``--crop breast`` keeps.

    It should crop films, and leave ultrasound images whole.
    """
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
    table = markdown(["", "images", "cropped", "part of a cropped image kept (median)"], rows)
    return f"## Effect of --crop breast\n\n{table}"


def read_size(path: str) -> tuple[int, int]:
    height, width = read_image(path).shape[:2]
    return height, width


def _probe(name: str, data: Dataset, found: Mapping[str, np.ndarray]) -> Probed:
    folds = outer_folds(data)
    return Probed(name, data, {way: out_of_fold(data, rows, folds) for way, rows in found.items()})


def outer_folds(data: Dataset) -> list[OuterFold]:
    """Patient-grouped folds with test rows."""
    studies = split(data, outer_folds=FOLDS, inner_folds=2, repeats=REPEATS, seed=0).studies
    return [fold for fold in studies if fold.test]


def out_of_fold(data: Dataset, rows: np.ndarray, folds: list[OuterFold]) -> Predictions:
    """Predictions of a linear probe on features (n, dim), by folds that did not train on a row."""
    parts = []
    for fold in folds:
        fit, test = data.features.positions(fold.train), data.features.positions(fold.test)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
        model.fit(rows[fit], data.labels[fit])
        parts.append((fold, test, model.predict_proba(rows[test])))
    at = np.concatenate([test for _, test, _ in parts])
    probabilities = np.concatenate([scores for *_, scores in parts])
    return Predictions(
        data.ids[at],
        data.patients[at],
        np.concatenate([np.full(len(test), fold.name) for fold, test, _ in parts]),
        np.concatenate([np.full(len(test), fold.repeat) for fold, test, _ in parts]),
        data.labels[at],
        probabilities,
        probabilities.argmax(axis=1),
        data.classes,
    )


def bus_bra(folder: Path, patients: int = 0) -> list[tuple[str, Dataset]]:
    """BUS-BRA below ``folder``: by pathology, and by BI-RADS class."""
    data = _some(read_dataset(folder / "bus-bra", task="dbt"), patients)
    with (folder / "bus-bra" / "metadata.csv").open(encoding="utf-8") as file:
        malignant = {Path(row["file"]).name: row["pathology"] for row in csv.DictReader(file)}
    verdicts = [malignant[Path(path).name] for path in data.features.images]
    pathology = np.array([int(verdict == "malignant") for verdict in verdicts])
    return [
        (
            "BUS-BRA, malignant or benign",
            replace(data, labels=pathology, classes=("benign", "malignant")),
        ),
        ("BUS-BRA, BI-RADS 2 to 5", data),
    ]


def breast_usg(folder: Path) -> list[tuple[str, Dataset]]:
    """BrEaST-Lesions-USG below ``folder``, by pathology."""
    return [
        (
            "BrEaST-Lesions-USG, malignant or not",
            read_dataset(folder / "breast-usg", task="multimodal"),
        )
    ]


def _some(data: Dataset, patients: int) -> Dataset:
    """Rows of that many patients, drawn at random; all rows for 0."""
    if not patients:
        return data
    drawn = np.random.default_rng(0).permutation(np.unique(data.patients))[:patients]
    return data.select(data.ids[np.isin(data.patients, drawn)].tolist())


def _spelt(found: ConfidenceInterval, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return f"{found.estimate:{sign}.3f} (no interval: {found.reason})"
    return f"{found.estimate:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = real_data()
    parser.add_argument(
        "--data", type=Path, default=data, help="folder that contains the three data sets"
    )
    parser.add_argument(
        "--patients", type=int, default=0, help="of BUS-BRA, drawn at random (default 0: all)"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of preprocessing.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
