from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import augment as module
from pipelines.augment import augment, augmentation_key, view_of, view_seed
from tests.contracts.encoder_contract import pictures

CONTENT = "ab" * 32


def test_view_zero_is_the_untouched_image() -> None:
    image = pictures(1, 64)[0]
    np.testing.assert_array_equal(view_of(image, CONTENT, 0), image)


def test_a_view_depends_on_content_and_number_alone() -> None:
    image = pictures(1, 64)[0]
    first = view_of(image, CONTENT, 3)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what must not matter
    augment(image, seed=99)
    np.testing.assert_array_equal(view_of(image.copy(), CONTENT, 3), first)


def test_global_random_states_are_left_alone() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    augment(pictures(1, 64)[0], seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]  # noqa: NPY002


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


def test_the_key_changes_with_any_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    before = augmentation_key()
    assert augmentation_key() == before
    other = module._library().Compose([module._library().HorizontalFlip(p=0.4)], seed=0)
    monkeypatch.setattr(module, "_recipe_of", lambda seed: other)
    assert augmentation_key() != before


def test_the_library_is_loaded_offline_and_the_environment_put_back() -> None:
    code = (
        "import os, urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "from pipelines.augment import augment\n"
        "import numpy as np\n"
        "augment(np.zeros((8, 8, 3), np.uint8), seed=1)\n"
        "print(os.environ.get('NO_ALBUMENTATIONS_UPDATE'))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=Path(module.__file__).parents[1], env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "None", done.stderr


def test_a_user_s_own_setting_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "0")
    module._library.__wrapped__()
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "0"
