"""Image towers of OpenAI's CLIP through clip-anytorch, such as ``clip:ViT-B/32``."""

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
    """Sizes of a CLIP image tower.

    Attributes:
        width: width of the embedding.
        side: side of the square input images, in pixels.
        layers: number of blocks; of a ResNet the numbers in its four stages.
        inner: width of the inner layers.
        patch: side of a transformer's patches in pixels; 0 for a ResNet.
    """

    width: int
    side: int
    layers: int | tuple[int, int, int, int]
    inner: int
    patch: int = 0

    def build(self) -> nn.Module:
        """Build the tower; its weights are not loaded yet."""
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
"""Towers of the models in clip-anytorch. Reference: Radford et al. (2021), tables 19 and 20."""


class VisionTrunk(nn.Module):
    """CLIP's vision transformer that also returns its patches.

    Patches pass ``ln_post`` and the projection as the class token does, so a token is in the same
    space as the pooled vector. The pooled vector equals the output of ``encode_image``.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, 3, s, s) to the pooled vector (n, dim) and patches (n, dim, h, w)."""
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
    """CLIP's ResNet that also returns the map which its attention pools."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.pooling = visual.attnpool
        visual.attnpool = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, 3, s, s) to the pooled vector (n, dim) and the map (n, channels, h, w)."""
        spatial = self.features(x)
        return self.pool(spatial), spatial

    def features(self, x: Tensor) -> Tensor:
        """Compute the last map (n, channels, h, w) of images (n, 3, s, s)."""
        spatial: Tensor = self.visual(x)
        return spatial

    def pool(self, features: Tensor) -> Tensor:
        """Pool the last map (n, channels, h, w) to (n, dim)."""
        pooled: Tensor = self.pooling(features)  # type: ignore[operator]
        return pooled

    def map(self, features: Tensor) -> Tensor:
        """Return the features unchanged, since they are a map (n, channels, h, w)."""
        return features


def build(model: str, *, weights: Path | None = None) -> FrozenEncoder:
    """Build a CLIP image tower in float32.

    Weights come from ``weights``, else from the local cache, else from OpenAI's address.

    Raises:
        DataError: unknown model, no weights anywhere, or weights of another model.
    """
    clip = _import_clip()
    known = _addresses(clip)
    if model not in known:
        near = difflib.get_close_matches(model, known, n=1, cutoff=0)
        raise DataError(f"clip:{model}: no such model; did you mean clip:{near[0]}?")
    path = sources.check_file(weights) if weights else _find_weights(model, known[model])
    sha256 = sources.sha256_of(path)
    pinned = {_sha256_in(url): name for name, url in known.items()}
    if pinned.get(sha256, model) != model:
        raise sources.wrong_weights_error(
            str(path), f"clip:{model}", f"it is OpenAI's {pinned[sha256]}"
        )
    if sha256 in pinned:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
            loaded, _ = clip.load(str(path), device="cpu", jit=False)
        visual: nn.Module = loaded.float().visual
    else:
        visual = _build_from_state(path, model)
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


def _build_from_state(path: Path, model: str) -> nn.Module:
    """Build the image tower from a plain state dict whose shapes must fit; ignore its text tower.

    ``clip.load`` tries to run a file as TorchScript before it reads it as tensors. So it never gets
    a file whose hash is not one of OpenAI's.
    """
    state = sources.read_state(path)
    found = {key: value for key, value in state.items() if key.startswith(PREFIX)}
    with torch.device("meta"):
        own = {f"{PREFIX}{key}": at for key, at in TOWERS[model].build().state_dict().items()}
    if {key: at.shape for key, at in own.items()} != {key: at.shape for key, at in found.items()}:
        raise sources.mismatch_error(str(path), f"clip:{model}", own, found)
    tower = TOWERS[model].build()
    tower.load_state_dict({key.removeprefix(PREFIX): value for key, value in found.items()})
    return tower.eval()


def _find_weights(model: str, url: str) -> Path:
    target = CACHE.expanduser() / Path(urlsplit(url).path).name
    if target.is_file() and sources.sha256_of(target) == _sha256_in(url):
        return target
    tried = ("not given", f"{target} is {'damaged' if target.exists() else 'not there'}")
    failure = sources.find_failure(url)
    if not failure:
        try:
            return sources.download_weights(url, target, _sha256_in(url))
        except OSError as error:
            failure = str(error)
    host = urlsplit(url).netloc
    raise sources.no_weights_error(f"clip:{model}", (*tried, f"{host}: {failure}"))


def _addresses(clip: ModuleType) -> dict[str, str]:
    """Addresses of OpenAI's models, by name; the last folder of one is the file's SHA-256."""
    return dict(clip._MODELS)


def _sha256_in(url: str) -> str:
    return url.split("/")[-2]


def _import_clip() -> ModuleType:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from clip import clip
    module: ModuleType = clip
    return module
