"""Backbones of timm as frozen encoders, e.g. ``timm:efficientnet_b0``."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from outerfold.pipelines.encoders import weights as sources
from outerfold.pipelines.encoders.catalogue import HUB_FILES
from outerfold.pipelines.encoders.frozen import FrozenEncoder, frozen
from outerfold.storage.records import DataError


class TimmTrunk(nn.Module):
    """Trunk of a timm model that also returns its last feature map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, 3, s, s) to the pooled vector (n, dim) and the map (n, channels, h, w)."""
        features = self.features(x)
        return self.pool(features), self.map(features)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images (n, 3, s, s), in the model's own shape."""
        features: Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return features

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim)."""
        pooled: Tensor = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map (n, channels, h, w).

        Raises:
            DataError: the features are neither a map nor a square of patches.
        """
        if features.ndim == 4:
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if last else features
        patches = features[:, int(getattr(self.model, "num_prefix_tokens", 0)) :]
        count = int(patches.shape[1])  # a number, where tracing would make it a tensor
        side = round(count**0.5)
        if features.ndim != 3 or side * side != count:
            raise DataError(
                f"this backbone's features {tuple(features.shape)} are neither a map nor a square "
                f"of patches; choose another"
            )
        return patches.transpose(1, 2).reshape(len(patches), -1, side, side)


def build(model: str, *, weights: Path | None = None) -> FrozenEncoder:
    """Build a timm backbone with pretrained weights.

    Weights come from ``weights``, else from the local cache, else from the hub.

    Raises:
        DataError: unknown model, no weights anywhere, or weights of another model.
    """
    name = f"timm:{model}"
    if not timm.is_model(model.split(".")[0]):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        hint = f"; did you mean timm:{near[0]}?" if near else ""
        raise DataError(f"{name}: timm has no such model{hint}")
    path = sources.check_file(weights) if weights else _find_weights(name, model)
    return from_state(
        name, model, sources.read_state(path), sha256=sources.sha256_of(path), origin=str(path)
    )


def from_state(
    name: str, model: str, state: dict[str, Tensor], *, sha256: str, origin: str
) -> FrozenEncoder:
    """Build a timm backbone with exactly these weights.

    Args:
        name: name of the encoder.
        model: name of the model in timm.
        state: tensors by name, with or without a classifier of any width.
        sha256: SHA-256 of the weights file.
        origin: where the weights came from, for messages.

    Raises:
        DataError: weights of another model.
    """
    network = _load_model(name, model, state, origin)
    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    reset = getattr(network, "reset_classifier")  # noqa: B009 - timm's method, unknown to types
    reset(0)
    return frozen(
        TimmTrunk(network),
        name=name,
        weights_sha256=sha256,
        versions=sources.versions_of("torch", "timm"),
        image_size=int(config["input_size"][-1]),
        mean=_as_three(config["mean"]),
        std=_as_three(config["std"]),
    )


def _load_model(name: str, model: str, state: dict[str, Tensor], origin: str) -> nn.Module:
    """Build the model and load ``state`` strictly.

    timm loads weights without a check, and leaves missing ones random, when the number of classes
    differs from its configuration. So the model and the configuration get the number in the file.
    """
    settings = timm.get_pretrained_cfg(model)
    classes = int(settings.num_classes) if settings else 0
    head = f"{settings.classifier}.weight" if settings else ""
    if head in state:
        classes = len(state[head])
    elif f"{head[:-7]}.bias" not in state and not _has_foreign_names(model, state):
        classes = 0
    overlay = {"state_dict": dict(state), "num_classes": classes, "custom_load": False}
    try:
        network: nn.Module = timm.create_model(
            model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
        )
    except (RuntimeError, KeyError) as error:
        own = _own_tensors(model, classes)
        if any(key in own for key in state):
            raise sources.mismatch_error(origin, name, own, state) from None
        raise sources.wrong_weights_error(origin, name, str(error)) from None
    return network


def _own_tensors(model: str, classes: int) -> dict[str, Tensor]:
    """Tensors of a model by name, without memory or values."""
    with torch.device("meta"):
        state: dict[str, Tensor] = timm.create_model(
            model, pretrained=False, num_classes=classes
        ).state_dict()
    return state


def _has_foreign_names(model: str, state: dict[str, Tensor]) -> bool:
    """Whether the file has tensor names of another library, which timm must translate."""
    own = _own_tensors(model, 0)
    return not any(key in own for key in state)


def _find_weights(name: str, model: str) -> Path:
    settings = timm.get_pretrained_cfg(model)
    repo = settings.hf_hub_id if settings else None
    if settings is None or not repo:
        raise sources.no_weights_error(name, ("not given", "not searched", "timm lists no source"))
    files = (settings.hf_hub_filename,) if settings.hf_hub_filename else HUB_FILES
    for file in files:
        cached = try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
    tried = ("not given", f"{repo} is not in the Hugging Face cache")
    failure = sources.find_failure(ENDPOINT)
    if failure:
        raise sources.no_weights_error(name, (*tried, f"{ENDPOINT}: {failure}"))
    reasons = []
    for file in files:
        try:
            return Path(hf_hub_download(repo, file, etag_timeout=sources.NETWORK_SECONDS))
        except (HfHubHTTPError, OSError) as error:
            reasons.append(f"{file}: {str(error).splitlines()[0][:120]}")
    raise sources.no_weights_error(name, (*tried, f"{repo}: {'; '.join(reasons)}"))


def _as_three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
