from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from outerfold.pipelines.augmentation import albumentations_views as module
from outerfold.pipelines.augmentation import torchvision_views
from outerfold.pipelines.augmentation.views import (
    STRENGTHS,
    STYLES,
    Views,
    augmentation_key,
    strength_of,
    view_number,
    view_of,
    view_seed,
)
from tests.contracts.encoder_contract import pictures
from tests.places import ROOT

CONTENT = "ab" * 32
MADE_BY = {"albumentations": module.augment, "torchvision": torchvision_views.augment}


def augment(image: np.ndarray, *, seed: int, strength: str = "strong") -> np.ndarray:
    return module.augment(image, seed=seed, strength=strength)


KEPT = {
    "albumentations": {
        "key": "72805bd7b49abe171e2b33545e1685a88db414123cbe014ec4c02c128c0b5039",
        "colour": "97ce52412b7238702d5fcf66cee53901ad080e78a9020c302a532c964d238b9f",
        "grey": "94aec9245e7bec82d300adeb90673a488a80fd87cb09d462312580642b0147e9",
        "noise": "e422f2d5c8cbaaeeae8c5fae942671ea26a880ab6a2ce850bcc2198c87ef806a",
    },
    "torchvision": {
        "key": "388ac7392d673eb41b4a0073fe74874f487b93664a4731f9014d6a988a45455b",
        "colour": "5f837a8dd25dbd56a0eeebec32a98abfef3484aaa36382ac48ff5fbc191ecc5b",
        "grey": "55119ef56b5a27b875c361d2c54309dff8ad5ebc67f72ae8ae6bbca760dbf35a",
        "noise": "ffdfb7709ef96abbaf9481b19421ffeab32c2821c35205f1f01169fdb5496327",
    },
}
"""SHA-256 of 40 views of each picture, with the key under which caches keep such views."""


def kept_pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    colour = np.repeat(np.repeat(coarse, 8, 0), 8, 1)
    noise = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return {"colour": colour, "grey": np.repeat(colour[:, :, :1], 3, 2), "noise": noise}


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_view_zero_is_the_untouched_image(style: str) -> None:
    image = pictures(1, 64)[0]
    np.testing.assert_array_equal(view_of(image, CONTENT, 0, style), image)


def test_a_view_depends_on_content_and_number_alone(style: str) -> None:
    image = pictures(1, 64)[0]
    first = view_of(image, CONTENT, 3, style)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what must not matter
    torch.manual_seed(5)
    MADE_BY[style](image, seed=99, strength="light")
    np.testing.assert_array_equal(view_of(image.copy(), CONTENT, 3, style), first)


@pytest.mark.parametrize("picture", kept_pictures())
def test_views_under_a_kept_key_have_the_kept_pixels(style: str, picture: str) -> None:
    if augmentation_key(style) != KEPT[style]["key"]:
        pytest.skip("other versions of the libraries, whose views have another key")
    image, found = kept_pictures()[picture], hashlib.sha256()
    for number in range(1, 41):
        found.update(view_of(image, CONTENT, number, style).tobytes())
    assert found.hexdigest() == KEPT[style][picture]


def test_a_view_is_that_of_transforms_made_for_it_alone() -> None:
    for seed, strength in ((seed, name) for seed in range(30) for name in STRENGTHS):
        image = pictures(1, 64, seed)[0]
        fresh = module._make_transforms(module.STRENGTHS[strength])
        fresh.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = fresh(image=image)["image"]
        np.testing.assert_array_equal(augment(image, seed=seed, strength=strength), expected)


def test_a_grey_image_takes_the_short_way_to_the_same_pixels() -> None:
    one, rng = torchvision_views, np.random.default_rng(3)
    for seed in range(40):
        grey = np.repeat(rng.integers(0, 256, (60, 60, 1), dtype=np.uint8), 3, axis=2)
        draws, pixels = np.random.default_rng(seed), torch.from_numpy(grey).permute(2, 0, 1)
        for change in (one._crop, one._flip, one._rotate, one._jitter, one._erase):
            pixels = change(pixels, one.STRENGTHS["strong"], draws)
        found = one.augment(grey, seed=seed, strength="strong")
        np.testing.assert_array_equal(found, pixels.permute(1, 2, 0).numpy())


def test_threads_that_make_views_side_by_side_make_the_same(style: str) -> None:
    images = list(pictures(24, 64))
    alone = [view_of(image, CONTENT, 2, style) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: view_of(image, CONTENT, 2, style), images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_global_random_states_are_left_alone(style: str) -> None:
    def state() -> tuple[object, ...]:
        numpy_state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        return random.getstate(), numpy_state, torch.get_rng_state().tolist()

    before = state()
    for strength in STRENGTHS:
        MADE_BY[style](pictures(1, 64)[0], seed=1, strength=strength)
    assert state() == before


def test_a_view_keeps_its_number_however_many_there_are() -> None:
    numbers = [view_number(strength, nth) for nth in (1, 2, 3) for strength in STRENGTHS]
    assert numbers == [1, 2, 3, 4, 5, 6]
    for strength in STRENGTHS:
        assert {strength_of(view_number(strength, nth)) for nth in (1, 2, 3)} == {strength}


def test_a_strong_view_changes_more_than_a_light_one(style: str) -> None:
    """Against the same view of a ramp, the median over images of how far pixels move."""
    image = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0)
    image = np.repeat(image, 3, axis=2)
    spread = {}
    for strength in STRENGTHS:
        views = [MADE_BY[style](image, seed=seed, strength=strength) for seed in range(60)]
        spread[strength] = np.std([np.sort(view.ravel()) for view in views], axis=0).mean()
    assert spread["strong"] > 1.2 * spread["light"]


