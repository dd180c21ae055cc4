"""Activations are kept once, announced beforehand, and read back as the trunk gave them."""

from __future__ import annotations

import pickle
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from outerfold.pipelines.augmentation.views import STYLES, Views, view_of
from outerfold.pipelines.encoders import registry
from outerfold.pipelines.encoders.divide import ALL, divide
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.images import activations as module
from outerfold.pipelines.images.activations import (
    UNTOUCHED,
    Division,
    describe_disk_space,
    trunk_source,
)
from outerfold.pipelines.images.decoded import read_square
from outerfold.storage.images.framing import PADDED
from outerfold.storage.images.read import content_hash
from outerfold.storage.records import DataError, Features
from tests.pipelines.training.tail_factories import save_clip, small_towers
from tests.storage.images.image_factories import write_picture

pytestmark = pytest.mark.usefixtures("one_thread")

TWO, THREE = (Views(tuple(range(n)), STYLES[0]) for n in (2, 3))
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _small_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    paths = [str(write_picture(tmp_path / "images" / f"{i}.png", i)) for i in range(5)]
    return Features(np.array([f"p{i}" for i in range(5)]), np.array(paths), np.zeros((5, 0)), ())


@pytest.fixture
def division(tmp_path: Path) -> Division:
    weights = save_clip(tmp_path)
    return Division(registry.build("clip:ViT-B/32", weights=weights), str(weights), 1)


def test_activations_are_those_of_each_view_and_kept_in_float16(
    features: Features, division: Division, tmp_path: Path
) -> None:
    source = trunk_source(features, division, cache=tmp_path / "cache", views=THREE)
    trunk = divide(division.encoder, 1).trunk
    assert trunk is not None
    for view in range(3):
        path = features.images[2]
        image = view_of(read_square(path, 32, PADDED), content_hash(path), view, STYLES[0])
        kept = source.activations(["p2"], view)
        assert kept.dtype == np.float16
        expected = trunk.encode(image[None]).tokens
        np.testing.assert_allclose(kept.astype(float), expected.astype(float), atol=1e-2)
    assert not np.array_equal(source.activations(["p2"], 0), source.activations(["p2"], 1))


def test_nothing_is_computed_twice(
    features: Features, division: Division, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trunk_source(features, division, cache=tmp_path / "cache", views=TWO)

    def never(self: object, images: object) -> None:
        raise AssertionError("encoded again")

    assert "0.00 GiB of it new" in describe_disk_space(
        features, division, cache=tmp_path / "cache", views=TWO, device="cpu"
    )
    cut = divide(division.encoder, 1)
    monkeypatch.setattr(module, "divide", lambda encoder, blocks: cut)
    monkeypatch.setattr(FrozenEncoder, "encode", never)
    again = trunk_source(features, division, cache=tmp_path / "cache", views=TWO)
    np.testing.assert_array_equal(first.activations(["p1"], 1), again.activations(["p1"], 1))


def test_another_boundary_has_rows_of_its_own(
    features: Features, division: Division, tmp_path: Path
) -> None:
    one = trunk_source(features, division, cache=tmp_path / "cache")
    two = trunk_source(
        features, Division(division.encoder, division.weights, 2), cache=tmp_path / "cache"
    )
    assert not np.array_equal(one.activations(["p0"]), two.activations(["p0"]))


def test_the_size_is_told_beforehand(
    features: Features, division: Division, tmp_path: Path
) -> None:
    said = describe_disk_space(features, division, cache=tmp_path, views=THREE, device="cpu")
    row = 17 * 64 * 2 + 64 * 4
    assert f"5 images x 3 views x {row / 1024:.1f} KiB = " in said


def test_a_disk_without_room_is_refused_with_the_figures(
    features: Features, division: Division, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**29))
    with pytest.raises(DataError, match=r"need 0.00 GiB more, .* and 0.50 GiB are free; make room"):
        describe_disk_space(features, division, cache=tmp_path, views=THREE, device="cpu")


def test_a_whole_encoder_reads_8_bit_images_and_keeps_no_activations(
    features: Features, division: Division, tmp_path: Path
) -> None:
    whole = Division(division.encoder, division.weights, ALL)
    assert describe_disk_space(features, whole, cache=tmp_path, views=UNTOUCHED, device="cpu") == ""
    source = trunk_source(features, whole, cache=tmp_path / "cache")
    assert source.pixels
    images = source.activations(["p3", "p1"])
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], read_square(features.images[3], 32, PADDED))
    with torch.inference_mode():
        pooled, _ = source.tail()(torch.from_numpy(images))
    np.testing.assert_allclose(pooled.numpy(), source.pooled(["p3", "p1"]), atol=1e-4)


def test_the_handle_pickles_to_names_and_reads_the_same(
    features: Features, division: Division, tmp_path: Path
) -> None:
    source = trunk_source(features, division, cache=tmp_path / "cache")
    packed = pickle.dumps(source)
    assert len(packed) < 2000
    other = pickle.loads(packed)
    np.testing.assert_array_equal(other.activations(["p4"]), source.activations(["p4"]))
    for one, two in zip(source.tail().parameters(), other.tail().parameters(), strict=True):
        assert torch.equal(one, two)


def test_weights_that_have_changed_since_are_refused(
    features: Features, division: Division, tmp_path: Path
) -> None:
    source = trunk_source(features, division, cache=tmp_path / "cache")
    state = torch.load(division.weights, weights_only=True)
    state["visual.proj"] += 1
    torch.save(state, division.weights)
    module._divide_encoder.cache_clear()
    with pytest.raises(DataError, match=r"the weights here have SHA-256 .* the run began with"):
        source.tail()
