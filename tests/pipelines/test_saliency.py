"""Heat maps: what they are made of, and what a map may not be."""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from pipelines.decision import Decision
from pipelines.encoders import clip_encoder, registry
from pipelines.encoders.clip_encoder import VisionTrunk
from pipelines.encoders.divide import Blocks, divide
from pipelines.encoders.frozen import FrozenEncoder
from pipelines.explained import FoldModel, Tails, log_probabilities
from pipelines.networks import EmbeddingMLP, Standardise, Widths
from pipelines.rollout import cells, patch_shares, roll_out, rolls_out, tail_shares
from pipelines.saliency import (
    GRAD_CAM,
    POOLING,
    ROLL_OUT,
    Heat,
    heat_of,
    method_of,
    pooling_weights,
)
from pipelines.stacked import Chance
from pipelines.tabular import TabularEncoder
from storage.records import DataError

pytestmark = pytest.mark.usefixtures("one_thread")
NO_COLUMNS = np.zeros(0)


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


def head_of(width: int, *, tokens: bool, networks: int = 2, classes: int = 3) -> FoldModel:
    """Untrained networks whose attention, if any, does not look everywhere alike."""
    scaler = Standardise(np.zeros((networks, width)), np.ones((networks, width)))
    chance = Chance(range(networks))
    network = EmbeddingMLP(chance, Widths(width, tokens, 0, classes), scaler, dropout=0.1).eval()
    if network.pool is not None:
        torch.nn.init.normal_(network.pool.query, generator=torch.Generator().manual_seed(1))
    return FoldModel(network, TabularEncoder(()), np.zeros(0), Decision(1.3, None), tokens)


def square(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def sound(heat: Heat, side: int) -> None:
    assert heat.shares.shape == (side, side)
    assert np.isfinite(heat.shares).all()
    assert heat.shares.min() >= 0
    assert heat.shares.max() <= 1
    if heat.method == GRAD_CAM:
        assert heat.shares.max() == pytest.approx(1.0, abs=1e-3)
    assert heat.probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("which", "tokens", "method"), [
    ("lite0", False, GRAD_CAM), ("lite0", True, POOLING), ("vit", False, ROLL_OUT),
    ("vit", True, ROLL_OUT), ("clip", False, ROLL_OUT), ("clip", True, ROLL_OUT),
])  # fmt: skip
def test_a_heat_map_has_the_images_size_lies_in_0_to_1_and_keeps_the_score(
    which: str, tokens: bool, method: str, request: pytest.FixtureRequest
) -> None:
    encoder: FrozenEncoder = request.getfixturevalue(which)
    model = head_of(encoder.token_dim if tokens else encoder.dim, tokens=tokens)
    image = square(encoder.image_size)
    heat = heat_of(encoder, model, image[None], NO_COLUMNS, target=1)
    assert (method_of(encoder, tokens=tokens), heat.method) == (method, method)
    sound(heat, encoder.image_size)
    encoded = encoder.encode(image[None])
    read = encoded.tokens if tokens else encoded.pooled
    expected = model.probabilities(read[None, None], np.zeros((1, 0)))[0]
    np.testing.assert_allclose(heat.probabilities, expected, atol=1e-6)


def with_tails(encoder: FrozenEncoder, model: FoldModel, blocks: Blocks) -> FoldModel:
    """The model with a copy of the encoder's last blocks for each network, as yet untrained."""
    divided = divide(encoder, blocks)
    each = torch.nn.ModuleList(deepcopy(divided.tail) for _ in range(model.networks))
    return replace(model, tails=Tails(each.requires_grad_(False), divided.trunk))


def moved(model: FoldModel, network: int, by: float = 0.5) -> FoldModel:
    """The model after one network's tail was trained to something else."""
    assert model.tails is not None
    chance = torch.Generator().manual_seed(5)
    for weights in model.tails.each[network].parameters():
        if weights.ndim > 1:
            noise = torch.randn(weights.shape, generator=chance)
            weights.data += by * weights.std() * noise
    return model


