"""OpenAI's CLIP image towers through clip-anytorch: ``clip:ViT-B/32`` and its sisters."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders import weights as sources
from outerfold.pipelines.encoders.catalogue import CLIP_CACHE
from outerfold.pipelines.encoders.frozen import FrozenEncoder, frozen
from outerfold.storage.records import DataError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CACHE = CLIP_CACHE
PREFIX = "visual."


@dataclass(frozen=True)
class Tower:
    """Size of a CLIP image tower.

    Attributes:
        width: of the embedding.
        side: of the square images, in pixels.
        layers: blocks, of a ResNet in each of its four stages.
        inner: width inside.
        patch: side of a transformer's patches in pixels; 0 for a ResNet.
    """

    width: int
    side: int
    layers: int | tuple[int, int, int, int]
    inner: int
    patch: int = 0

    def build(self) -> nn.Module:
        """The tower, its values yet to be loaded."""
        from clip.model import ModifiedResNet, VisionTransformer

        if isinstance(self.layers, tuple):
            heads = self.inner * 32 // 64
            return ModifiedResNet(self.layers, self.width, heads, self.side, self.inner)  # type: ignore[no-any-return]
        return VisionTransformer(  # type: ignore[no-any-return]
            self.side, self.patch, self.inner, self.layers, self.inner // 64, self.width
        )


TOWERS = {
    "RN50": Tower(1024, 224, (3, 4, 6, 3), 64),
    "RN101": Tower(512, 224, (3, 4, 23, 3), 64),
    "RN50x4": Tower(640, 288, (4, 6, 10, 6), 80),
    "RN50x16": Tower(768, 384, (6, 8, 18, 8), 96),
    "RN50x64": Tower(1024, 448, (3, 15, 36, 10), 128),
    "ViT-B/32": Tower(512, 224, 12, 768, 32),
    "ViT-B/16": Tower(512, 224, 12, 768, 16),
    "ViT-L/14": Tower(768, 224, 24, 1024, 14),
    "ViT-L/14@336px": Tower(768, 336, 24, 1024, 14),
}
"""The models that clip-anytorch knows. Reference: Radford et al. (2021), tables 19 and 20."""


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
    pinned = {_pinned(url): name for name, url in known.items()}
    if pinned.get(sha256, model) != model:
        raise sources.not_its(str(path), f"clip:{model}", f"it is OpenAI's {pinned[sha256]}")
    if sha256 in pinned:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
            loaded, _ = clip.load(str(path), device="cpu", jit=False)
        visual: nn.Module = loaded.float().visual
    else:
        visual = _from_state(path, model)
    is_transformer = hasattr(visual, "class_embedding")
    return frozen(
        VisionTrunk(visual) if is_transformer else ResNetTrunk(visual),
        name=f"clip:{model}",
        weights_sha256=sha256,
        versions=sources.versions_of("torch", "clip-anytorch"),
        image_size=TOWERS[model].side,
        mean=MEAN,
        std=STD,
    )


def _from_state(path: Path, model: str) -> nn.Module:
    """The image tower of a plain state dict, shape for shape; its text tower is not looked at.

    ``clip.load`` tries a file as TorchScript before it reads it as tensors; a file that is not one
    of OpenAI's own, by its hash, is therefore never given to it.
    """
    state = sources.read_state(path)
    found = {key: value for key, value in state.items() if key.startswith(PREFIX)}
    with torch.device("meta"):
        own = {f"{PREFIX}{key}": at for key, at in TOWERS[model].build().state_dict().items()}
    if {key: at.shape for key, at in own.items()} != {key: at.shape for key, at in found.items()}:
        raise sources.mismatch(str(path), f"clip:{model}", own, found)
    tower = TOWERS[model].build()
    tower.load_state_dict({key.removeprefix(PREFIX): value for key, value in found.items()})
    return tower.eval()


def _pretrained(model: str, url: str) -> Path:
    target = CACHE.expanduser() / Path(urlsplit(url).path).name
    if target.is_file() and sources.sha256_of(target) == _pinned(url):
        return target
    tried = ("not given", f"{target} is {'damaged' if target.exists() else 'not there'}")
    failure = sources.reachable(url)
    if not failure:
        try:
            return sources.download_weights(url, target, _pinned(url))
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
