"""Files of a saved model; with ``final/`` alone, a new image can be scored.

The folder of every study has the same files for its own model. ``final/`` of an ensemble contains
its members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from outerfold.pipelines._base import Fitted, Pipeline
from outerfold.pipelines.encoders._base import FLOAT32, Encoder
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.rows.tabular import FittedColumn, NetworkColumns
from outerfold.storage.cache.files import read_hashed, write_hashed, write_json
from outerfold.storage.errors import DataError, first_line, shorten
from outerfold.storage.runs.folder import RunFolder

WIDEST, MOST_NETWORKS, MOST_VIEWS = 65_536, 1_000, 1_000
"""Largest width of an image representation, number of networks and of augmented views of a model
that are read; those of the options are smaller."""
SCHEMAS = (1, 2)
"""Versions of the format of ``preprocessing.json`` that are read. In version 2 each network of a
model has its own encoder of clinical columns; a model without that is written as version 1."""
PREPROCESSING = "preprocessing.json"
"""File in a study's folder with all that its model needs besides the weights."""
ENCODER_FILE = "encoder.json"
"""File in the run directory with the card of the image encoder. Where studies choose from several
encoders, it is the card of the first, and its key ``others`` has the cards of the others."""


def write_encoder_cards(folder: RunFolder, cards: Sequence[Mapping[str, Any]]) -> None:
    """Write the cards (``encoder_card``) of all encoders of a run to ``encoder.json``."""
    first, *others = cards
    write_hashed(folder.path / ENCODER_FILE, {**first, **({"others": others} if others else {})})


def read_encoder_card(folder: RunFolder, name: str) -> dict[str, Any]:
    """Read the card of one encoder of a run; an empty ``name`` means the first encoder."""
    first = read_hashed(folder.path / ENCODER_FILE)
    cards = [{**first}, *first.get("others", [])]
    cards[0].pop("others", None)
    return next(card for card in cards if name in ("", card["name"]))


def write_preprocessing(
    path: Path,
    pipeline: Pipeline,
    fitted: Fitted,
    *,
    decision: Decision,
    facts: Mapping[str, Any],
) -> None:
    """Write ``preprocessing.json`` to one study's folder, where the weights are too.

    Args:
        path: folder of the study.
        pipeline: hyper-parameters of the model.
        fitted: the trained model.
        decision: its calibration and threshold.
        facts: task, classes, synthetic, the encoder's card (``encoder_card``), and the key of the
            augmentation where augmented views are scored.
    """
    write_json(
        path / PREPROCESSING,
        {
            "schema": schema_of(fitted.columns),
            **facts,
            "pipeline": asdict(pipeline),
            "networks": fitted.networks,
            "tokens": fitted.tokens,
            "tta": fitted.tta,
            "image_width": int(fitted.network.scaler.mean.shape[-1]),  # type: ignore[union-attr,index]
            **_describe_columns(fitted.columns),
            "temperature": decision.temperature,
            "shift": decision.shift,
            "threshold": decision.threshold,
        },
    )


@contextmanager
def understanding_model(path: Path) -> Iterator[None]:
    """Turn any error of a model that can be read, but not understood, into a sentence.

    Args:
        path: folder of the study.

    Raises:
        DataError: the files are not those of a model.
    """
    try:
        yield
    except (
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        EOFError,
        UnpicklingError,
    ) as error:
        raise DataError(
            f"{path}: the model does not fit {PREPROCESSING} ({first_line(error)}); run the study "
            "again with this version"
        ) from None


def require_sizes(path: Path, kept: Mapping[str, Any]) -> None:
    """Check the sizes of a model that another may have written, before memory is taken for them.

    Args:
        path: folder of the study, which holds its weights.
        kept: contents of ``preprocessing.json``, or the part of one member.

    Raises:
        DataError: a size is no whole number, is impossible, or is more than the weights hold.
    """
    networks = kept.get("networks", 1)
    sizes = (
        ("image_width", kept["image_width"], WIDEST),
        ("networks", networks, MOST_NETWORKS),
        ("tta", kept["tta"], MOST_VIEWS),
    )
    for name, found, most in sizes:
        if type(found) is not int or not 0 <= found <= most:
            raise DataError(
                f"{path / PREPROCESSING}: {name} must be a whole number up to {most}, found "
                f"{shorten(str(found))}; do not trust this run folder"
            )
    if networks * kept["image_width"] > (path / "model.pt").stat().st_size:
        raise DataError(
            f"{path / PREPROCESSING}: {networks} networks of width {kept['image_width']} are more "
            "than model.pt holds; do not trust this run folder"
        )


def schema_of(columns: NetworkColumns) -> int:
    """Version of the format that a model with these encoders is written in."""
    return 1 if len(columns.each) == 1 else 2


def _describe_columns(columns: NetworkColumns) -> dict[str, Any]:
    each = [[_describe_column(column) for column in one.columns] for one in columns.each]
    return {"columns": each[0]} if len(each) == 1 else {"columns_by_network": each}


def _describe_column(fitted: FittedColumn) -> dict[str, Any]:
    found = asdict(fitted)
    if not fitted.column.gaps:  # as models of earlier versions have it
        del found["column"]["gaps"]
    return found


def encoder_card(encoder: Encoder, weights: str, difference: float | None = None) -> dict[str, Any]:
    """Return the card of an encoder, which identifies its weights, preprocessing and libraries.

    Args:
        encoder: the image encoder.
        weights: path of the weights file that the user gave; empty for pretrained weights.
        difference: largest difference between the encoder's backend and torch in float32, in
            standard deviations; None where that is the backend.
    """
    backend = {"backend": encoder.backend, "backend_difference": difference}
    half = {"precision": encoder.precision}
    return {
        "name": encoder.name,
        "weights": str(Path(weights).resolve()) if weights else "",
        "weights_sha256": encoder.weights_sha256,
        "image_size": encoder.image_size,
        "fit": encoder.framing.fit,
        "crop": encoder.framing.crop,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "versions": list(encoder.libraries),
        **(backend if encoder.backend else {}),
        **(half if encoder.precision != FLOAT32 else {}),
    }