def test_the_styles_make_other_views_and_have_other_keys() -> None:
    image = pictures(1, 64)[0]
    one, other = (view_of(image, CONTENT, 1, style) for style in STYLES)
    assert not np.array_equal(one, other)
    assert len({augmentation_key(style) for style in STYLES}) == 2


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'imgaug'"):
        view_of(pictures(1, 64)[0], CONTENT, 1, "imgaug")


@pytest.mark.parametrize("numbers", [(), (1, 2), (0, -1)])
def test_views_always_hold_the_image_itself(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a row has view 0 and none below it"):
        Views(numbers)


def test_every_change_that_the_multimodal_task_names_occurs() -> None:
    """Crop, flips, rotation of at most ten degrees, jitter, erasing; one at a time."""
    one = torchvision_views
    most = one.STRENGTHS["strong"]
    assert most.degrees == 10.0
    ramp = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1)
    seen: dict[str, list[bool]] = {name: [] for name in ("crop", "flip", "jitter", "erase")}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        crop = one._crop(ramp, most, rng)
        assert int(crop.max()) - int(crop.min()) > 0.5 * 64
        seen["crop"].append(int(crop.max()) - int(crop.min()) < 55)
        seen["flip"].append(bool(one._flip(ramp, most, rng)[0, 0, 0] > 32))
        light = one._jitter(torch.full((3, 8, 8), 128, dtype=torch.uint8), most, rng)
        assert 128 * 0.75 < light.float().mean() < 128 * 1.25
        seen["jitter"].append(abs(float(light.float().mean()) - 128) > 3)
        hole = one._erase(torch.full((3, 64, 64), 9, dtype=torch.uint8), most, rng) == 0
        assert hole.float().mean() <= most.largest + 0.01
        seen["erase"].append(bool(hole.any()))
    for name, happened in seen.items():
        assert {True, False} == set(happened), name


def test_rotation_stays_within_its_degrees() -> None:
    line = torch.zeros(3, 101, 101, dtype=torch.uint8)
    line[:, 50] = 255
    angles = []
    for seed in range(30):
        turned = torchvision_views._rotate(
            line, torchvision_views.STRENGTHS["strong"], np.random.default_rng(seed)
        )
        left, right = (float(turned[0, :, x].float().argmax()) for x in (10, 90))
        angles.append(float(np.degrees(np.arctan2(left - right, 80))))
    assert max(map(abs, angles)) < 10.8
    assert max(angles) > 5
    assert min(angles) < -5


def test_views_and_images_differ_in_their_seeds() -> None:
    seeds = {view_seed(content, view) for content in ("a", "b", "a1", "1a") for view in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_views_keep_shape_and_kind_and_nearly_all_differ() -> None:
    image = pictures(1, 64)[0]
    before = image.copy()
    views = [augment(image, seed=seed) for seed in range(40)]
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view in views)
    assert sum(not np.array_equal(view, image) for view in views) >= 38
    np.testing.assert_array_equal(image, before)


def test_transforms_are_drawn_independently() -> None:
    """Compose's own seeding would apply them all together or not at all."""
    flat = np.full((32, 32, 3), 128, np.uint8)
    brightened, moved = [], []
    for seed in range(80):
        view = augment(flat, seed=seed)
        moved.append(bool((view < 20).any()))
        brightened.append(int(np.median(view)) != 128)
    kinds = set(zip(moved, brightened, strict=True))
    assert kinds == {(a, b) for a in (True, False) for b in (True, False)}


def test_every_named_transform_occurs() -> None:
    """Orientation from one bright corner, brightness from a flat image, movement from a dot."""
    corner = np.zeros((64, 64, 3), np.uint8)
    corner[4:24, 4:24] = 255
    flat = np.full((64, 64, 3), 128, np.uint8)
    where, means, borders = set(), [], 0
    for seed in range(60):
        bright = augment(corner, seed=seed)[..., 0] > 100
        y, x = np.argwhere(bright).mean(axis=0)
        where.add((y > 32, x > 32))
        view = augment(flat, seed=seed)
        means.append(float(np.median(view)))
        borders += int((view < 20).any())
    assert len(where) == 4
    assert min(means) < 110 < 146 < max(means)
    assert 20 < borders < 60


@pytest.mark.parametrize("side", [7, 224])
def test_any_square_size_is_taken(side: int) -> None:
    assert augment(np.zeros((side, side, 3), np.uint8), seed=1).shape == (side, side, 3)


def test_the_key_changes_with_any_setting(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    before = augmentation_key(style)
    assert augmentation_key(style) == before
    made_by = {"albumentations": module, "torchvision": torchvision_views}[style]
    strong = replace(made_by.STRENGTHS["strong"], degrees=3.0)
    monkeypatch.setitem(made_by.STRENGTHS, "strong", strong)
    assert augmentation_key(style) != before


def test_the_library_is_loaded_offline_and_the_environment_put_back() -> None:
    code = (
        "import os, urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "from outerfold.pipelines.augmentation.views import view_of\n"
        "import numpy as np\n"
        "view_of(np.zeros((8, 8, 3), np.uint8), 'ab', 1, 'albumentations')\n"
        "print(os.environ.get('NO_ALBUMENTATIONS_UPDATE'))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "None", done.stderr


def test_a_user_s_own_setting_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "0")
    module._import_library.__wrapped__()
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "0"
