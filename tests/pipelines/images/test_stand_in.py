"""Random numbers stand in for representations that are not computed yet, in the same shapes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from outerfold.pipelines.augmentation.views import STYLES, Views
from outerfold.pipelines.encoders import registry
from outerfold.pipelines.encoders.divide import ALL, Blocks
from outerfold.pipelines.images.activations import Division, TrunkSource, image_source
from outerfold.pipelines.images.stand_in import DISTINCT, stand_in
from outerfold.storage.records import Features
from tests.pipelines.training.tail_factories import save_clip, small_towers
from tests.storage.images.image_factories import write_picture

TWO = Views((0, 1), STYLES[0])


@pytest.mark.parametrize("blocks", [0, 1, ALL])
def test_shapes_and_types_are_those_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: Blocks
) -> None:
    small_towers(monkeypatch)
    weights = save_clip(tmp_path)
    division = Division(registry.build("clip:ViT-B/32", weights=weights), str(weights), blocks)
    paths = np.array([str(write_picture(tmp_path / f"{i}.png", i)) for i in range(3)])
    ids = ["a", "b", "c"]
    features = Features(np.array(ids), paths, np.zeros((3, 0)), ())
    real = image_source(features, division, cache=tmp_path / "c", views=TWO, tokens=True)
    made = pickle.loads(pickle.dumps(stand_in(division, TWO)))
    assert (made.dim, made.views) == (real.dim, real.views)
    last = real.views - 1
    pairs = [(real.pooled(ids), made.pooled(ids))]
    if isinstance(real, TrunkSource):
        pairs.append((real.activations(ids, last), made.activations(ids, last)))
        assert made.pixels == real.pixels
        assert made.tail().state_dict().keys() == real.tail().state_dict().keys()
    else:
        pairs.append((real.tokens(ids, last), made.tokens(ids, last)))
    for was, stands in pairs:
        assert (stands.shape, stands.dtype) == (was.shape, was.dtype)
        assert np.isfinite(stands.astype(float)).all()


def test_there_are_rows_for_any_number_of_ids(tmp_path: Path) -> None:
    division = Division(registry.build("bundled:efficientnet_lite0"), "", 0)
    made = stand_in(division, TWO)
    ids = [str(number) for number in range(2 * DISTINCT + 3)]
    rows = made.pooled(ids)
    assert rows.shape == (len(ids), division.encoder.dim)
    np.testing.assert_array_equal(rows[0], rows[DISTINCT])
    assert not np.array_equal(rows[0], rows[1])
    assert not np.array_equal(made.pooled(ids, 1), rows)
