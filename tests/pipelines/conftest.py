"""What tests of several pipelines share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch

from outerfold.pipelines.encoders import clip_encoder, registry
from outerfold.pipelines.encoders.frozen import FrozenEncoder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products only wait for each other on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of CLIP towers that tests can make and run in no time, under the names of real ones."""
    towers = {
        "ViT-B/32": clip_encoder.Tower(32, 32, 2, 64, 8),
        "RN50": clip_encoder.Tower(16, 64, (1, 1, 1, 1), 8),
    }
    for name, tower in towers.items():
        monkeypatch.setitem(clip_encoder.TOWERS, name, tower)


def encoder_of(name: str, weights: Path | None = None) -> FrozenEncoder:
    encoder = registry.build(name, weights=weights)
    assert isinstance(encoder, FrozenEncoder)
    return encoder


@pytest.fixture(scope="module")
def lite0() -> FrozenEncoder:
    return encoder_of("bundled:efficientnet_lite0")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> FrozenEncoder:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "vit.pt"
    torch.save(timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict(), path)
    return encoder_of("timm:vit_tiny_patch16_224", path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> FrozenEncoder:
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(16, 64, 3, 64, 16, 8, 20, 64, 1, 1)
    path = tmp_path_factory.mktemp("clip") / "tiny.pt"
    torch.save(model.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clip_encoder.TOWERS, "ViT-B/32", clip_encoder.Tower(16, 64, 3, 64, 16))
        return encoder_of("clip:ViT-B/32", path)
