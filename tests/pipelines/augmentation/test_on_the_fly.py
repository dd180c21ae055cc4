"""Random changes of images come from their seed and leave everything else alone."""

from __future__ import annotations

import torch

from outerfold.pipelines.augmentation.on_the_fly import vary
from tests.contracts.encoder_contract import pictures

IMAGES = torch.from_numpy(pictures(6, 32))


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    one, same, other = (vary(IMAGES, strength=1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (one.shape, one.dtype) == (IMAGES.shape, torch.uint8)


def test_no_strength_leaves_images_alone_and_more_changes_them_more() -> None:
    assert torch.equal(vary(IMAGES, strength=0.0, seed=1), IMAGES)
    change = [
        sum(_least_change(vary(IMAGES, strength=s, seed=seed)) for seed in range(8))
        for s in (0.05, 1.0)
    ]
    assert 0 < change[0] < change[1]


def _least_change(varied: torch.Tensor) -> float:
    """Mean change of a pixel, of the image or of its mirror image, whichever is nearer."""
    near = [
        (varied.float() - like.float()).abs().mean((1, 2, 3)) for like in (IMAGES, IMAGES.flip(2))
    ]
    return float(torch.stack(near).min(0).values.mean())


def test_images_of_a_batch_are_changed_each_in_its_own_way() -> None:
    twins = IMAGES[:1].repeat(4, 1, 1, 1)
    varied = vary(twins, strength=1.0, seed=3)
    assert not any(torch.equal(varied[0], other) for other in varied[1:])


def test_the_global_stream_is_left_as_it_was() -> None:
    before = torch.random.get_rng_state()
    vary(IMAGES, strength=1.0, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
