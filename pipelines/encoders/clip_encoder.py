"""OpenAI's CLIP image towers through clip-anytorch: ``clip:ViT-B/32`` and its sisters."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from pipelines.encoders import weights as sources
from pipelines.encoders.frozen import FrozenEncoder, frozen
from storage.records import DataError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CACHE = Path("~/.cache/clip")


class VisionTrunk(nn.Module):
    """CLIP's vision transformer that also returns its patches.

    Patches go through ``ln_post`` and the projection like the class token does, so a token lies in
    the same space as the pooled vector. The pooled vector is what ``encode_image`` returns.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, s, s) to (n, dim) and (n, dim, h, w)."""
        visual: nn.Module = self.visual
        patches = visual.conv1(x)  # type: ignore[operator]  # (n, width, h, w)
        n, width, height, across = patches.shape
        first = visual.class_embedding.expand(n, 1, width)  # type: ignore[operator]
        sequence = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        sequence = visual.ln_pre(sequence + visual.positional_embedding)  # type: ignore[operator]
        sequence = visual.transformer(sequence.transpose(0, 1))  # type: ignore[operator]
        out = visual.ln_post(sequence.transpose(0, 1)) @ visual.proj  # type: ignore[operator]
        return out[:, 0], out[:, 1:].transpose(1, 2).reshape(n, -1, height, across)


class ResNetTrunk(nn.Module):
    """CLIP's ResNet that also returns the map its attention pools."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.pooling = visual.attnpool
        visual.attnpool = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, s, s) to (n, dim) and (n, channels, h, w)."""
        spatial = self.features(x)
        return self.pool(spatial), spatial

    def features(self, x: Tensor) -> Tensor:
        """The last map, (n, channels, h, w)."""
        spatial: Tensor = self.visual(x)
        return spatial

    def pool(self, features: Tensor) -> Tensor:
        """That map to (n, dim)."""
        pooled: Tensor = self.pooling(features)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """The features are a map already."""
        return features


def build(model: str, *, weights: Path | None = None) -> FrozenEncoder:
    """A CLIP image tower in float32: ``weights``, else the local cache, else OpenAI's address.

    Raises:
        DataError: unknown model, no weights anywhere, or weights of another model.
    """
    clip = _clip()
    known = _addresses(clip)
    if model not in known:
        near = difflib.get_close_matches(model, known, n=1, cutoff=0)
        raise DataError(f"clip:{model}: no such model; did you mean clip:{near[0]}?")
    path = sources.given(weights) if weights else _pretrained(model, known[model])
    sha256 = sources.sha256_of(path)
    if sha256 in {_pinned(url) for url in known.values()}:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
            loaded, _ = clip.load(str(path), device="cpu", jit=False)
    else:
        loaded = _from_state(clip, path, f"clip:{model}")
    visual = loaded.float().visual
    is_transformer = hasattr(visual, "class_embedding")
    return frozen(
        VisionTrunk(visual) if is_transformer else ResNetTrunk(visual),
        name=f"clip:{model}",
        weights_sha256=sha256,
        versions=sources.versions_of("torch", "clip-anytorch"),
        image_size=int(visual.input_resolution),
        mean=MEAN,
        std=STD,
    )


def _from_state(clip: ModuleType, path: Path, name: str) -> nn.Module:
    """A model from a plain state dict.

    ``clip.load`` tries a file as TorchScript before it reads it as tensors; a file that is not one
    of OpenAI's own, by its hash, is therefore never given to it. ``build_model`` rounds to float16,
    so the tensors are loaded a second time in float32.
    """
    state = sources.read_state(path)
    try:
        model: nn.Module = clip.build_model(dict(state)).float()
        extra = ("input_resolution", "context_length", "vocab_size")
        model.load_state_dict({key: value for key, value in state.items() if key not in extra})
    except (RuntimeError, KeyError, IndexError, ZeroDivisionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = "; ".join(lines[1:3]) or f"no tensor {error}"
        raise DataError(f"{path}: not the weights of {name}: {first[:300]}") from None
    return model


def _pretrained(model: str, url: str) -> Path:
    target = CACHE.expanduser() / Path(urlsplit(url).path).name
    if target.is_file() and sources.sha256_of(target) == _pinned(url):
        return target
    tried = ("not given", f"{target} is {'damaged' if target.exists() else 'not there'}")
    failure = sources.reachable(url)
    if not failure:
        try:
            return sources.download(url, target, _pinned(url))
        except OSError as error:
            failure = str(error)
    host = urlsplit(url).netloc
    raise sources.not_found(f"clip:{model}", (*tried, f"{host}: {failure}"))


def _addresses(clip: ModuleType) -> dict[str, str]:
    """Where OpenAI keeps each model; the last folder of an address is the file's SHA-256."""
    return dict(clip._MODELS)


def _pinned(url: str) -> str:
    return url.split("/")[-2]


def _clip() -> ModuleType:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from clip import clip
    module: ModuleType = clip
    return module
