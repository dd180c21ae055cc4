"""Loss of a linear probe's ROC-AUC on embeddings in half precision, paired over patients.

    python -m benchmarks.models.half_precision                   # minutes on one thread
    python -m benchmarks.models.half_precision --device cuda     # on a GPU, whose kernels decide

Each image of BUS-BRA (pathology) and BrEaST-Lesions-USG is embedded by the torch backend in
float32, bfloat16 and float16. A logistic regression with one fixed penalty on standardised features
is trained and tested on the same folds by patient. An encoder may be computed in half precision on
a GPU where the one-sided 95 % upper bound of the loss, over the patients of both sets, is below
0.002: then its line goes to ``pipelines/encoders/backends/precision.py``. On a CPU
``torch.autocast`` rounds to bfloat16 as on a GPU, and float16 is rounded layer by layer; a GPU adds
up in another order, so its values are alike and not equal. Only an encoder whose real weights are
at hand can be measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models.preprocessing import breast_usg, bus_bra, out_of_fold, outer_folds
from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import real_data
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.backends.choose import with_backend
from outerfold.pipelines.encoders.backends.precision import (
    FLOAT16,
    MOST_LOSS,
    PRECISIONS,
    Measured,
)
from outerfold.pipelines.encoders.backends.probe import compare
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.images.decoded import read_square
from outerfold.reports.intervals.jackknife import ConfidenceInterval
from outerfold.reports.intervals.overall import overall, paired_difference
from outerfold.storage.cache.files import write_text
from outerfold.storage.images.framing import PADDED
from outerfold.storage.records import Dataset, Predictions
from outerfold.study.setup.provenance import versions

HERE = Path(__file__).parent
ENCODER = "bundled:efficientnet_lite0"
SHOWN_VERSIONS = ("python", "numpy", "scikit-learn", "timm", "torch")
ONE_SIDED = 0.90
"""Level of the two-sided interval whose upper end is a one-sided 95 % bound."""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    sets = [bus_bra(options.data, options.patients)[0][1], breast_usg(options.data)[0][1]]
    images = [read_squares(data, build(options.encoder).image_size) for data in sets]
    found, seconds = {}, {}
    for precision in PRECISIONS:
        started = time.perf_counter()
        found[precision] = [
            embed(options.encoder, precision, each, options.device) for each in images
        ]
        seconds[precision] = time.perf_counter() - started
        print(f"{precision}: {seconds[precision]:.0f} s", flush=True)
    answers = {name: answer(sets, rows) for name, rows in found.items()}
    sha = build(options.encoder).weights_sha256
    lines = [
        measured(options.encoder, sha, name, answers)
        for name in PRECISIONS
        if name != PRECISIONS[0]
    ]
    apart = {name: _apart(found[PRECISIONS[0]], rows) for name, rows in found.items()}
    text = page(options, sets, answers, lines, apart, seconds)
    write_text(options.out / "half_precision.md", text)
    print(text)


def read_squares(data: Dataset, side: int) -> NDArray[np.uint8]:
    """Images of a data set as squares (n, side, side, 3)."""
    return np.stack([read_square(path, side, PADDED) for path in data.features.images.tolist()])


def embed(encoder: str, precision: str, images: NDArray[np.uint8], device: str) -> np.ndarray:
    """Pooled vectors (n, dim) by the torch backend."""
    if (precision, device) == (FLOAT16, "cpu"):
        return rounded(encoder).encode(images).pooled
    return with_backend(build(encoder), "torch", Path(), precision).to(device).encode(images).pooled


def rounded(encoder: str) -> Encoder:
    """Encoder in float32 whose weights, inputs and outputs of all layers are rounded to float16.

    A CPU without products in float16 takes half a second an image for them.
    """
    made = with_backend(build(encoder), "torch", Path())
    assert isinstance(made, FrozenEncoder)

    def round_values(given: object) -> object:
        if isinstance(given, torch.Tensor) and given.is_floating_point():
            return given.half().float()
        return tuple(map(round_values, given)) if isinstance(given, tuple) else given

    for module in made.trunk.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.weight.data = module.weight.data.half().float()
            module.register_forward_pre_hook(lambda _, given: round_values(given))
        module.register_forward_hook(lambda _, __, found: round_values(found))
    return made


def answer(sets: Sequence[Dataset], rows: Sequence[np.ndarray]) -> Predictions:
    """Out-of-fold predictions of the probes of all data sets, as one table of patients."""
    parts = [
        _named(out_of_fold(data, each, outer_folds(data)), number)
        for number, (data, each) in enumerate(zip(sets, rows, strict=True))
    ]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "patients", "fold", "repeat", "labels", "probabilities", "predicted")
    }
    return Predictions(**joined, classes=parts[0].classes)


def measured(
    encoder: str, sha256: str, precision: str, answers: Mapping[str, Predictions]
) -> Measured:
    """Loss of the mean ROC-AUC over the folds of all sets, with its upper bound over patients."""
    change = difference(answers[PRECISIONS[0]], answers[precision])
    assert change.high is not None
    return Measured(encoder, sha256, precision, round(change.estimate, 6), round(change.high, 6))


def difference(whole: Predictions, half: Predictions) -> ConfidenceInterval:
    """ROC-AUC in float32 minus that in half precision, the same patient left out of both."""
    return paired_difference(whole, half, tuned=False, level=ONE_SIDED)["roc_auc"]


def page(
    options: argparse.Namespace,
    sets: Sequence[Dataset],
    answers: Mapping[str, Predictions],
    lines: Sequence[Measured],
    apart: Mapping[str, float],
    seconds: Mapping[str, float],
) -> str:
    """Page with one row a precision."""
    by = {line.precision: line for line in lines}
    rows = []
    for name, each in answers.items():
        line = by.get(name)
        auc = overall(each, tuned=False)["roc_auc"].estimate
        loss = [f"{line.loss:+.6f}", f"{line.bound:+.6f}"] if line else ["", ""]
        allowed = ("yes" if line.bound < MOST_LOSS else "no") if line else ""
        rows.append(
            [name, f"{auc:.4f}", *loss, allowed, f"{apart[name]:.2g}", f"{seconds[name]:.0f}"]
        )
    header = ["", "ROC-AUC", "loss", "95 % upper bound", "allowed", "values differ by", "s"]
    what = " and ".join(
        f"{len(data):,} images of {len(set(data.patients.tolist())):,} patients" for data in sets
    )
    parts = [
        "# Loss by half precision of an encoder",
        f"`python -m benchmarks.models.half_precision --encoder {options.encoder} --device "
        f"{options.device}`: a linear probe on the same patient-grouped folds of BUS-BRA "
        f"(pathology) and BrEaST-Lesions-USG, {what}. A precision is allowed on a GPU where "
        f"the bound is below {MOST_LOSS}. Values differ by: the largest difference from float32, "
        "in standard deviations.",
        f"## {options.encoder}, on {options.device}",
        markdown(header, rows),
        "\n".join(f"    {line!r}," for line in lines),
        "Versions: " + ", ".join(f"{name} {versions()[name]}" for name in SHOWN_VERSIONS) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _apart(whole: Sequence[np.ndarray], half: Sequence[np.ndarray]) -> float:
    one, other = np.concatenate(whole), np.concatenate(half)
    return compare((one, one), (other, other)).difference or 0.0


def _named(one: Predictions, number: int) -> Predictions:
    """Predictions whose ids, patients and folds carry the number of their data set."""
    return replace(
        one,
        classes=("benign", "malignant"),
        groups=np.zeros(0, dtype=np.str_),
        **{
            name: np.array([f"{number}:{each}" for each in getattr(one, name).tolist()])
            for name in ("ids", "patients", "fold")
        },
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=real_data(), help="folder that contains the two data sets"
    )
    parser.add_argument("--encoder", default=ENCODER, help=f"encoder (default {ENCODER})")
    parser.add_argument("--device", default="cpu", help="device that encodes (default cpu)")
    parser.add_argument(
        "--patients", type=int, default=0, help="of BUS-BRA, drawn at random (default 0: all)"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of half_precision.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
