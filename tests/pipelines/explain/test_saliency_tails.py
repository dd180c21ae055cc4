"""Heat maps of models that trained the end of the encoder, or average over views."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from outerfold.pipelines.encoders.divide import Blocks, divide
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.explain.fold_model import FoldModel, Tails, log_probabilities
from outerfold.pipelines.explain.rollout import tail_shares
from outerfold.pipelines.explain.saliency import heat_of
from outerfold.pipelines.fitted.calibration import Decision
from tests.pipelines.explain.saliency_factories import NO_COLUMNS, head_of, sound, square

pytestmark = pytest.mark.usefixtures("one_thread")


def with_tails(encoder: FrozenEncoder, model: FoldModel, blocks: Blocks) -> FoldModel:
    """The model with a copy of the encoder's last blocks for each network, as yet untrained."""
    divided = divide(encoder, blocks)
    each = torch.nn.ModuleList(deepcopy(divided.tail) for _ in range(model.networks))
    return replace(model, tails=Tails(each.requires_grad_(False), divided.trunk))


def moved(model: FoldModel, network: int, by: float = 0.5) -> FoldModel:
    """The model after one network's tail was trained to something else."""
    assert model.tails is not None
    rng = torch.Generator().manual_seed(5)
    for weights in model.tails.each[network].parameters():
        if weights.ndim > 1:
            noise = torch.randn(weights.shape, generator=rng)
            weights.data += by * weights.std() * noise
    return model


@pytest.mark.parametrize("blocks", [1, "all"])
@pytest.mark.parametrize(
    ("which", "tokens"),
    [
        ("lite0", False),
        ("lite0", True),
        ("vit", False),
        ("vit", True),
        ("clip", False),
        ("clip", True),
    ],
)
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
