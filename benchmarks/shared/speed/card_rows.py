"""Synthetic images, weights and rows on which a GPU is measured; they have no other meaning."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FixedTrial
from PIL import Image

from outerfold.objectives.inner import InnerObjective, Protocol
from outerfold.objectives.spaces import Choice, default_ranges, make_space
from outerfold.pipelines.images.stand_in import StandIn
from outerfold.pipelines.rows.training_rows import ImageSource
from outerfold.storage.records import Column, Dataset, Features
from outerfold.study.splits import split

SIDE, PER_PATIENT = 224, 4
"""Pixels of an image's side, and images of a patient, which is one for fewer than 1,000 images."""
PATIENT = "(P[0-9]+)_"
BATCHES = Choice((8, 16, 32, 64, 128))


@dataclass(frozen=True)
class Subject:
    """One task at its realistic size."""

    task: str
    images: int
    encoder: str
    classes: tuple[str, ...]


DBT = Subject("dbt", 22_000, "clip:ViT-B/32", ("Normal", "Actionable", "Benign", "Cancer"))
MULTIMODAL = Subject("multimodal", 7_800, "timm:efficientnet_b0", ("Benign", "Cancer"))
SUBJECTS = (DBT, MULTIMODAL)


def write_images(root: Path, subject: Subject, images: int) -> Path:
    """Write class folders of smooth random JPEGs and, for a task with columns, ``metadata.csv``."""
    rng = np.random.default_rng(0)
    each = PER_PATIENT if images >= 1000 else 1
    patients = -(-images // each)
    label = rng.permutation(np.arange(patients) % len(subject.classes))
    names = [
        f"{subject.classes[label[at // each]]}/P{at // each:05d}_{at}.jpg" for at in range(images)
    ]
    for name in subject.classes:
        (root / name).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda at: _write(root / names[at], at), range(images)))
    age = rng.normal(55, 10, patients).round()
    lines = [f"{name},{age[at // each]:.0f}" for at, name in enumerate(names)]
    if subject.task == "multimodal":
        (root / "metadata.csv").write_text("\n".join(["file,age", *lines]) + "\n")
    return root


def _write(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


def random_weights(path: Path, encoder: str) -> Path:
    """Write a file of random weights that this encoder can read, for measuring speed only."""
    torch.manual_seed(0)
    if encoder == "clip:ViT-B/32":
        from clip.model import CLIP

        # The text tower is as small as possible, since images do not pass through it.
        state = CLIP(512, SIDE, 12, 768, 32, 4, 8, 64, 1, 1).state_dict()
    else:
        import timm

        state = timm.create_model(encoder.partition(":")[2], pretrained=False).state_dict()
    torch.save(state, path)
    return path


def random_rows(subject: Subject, count: int) -> Dataset:
    """Rows of a task without image files, one a patient."""
    rng = np.random.default_rng(0)
    ids = np.array([f"row{at}" for at in range(count)])
    columns = (Column("age"),) if subject.task == "multimodal" else ()
    features = Features(ids, ids, rng.normal(55, 10, (count, len(columns))), columns)
    labels = rng.permutation(np.arange(count) % len(subject.classes))
    return Dataset(features, labels, ids, subject.classes, "random")


def random_source(dim: int = 512, tokens: tuple[int, int] = (16, 768)) -> StandIn:
    """Random embeddings of any rows, in 21 views."""
    return StandIn(dim, tokens, 21)


def objective(
    subject: Subject,
    rows: Dataset,
    source: ImageSource,
    device: str,
    *,
    folds: int,
    blocks: int = 0,
) -> InnerObjective:
    """Inner objective of the first outer fold; the heads of its ``folds`` train in one stack."""
    studies = split(rows, outer_folds=5, inner_folds=folds, repeats=1, seed=0).studies
    fold = next(one for one in studies if one.test)
    return InnerObjective(
        fold.train_side(rows),
        fold.inner,
        source,
        make_space(subject.task, {**default_ranges(subject.task, blocks), "batch_size": BATCHES}),
        protocol=Protocol("roc_auc", 100, 99, 0),
        seed=1,
        device=device,
    )


def configuration(subject: Subject, batch: int, blocks: int = 0) -> FixedTrial:
    """One configuration of a task, with two augmented views."""
    drawn: dict[str, Any] = {
        "learning_rate": 1e-3,
        "dropout": 0.3,
        "focal_gamma": 1.0,
        "sampler": "none",
        "attention": False,
        "weight_decay": 1e-3,
        "batch_size": batch,
        "label_smoothing": 0.1,
        "ens_beta": 0.9,
        "augmented_views": 2,
        "augmentation": "light",
        **({"tail_rate": 0.1} if blocks else {}),
    }
    return FixedTrial(drawn)
