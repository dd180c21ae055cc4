"""Heat maps: what they are made of, and what a map may not be."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from outerfold.pipelines.encoders.clip_encoder import VisionTrunk
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.explain.fold_model import log_probabilities
from outerfold.pipelines.explain.rollout import cells, patch_shares, roll_out, rolls_out
from outerfold.pipelines.explain.saliency import (
    GRAD_CAM,
    POOLING,
    ROLL_OUT,
    heat_of,
    method_of,
    pooling_weights,
)
from outerfold.storage.records import DataError
from tests.pipelines.explain.saliency_factories import NO_COLUMNS, head_of, sound, square

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("which", "tokens", "method"),
    [
        ("lite0", False, GRAD_CAM),
        ("lite0", True, POOLING),
        ("vit", False, ROLL_OUT),
        ("vit", True, ROLL_OUT),
        ("clip", False, ROLL_OUT),
        ("clip", True, ROLL_OUT),
    ],
)
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
    expected = model.probabilities(read[None, None], np.zeros((1, 1, 0)))[0]
    np.testing.assert_allclose(heat.probabilities, expected, atol=1e-6)


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
    assert rolls_out(encoder)
    x = encoder.normalised(square(encoder.image_size)[None].repeat(2, axis=0))
    weights = torch.full((2, 16), 1 / 16) if tokens else None
    shares = patch_shares(encoder, x, weights)
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
        patch_shares(encoder, encoder.normalised(image), None)
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
            patch_shares(vit, x, None)
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
    assert not rolls_out(lite0)


def test_an_absent_package_is_one_sentence(
    lite0: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    model = head_of(lite0.dim, tokens=False)
    with pytest.raises(DataError, match=r"pip install 'outerfold\[explain\]'"):
        heat_of(lite0, model, square(224)[None], NO_COLUMNS, target=0)