@pytest.mark.parametrize("blocks", [1, "all"])
@pytest.mark.parametrize(("which", "tokens"), [
    ("lite0", False), ("lite0", True), ("vit", False), ("vit", True), ("clip", False),
    ("clip", True),
])  # fmt: skip
def test_tails_that_learnt_nothing_have_the_heat_of_the_frozen_encoder(
    which: str, tokens: bool, blocks: Blocks, request: pytest.FixtureRequest
) -> None:
    encoder: FrozenEncoder = request.getfixturevalue(which)
    model = head_of(encoder.token_dim if tokens else encoder.dim, tokens=tokens)
    image = square(encoder.image_size)[None]
    expected = heat_of(encoder, model, image, NO_COLUMNS, target=1)
    found = heat_of(encoder, with_tails(encoder, model, blocks), image, NO_COLUMNS, target=1)
    assert found.method == expected.method
    sound(found, encoder.image_size)
    np.testing.assert_allclose(found.shares, expected.shares, atol=0.03)  # float16 at the cut
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-3)


def test_grad_cam_of_trained_tails_adds_up_the_maps_of_all_networks(lite0: FrozenEncoder) -> None:
    model = moved(with_tails(lite0, head_of(lite0.dim, tokens=False), 1), 1)
    assert model.tails is not None
    taken = model.tails.taken(square(224)[None])
    maps = [tail.features(taken).detach().requires_grad_() for tail in model.tails.each]
    pooled = torch.stack([map_.mean(dim=(2, 3)) for map_ in maps])
    logs = log_probabilities(model.network, pooled[None], torch.zeros(1, 0))
    (logs[0, 2] - torch.logsumexp(logs[0, :2], 0)).backward()  # type: ignore[no-untyped-call]
    cam = sum((map_.grad.mean((2, 3), keepdim=True) * map_).sum(1)[0] for map_ in maps)
    cam = cam.relu().detach()
    heat = heat_of(lite0, model, square(224)[None], NO_COLUMNS, target=2)
    expected = (cam / cam.max()).numpy()
    assert float(cam.max()) > 0
    assert np.corrcoef(heat.shares[16::32, 16::32].ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("which", ["vit", "clip"])
def test_roll_out_of_trained_tails_lies_between_those_of_its_networks(
    which: str, request: pytest.FixtureRequest
) -> None:
    encoder: FrozenEncoder = request.getfixturevalue(which)
    # Random attention is all but even; only large weights make two networks look elsewhere.
    model = moved(with_tails(encoder, head_of(encoder.dim, tokens=False), 2), 1, by=20)
    assert model.tails is not None
    image = square(encoder.image_size)[None]
    x, taken = encoder.normalised(image), model.tails.taken(image)
    one, other, both = (
        tail_shares(model.tails.trunk, list(tails), x, taken, None)
        for tails in (model.tails.each[:1], model.tails.each[1:], model.tails.each)
    )
    torch.testing.assert_close(both.sum(), torch.tensor(1.0))
    assert float((one - other).abs().max()) > 1e-5
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    assert bool(((both > low - 1e-7) & (both < high + 1e-7)).all())


def test_the_score_is_the_mean_over_views_and_the_map_is_of_the_untouched_image(
    lite0: FrozenEncoder,
) -> None:
    model = replace(head_of(lite0.dim, tokens=False), decision=Decision(1.0, None))
    for one in (model, moved(with_tails(lite0, model, 1), 0)):
        views = np.stack([square(224, seed) for seed in range(3)])
        alone = [heat_of(lite0, one, view[None], NO_COLUMNS, target=1) for view in views]
        heat = heat_of(lite0, one, views, NO_COLUMNS, target=1)
        np.testing.assert_array_equal(heat.shares, alone[0].shares)
        mean = np.mean([view.probabilities for view in alone], axis=0)
        np.testing.assert_allclose(heat.probabilities, mean, atol=1e-6)
        assert np.abs(mean - alone[0].probabilities).max() > 1e-5


def test_grad_cam_is_its_formula_on_the_mean_of_the_networks(lite0: FrozenEncoder) -> None:
    model = head_of(lite0.dim, tokens=False)
    x = lite0.normalised(square(224)[None])
    map_ = lite0.trunk.features(x).detach().requires_grad_()  # type: ignore[operator]
    pooled = map_.mean(dim=(2, 3))
    logs = log_probabilities(model.network, pooled[None, None], torch.zeros(1, 0))
    (logs[0, 2] - torch.logsumexp(logs[0, :2], 0)).backward()  # type: ignore[no-untyped-call]
    assert map_.grad is not None
    cam = (map_.grad.mean((2, 3), keepdim=True) * map_).sum(1)[0].relu().detach()
    assert float(cam.max()) > 0
    heat = heat_of(lite0, model, square(224)[None], NO_COLUMNS, target=2)
    centre = heat.shares[16::32, 16::32]  # bilinear, so that cell centres keep their values
    low = cam.min()
    expected = ((cam - low) / (cam.max() - low)).numpy()
    np.testing.assert_allclose(centre, expected, atol=0.06)
    assert np.corrcoef(centre.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("which", ["vit", "clip"])
@pytest.mark.parametrize("tokens", [False, True])
def test_roll_out_sums_to_1_and_differs_from_an_even_share(
    which: str, tokens: bool, request: pytest.FixtureRequest
) -> None:
    encoder: FrozenEncoder = request.getfixturevalue(which)
    assert rolls_out(encoder.trunk)
    x = encoder.normalised(square(encoder.image_size)[None].repeat(2, axis=0))
    weights = torch.full((2, 16), 1 / 16) if tokens else None
    shares = patch_shares(encoder.trunk, x, weights)
    torch.testing.assert_close(shares.sum(dim=(1, 2)), torch.ones(2))
    assert float(shares.min()) > 0
    assert float(shares.std()) > 0


def test_roll_out_passes_a_patch_on_through_every_layer() -> None:
    first = torch.eye(3)[None]
    second = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    rolled = roll_out([first, second])
    torch.testing.assert_close(rolled[0, 0], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(1, 3))


def test_asking_for_attention_changes_no_representation(
    vit: FrozenEncoder, clip: FrozenEncoder
) -> None:
    for encoder in (vit, clip):
        image = square(encoder.image_size)[None]
        before = encoder.encode(image).pooled
        patch_shares(encoder.trunk, encoder.normalised(image), None)
        np.testing.assert_array_equal(encoder.encode(image).pooled, before)


def test_pooling_weights_sum_to_1_and_are_even_before_training() -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 16, 8)).astype(np.float16)
    model = head_of(8, tokens=True)
    weights = pooling_weights(model, tokens[None])
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 3))
    assert float(weights.std()) > 0
    pool = model.network.pool
    torch.nn.init.zeros_(pool.query)  # type: ignore[union-attr,arg-type]
    torch.testing.assert_close(pooling_weights(model, tokens[None]), torch.full((2, 3, 16), 1 / 16))


