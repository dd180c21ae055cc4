"""An encoder cut in two gives what the whole gives, and only its tail changes by training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders import divide as module
from outerfold.pipelines.encoders import registry
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.divide import ALL, Blocks, Divided, count_blocks, divide
from outerfold.pipelines.encoders.frozen import FrozenEncoder, to_grid
from outerfold.storage.records import DataError
from tests.contracts.encoder_contract import pictures
from tests.pipelines.training.tail_factories import save_clip, small_towers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)


def timm_encoder(name: str, folder: Path) -> Encoder:
    torch.manual_seed(0)
    torch.save(timm.create_model(name, pretrained=False).state_dict(), folder / "weights.pt")
    return registry.build(f"timm:{name}", weights=folder / "weights.pt")


MAKERS: dict[str, Callable[[Path], Encoder]] = {
    "bundled": lambda folder: registry.build("bundled:efficientnet_lite0"),
    "vit": lambda folder: timm_encoder("vit_tiny_patch16_224", folder),
    "mobilenet": lambda folder: timm_encoder("mobilenetv3_small_050", folder),
    "convnext": lambda folder: timm_encoder("convnext_atto", folder),
    "resnet": lambda folder: timm_encoder("resnet10t", folder),
    "clip": lambda folder: registry.build("clip:ViT-B/32", weights=save_clip(folder)),
    "clip resnet": lambda folder: registry.build(
        "clip:RN50", weights=save_clip(folder, 16, 64, (1, 1, 1, 1), 8, None)
    ),
}


@pytest.fixture(params=MAKERS)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    return MAKERS[request.param](tmp_path)


def parted(divided: Divided, images: np.ndarray) -> tuple[Tensor, Tensor]:
    given = images if divided.trunk is None else divided.trunk.encode(images).tokens
    with torch.inference_mode():
        pooled, spatial = divided.tail(torch.from_numpy(given))
    return pooled, to_grid(spatial)


@pytest.mark.parametrize("blocks", [1, 2, ALL])
def test_trunk_and_tail_give_what_the_whole_encoder_gives(encoder: Encoder, blocks: Blocks) -> None:
    images = pictures(3, encoder.image_size)
    whole = encoder.encode(images)
    pooled, tokens = parted(divide(encoder, blocks), images)
    spread = float(whole.pooled.std())
    # Kept activations are float16, whose 11 bits leave some thousandths; pixels lose nothing.
    room = 1e-3 if blocks == ALL else 2e-2
    np.testing.assert_allclose(pooled.numpy(), whole.pooled, atol=room * spread)
    kept = whole.tokens.astype(np.float32)  # rounded to float16 as well
    np.testing.assert_allclose(tokens.numpy(), kept, rtol=1e-3, atol=5 * room * float(kept.std()))


def test_training_changes_the_tail_and_leaves_the_trunk_with_its_batch_normalisation_alone() -> (
    None
):
    encoder = MAKERS["bundled"](Path())
    assert isinstance(encoder, FrozenEncoder)
    divided = divide(encoder, 2)
    assert divided.trunk is not None
    before = {name: value.clone() for name, value in encoder.trunk.state_dict().items()}
    start = {name: value.clone() for name, value in divided.tail.state_dict().items()}
    images = torch.from_numpy(divided.trunk.encode(pictures(4, 224)).tokens)
    optimiser = torch.optim.Adam(divided.tail.parameters(), lr=1e-3)
    divided.tail.train()
    torch.autograd.backward(divided.tail(images)[0].square().mean())
    optimiser.step()
    after, end = encoder.trunk.state_dict(), divided.tail.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in encoder.trunk.parameters())
    assert not any(part.training for part in divided.trunk.trunk.modules())
    assert not any(torch.equal(start[name], end[name]) for name in start if "running" in name)
    assert {int(name[name.index("blocks.") + 7]) for name in end if "blocks." in name} == {5, 6}


def test_the_tail_has_no_weight_that_belongs_to_the_trunk(encoder: Encoder) -> None:
    assert isinstance(encoder, FrozenEncoder)
    divided = divide(encoder, 1)
    used = divided.tail.train()
    images = pictures(2, encoder.image_size)
    assert divided.trunk is not None
    pooled, spatial = used(torch.from_numpy(divided.trunk.encode(images).tokens))
    torch.autograd.backward(pooled.square().mean() + spatial.square().mean())
    idle = [name for name, p in used.named_parameters() if p.grad is None]
    assert idle == []
    assert len(list(used.parameters())) < len(list(encoder.trunk.parameters()))


@pytest.mark.parametrize("name", ["bundled", "vit"])
def test_checkpointing_changes_no_gradient_and_no_batch_normalisation(
    name: str, tmp_path: Path
) -> None:
    encoder = MAKERS[name](tmp_path)
    found = []
    for checkpointing in (False, True):
        divided = divide(encoder, 2)
        assert divided.trunk is not None
        divided.tail.checkpointing = checkpointing
        images = torch.from_numpy(divided.trunk.encode(pictures(3, 224)).tokens)
        torch.autograd.backward(divided.tail.train()(images)[0].square().mean())
        gradients = [p.grad for p in divided.tail.parameters()]
        buffers = [b for key, b in divided.tail.named_buffers() if "running" in key]
        found.append((gradients, buffers))
    for plain, saved in zip(*found, strict=True):
        for one, other in zip(plain, saved, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_more_blocks_than_there_are_are_refused_with_their_number() -> None:
    encoder = MAKERS["bundled"](Path())
    assert count_blocks(encoder) == 7
    with pytest.raises(DataError, match="efficientnet_lite0 has 7 blocks; name 1 to 7, or all"):
        divide(encoder, 8)


def test_an_encoder_whose_blocks_are_not_known_is_refused() -> None:
    encoder = MAKERS["bundled"](Path())
    assert isinstance(encoder, FrozenEncoder)
    with pytest.raises(DataError, match="cannot be cut at a block, since its blocks are not known"):
        divide(replace(encoder, trunk=nn.Conv2d(3, 3, 1)), 1)


def test_parts_that_give_other_values_than_the_whole_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backbone may do more between its blocks than its attributes tell."""
    encoder = MAKERS["bundled"](Path())
    forward = module.Trunk.at_the_cut
    monkeypatch.setattr(module.Trunk, "at_the_cut", lambda self, x: 2 * forward(self, x))
    with pytest.raises(DataError, match="its parts give other values than the whole"):
        divide(encoder, 2)
