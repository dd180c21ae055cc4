"""Part of a score that comes from copies, and from patients on both sides of the split.

    python -m benchmarks.leaks.published_recipe

There are two real data sets:

1. BUS-BRA, four BI-RADS classes, frozen EfficientNet-Lite0 features, the dbt task's own head in
   one fixed configuration. Only the order of resampling and splitting differs.
2. The sheet of Mini-DDSM: cancer or not by a decision tree on age and density alone, split by
   image and by patient.

Nothing is searched or chosen on a score. The script reads bus-bra/ and mini-ddsm/ below --data (or
$OUTERFOLD_DATA) and writes published_recipe.md beside this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared.leaky_ways import (
    EPOCHS,
    FOLDS,
    HEAD,
    IMAGE_WAYS,
    SHEET_WAYS,
    Outcome,
    Table,
    compare,
    head,
    score_each_repeat,
    tree,
)
from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import real_data
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.embed import embed
from outerfold.reports.intervals.overall import overall
from outerfold.storage.cache.files import write_text
from outerfold.storage.readers.read import read_dataset, read_sheet_only
from outerfold.study.config.gather import cache_folder
from outerfold.study.setup.provenance import versions

HERE = Path(__file__).parent
ENCODER = "bundled:efficientnet_lite0"
METRICS = {"roc_auc": "ROC-AUC", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}
STATED = ("learning_rate", "dropout", "focal_gamma", "attention")
"""Settings of the head that the page names."""
SHOWN_VERSIONS = ("python", "imbalanced-learn", "numpy", "scikit-learn", "timm", "torch")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    images = read_images(options.data / "bus-bra", cache_folder())
    sheet = read_sheet(options.data / "mini-ddsm")
    start = time.perf_counter()
    by_image = compare(IMAGE_WAYS, images, head, repeats=options.repeats, seed=options.seed)
    by_sheet = compare(SHEET_WAYS, sheet, tree, repeats=options.repeats, seed=options.seed)
    minutes = (time.perf_counter() - start) / 60
    command = f"python -m benchmarks.leaks.published_recipe --repeats {options.repeats}"
    parts = [
        "# Effect of the order of resampling and splitting",
        f"`{command} --seed {options.seed}`: {options.repeats} repeats of {FOLDS} folds, each with "
        f"other folds and other initial weights; {minutes:.1f} min on one thread, with features "
        "already in the cache.",
        image_section(images, by_image),
        sheet_section(sheet, by_sheet),
        "Versions: " + ", ".join(f"{name} {versions()[name]}" for name in SHOWN_VERSIONS) + ".",
    ]
    write_text(options.out / "published_recipe.md", "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def read_images(folder: Path, cache: Path) -> Table:
    """Read BUS-BRA with its frozen features."""
    data = read_dataset(folder, task="dbt")
    found = embed(data.features, build(ENCODER), cache=cache, tokens=False)
    inputs = found.pooled(data.ids.tolist())
    return Table(inputs, data.labels, data.ids, data.patients, data.classes)


def read_sheet(folder: Path) -> Table:
    """Read age and density of every view in Mini-DDSM's sheet, labelled cancer or not."""
    data = read_sheet_only(folder, columns=("age", "density"))
    inputs = data.features.tabular.astype(np.float32)
    return Table(inputs, data.labels, data.ids, data.patients, data.classes)


def image_section(table: Table, outcomes: Sequence[Outcome]) -> str:
    """Section with the table of images and its explanation."""
    classes = len(table.classes)
    largest = np.bincount(table.labels).max() / len(table.labels)
    chosen = {name: getattr(HEAD, name) for name in STATED}
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
    return "\n\n".join(
        [
            "## Images: BUS-BRA, BI-RADS 2 to 5",
            f"{_size(table)}, {classes} classes. Frozen EfficientNet-Lite0 features and the dbt "
            f"task's head: {EPOCHS} epochs, {settings}, no search. Rows of smaller classes are "
            "repeated at random until all classes have the same size. ROC-AUC is the mean over "
            "classes, one against the rest.",
            comparison(outcomes, tuple(METRICS)),
            f"The prediction of the largest class for every image has accuracy {largest:.3f} and "
            f"balanced accuracy {1 / classes:.3f}. In (a) the test rows are resampled as well, so "
            "its classes have the same size, and its accuracy must be compared with the balanced "
            "accuracy of the others.",
            _how_read(outcomes),
        ]
    )


def sheet_section(table: Table, outcomes: Sequence[Outcome]) -> str:
    """Section with the table of the sheet and its explanation."""
    return "\n\n".join(
        [
            "## Without images: Mini-DDSM, cancer or not from age and density",
            f"{_size(table)}. scikit-learn's decision tree with its defaults. The four views "
            "of a patient have one age, one density and one label.",
            comparison(outcomes, ("roc_auc",)),
            _how_read(outcomes),
        ]
    )


def comparison(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> str:
    """Table with one row per way; all are compared with the last, which keeps patients together."""
    honest = {name: float(np.mean(score_each_repeat(outcomes[-1], name))) for name in metrics}
    heads = [
        "",
        *(METRICS[name] for name in metrics),
        "A copy is in training",
        "Patient is in training",
    ]
    rows = []
    for outcome in outcomes:
        grouped = outcome.way.grouped
        cells = [
            _with_interval(outcome, name) if grouped else _above(outcome, name, honest[name])
            for name in metrics
        ]
        shares = [f"{share:.0%} of test rows" for share in (outcome.copies, outcome.acquainted)]
        rows.append([outcome.way.name, *cells, *shares])
    return markdown(heads, rows)


def _with_interval(outcome: Outcome, metric: str) -> str:
    found = overall(outcome.predictions, tuned=False)[metric]
    if found.low is None or found.high is None:
        return f"{found.estimate:.3f} (no interval: {found.reason})"
    return f"{found.estimate:.3f} (95 % CI {found.low:.3f} to {found.high:.3f})"


def _above(outcome: Outcome, metric: str, honest: float) -> str:
    score = float(np.mean(score_each_repeat(outcome, metric)))
    return f"{score:.3f} ({score - honest:+.3f})"


def _how_read(outcomes: Sequence[Outcome]) -> str:
    """Explanation of the brackets, and the range over repeats of the difference in ROC-AUC."""
    *leaky, honest = (np.array(score_each_repeat(outcome, "roc_auc")) for outcome in outcomes)
    gaps = [f"{(scores - honest).min():+.3f} to {(scores - honest).max():+.3f}" for scores in leaky]
    return (
        "In brackets: for patients kept together, the interval of the patient jackknife (standard "
        "error × 1.25, because nothing was searched); for the others, the difference from that "
        "row. They have no interval, since no interval is valid with a patient on both sides. From "
        f"repeat to repeat the difference in ROC-AUC was {'; '.join(gaps)}."
    )


def _size(table: Table) -> str:
    return f"{len(table.labels):,} images of {len(set(table.patients.tolist())):,} patients"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = real_data()
    parser.add_argument("--data", type=Path, default=data, help="holds bus-bra/ and mini-ddsm/")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the folds (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of published_recipe.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