def test_even_weights_are_hot_nowhere(lite0: FrozenEncoder) -> None:
    model = head_of(lite0.token_dim, tokens=True)
    torch.nn.init.zeros_(model.network.pool.query)  # type: ignore[union-attr,arg-type]
    heat = heat_of(lite0, model, square(224)[None], NO_COLUMNS, target=0)
    assert heat.peak == pytest.approx(1.0)
    assert heat.shares.max() == pytest.approx(0.0, abs=1e-5)


def test_spatial_tokens_are_means_of_patches() -> None:
    grid: Tensor = cells(7, 7)
    assert grid.shape == (16, 49)
    torch.testing.assert_close(grid.sum(dim=1), torch.ones(16))


def test_a_transformer_with_another_pooling_is_refused(vit: FrozenEncoder) -> None:
    model = vit.trunk.model
    before = model.global_pool  # type: ignore[union-attr]
    try:
        model.global_pool = "max"  # type: ignore[union-attr,assignment]
        x = vit.normalised(square(224)[None])
        with pytest.raises(DataError, match="class token or a mean of patches only"):
            patch_shares(vit.trunk, x, None)
    finally:
        model.global_pool = before  # type: ignore[union-attr,assignment]


def test_patches_without_plain_attention_are_refused(
    vit: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(vit.trunk.model.blocks[0].attn, "attn_drop")  # type: ignore[union-attr,index]
    model = head_of(vit.dim, tokens=False)
    with pytest.raises(DataError, match="neither a map for Grad-CAM nor"):
        heat_of(vit, model, square(224)[None], NO_COLUMNS, target=0)


def test_clip_is_a_transformer_and_lite0_is_not(clip: FrozenEncoder, lite0: FrozenEncoder) -> None:
    assert isinstance(clip.trunk, VisionTrunk)
    assert not rolls_out(lite0.trunk)


def test_an_absent_package_is_one_sentence(
    lite0: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    model = head_of(lite0.dim, tokens=False)
    with pytest.raises(DataError, match=r"pip install 'outerfold\[explain\]'"):
        heat_of(lite0, model, square(224)[None], NO_COLUMNS, target=0)
