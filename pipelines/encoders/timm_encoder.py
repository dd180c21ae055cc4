"""Any timm backbone as a frozen encoder, e.g. ``timm:efficientnet_b0``."""

from __future__ import annotations

import difflib
import os
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
    """A timm model that also returns its last feature map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, s, s) to the pooled vector (n, dim) and the map (n, channels, h, w)."""
        features = self.features(x)
        return self.pool(features), self.map(features)

    def features(self, x: Tensor) -> Tensor:
        """What the pooled vector is made of, in the model's own shape."""
        features: Tensor = self.model.forward_features(x)  # type: ignore[operator]
        return features

    def pool(self, features: Tensor) -> Tensor:
        """Those features to (n, dim)."""
        pooled: Tensor = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """Those features as a map (n, channels, h, w)."""
        if features.ndim == 4:
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if last else features
        patches = features[:, int(getattr(self.model, "num_prefix_tokens", 0)) :]
        side = round(patches.shape[1] ** 0.5)
        if features.ndim != 3 or side * side != patches.shape[1]:
            raise DataError(
                f"this backbone's features {tuple(features.shape)} are neither a map nor a square "
                f"of patches; choose another"
            )
        return patches.transpose(1, 2).reshape(len(patches), -1, side, side)


def build(model: str, *, weights: Path | None = None) -> FrozenEncoder:
    """A timm backbone with pretrained weights: ``weights``, else the local cache, else the hub.

    Raises:
        DataError: unknown model, no weights anywhere, or weights of another model.
    """
    name = f"timm:{model}"
    if not timm.is_model(model.split(".")[0]):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        hint = f"; did you mean timm:{near[0]}?" if near else ""
        raise DataError(f"{name}: timm has no such model{hint}")
    path = sources.given(weights) if weights else _pretrained(name, model)
    return from_state(
        name, model, sources.read_state(path), sha256=sources.sha256_of(path), origin=str(path)
    )


def from_state(
    name: str, model: str, state: dict[str, Tensor], *, sha256: str, origin: str
) -> FrozenEncoder:
    """A timm backbone with exactly this state; a classifier of any width may be in it or not."""
    network = _loaded(name, model, state, origin)
    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    reset = getattr(network, "reset_classifier")  # noqa: B009 - timm's method, unknown to types
    reset(0)
    return frozen(
        TimmTrunk(network),
        name=name,
        weights_sha256=sha256,
        versions=sources.versions_of("torch", "timm"),
        image_size=int(config["input_size"][-1]),
        mean=_three(config["mean"]),
        std=_three(config["std"]),
    )


def _loaded(name: str, model: str, state: dict[str, Tensor], origin: str) -> nn.Module:
    """The model with ``state`` loaded strictly.

    timm loads loosely, leaving gaps random, when the number of classes is not the one its
    configuration states; so both are told the number that the file has.
    """
    settings = timm.get_pretrained_cfg(model)
    classes = int(settings.num_classes) if settings else 0
    head = f"{settings.classifier}.weight" if settings else ""
    if head in state:
        classes = len(state[head])
    elif f"{head[:-7]}.bias" not in state and not _foreign(model, state):
        classes = 0
    overlay = {"state_dict": dict(state), "num_classes": classes, "custom_load": False}
    try:
        network: nn.Module = timm.create_model(
            model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
        )
    except (RuntimeError, KeyError) as error:
        own = _own(model, classes)
        if any(key in own for key in state):
            raise sources.mismatch(origin, name, own, state) from None
        raise sources.not_its(origin, name, str(error)) from None
    return network


def _own(model: str, classes: int) -> dict[str, Tensor]:
    """The tensors of a model, without memory or values."""
    with torch.device("meta"):
        state: dict[str, Tensor] = timm.create_model(
            model, pretrained=False, num_classes=classes
        ).state_dict()
    return state


def _foreign(model: str, state: dict[str, Tensor]) -> bool:
    """Whether the file names its tensors as another library does, for timm to translate."""
    own = _own(model, 0)
    return not any(key in own for key in state)


def _pretrained(name: str, model: str) -> Path:
    settings = timm.get_pretrained_cfg(model)
    repo = settings.hf_hub_id if settings else None
    if settings is None or not repo:
        raise sources.not_found(name, ("not given", "not searched", "timm lists no source"))
    files = (settings.hf_hub_filename,) if settings.hf_hub_filename else HUB_FILES
    for file in files:
        cached = try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
    tried = ("not given", f"{repo} is not in the Hugging Face cache")
    failure = _offline() or sources.reachable(ENDPOINT)
    if failure:
        raise sources.not_found(name, (*tried, f"{ENDPOINT}: {failure}"))
    reasons = []
    for file in files:
        try:
            return Path(hf_hub_download(repo, file, etag_timeout=sources.NETWORK_SECONDS))
        except (HfHubHTTPError, OSError) as error:
            reasons.append(f"{file}: {str(error).splitlines()[0][:120]}")
    raise sources.not_found(name, (*tried, f"{repo}: {'; '.join(reasons)}"))


def _offline() -> str:
    on = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return "HF_HUB_OFFLINE is set" if on else ""


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
