"""The shipped model: what `final/` holds so that a new image can be scored with nothing else.

Every study's folder holds the same of its own model; `final/` of an ensemble holds its members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outerfold.pipelines._base import Fitted, Pipeline
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.runs.folder import RunFolder

SCHEMA = 1
PREPROCESSING = "preprocessing.json"
ENCODER_FILE = "encoder.json"
"""In the run directory: the card of the encoder that studies read their images by; where they
choose from several, the first one's, with the cards of the ``others`` in it."""


def write_encoder_cards(folder: RunFolder, cards: Sequence[Mapping[str, Any]]) -> None:
    """Keep the cards (``encoder_card``) of all encoders of a run."""
    first, *others = cards
    write_json(folder.path / ENCODER_FILE, {**first, **({"others": others} if others else {})})


def read_encoder_card(folder: RunFolder, name: str) -> dict[str, Any]:
    """The card of one encoder of a run; of its first where ``name`` is empty."""
    first = read_json(folder.path / ENCODER_FILE)
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
    """Write ``preprocessing.json`` of one study's folder; the weights are beside it.

    Args:
        facts: task, classes, synthetic, the encoder's card (``encoder_card``), and what makes
            augmented views, where some score.
    """
    write_json(
        path / PREPROCESSING,
        {
            "schema": SCHEMA,
            **facts,
            "pipeline": asdict(pipeline),
            "networks": fitted.networks,
            "tokens": fitted.tokens,
            "tta": fitted.tta,
            "image_width": int(fitted.network.scaler.mean.shape[-1]),  # type: ignore[union-attr,index]
            "columns": [asdict(column) for column in fitted.encoder.columns],
            "temperature": decision.temperature,
            "shift": decision.shift,
            "threshold": decision.threshold,
        },
    )


def encoder_card(encoder: Encoder, weights: str) -> dict[str, Any]:
    """What names an encoder and its preprocessing for good."""
    return {
        "name": encoder.name,
        "weights": str(Path(weights).resolve()) if weights else "",
        "weights_sha256": encoder.weights_sha256,
        "image_size": encoder.image_size,
        "fit": encoder.framing.fit,
        "crop": encoder.framing.crop,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "versions": list(encoder.versions),
    }
