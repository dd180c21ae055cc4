"""Several devices encode together; CPUs stand in for GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outerfold.pipelines.encoders._base import Encoded
from outerfold.pipelines.encoders.backends.choose import with_backend
from outerfold.pipelines.images.devices import encode_batches, encoding_devices
from outerfold.pipelines.images.embed import embed
from tests.contracts.encoder_contract import pictures
from tests.pipelines.encoders.backends.test_backends import small
from tests.pipelines.images.test_embed import Bands, make_images


def test_values_do_not_depend_on_the_number_of_devices_or_on_which_is_free(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "images", 150)
    encoder = with_backend(small(), "torch", tmp_path)
    ids = rows.ids.tolist()
    found = [
        embed(rows, encoder, cache=tmp_path / str(len(names)), threads=1, device=names)
        for names in (("cpu",), ("cpu", "cpu", "cpu"))
    ]
    np.testing.assert_array_equal(found[0].pooled(ids), found[1].pooled(ids))
    np.testing.assert_array_equal(found[0].tokens(ids), found[1].tokens(ids))


def test_batches_come_back_in_order_and_each_device_has_weights_of_its_own() -> None:
    encoder = replace(small(), computed_by=None)
    batches = [pictures(2, 64, seed) for seed in range(7)]
    expected = [encoder.encode(batch).pooled for batch in batches]
    found = list(encode_batches(encoder, ("cpu", "cpu"), batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.pooled, other)


def test_an_error_of_one_device_ends_the_encoding() -> None:
    batches = [pictures(2, 64), pictures(2, 32)]
    with pytest.raises(ValueError, match=r"takes uint8 images \(n, 64, 64, 3\)"):
        list(encode_batches(small(), ("cpu", "cpu"), batches))


def test_a_cpu_and_an_encoder_that_is_no_single_network_have_one_device() -> None:
    assert encoding_devices(small(), "cpu") == ("cpu",)
    assert encoding_devices(Bands(), "cuda:1") == ("cuda:1",)
    on_cpu = replace(Bands(), backend="openvino")
    assert encoding_devices(on_cpu, "cuda:0") == ("cuda:0",)


def test_batches_on_a_gpu_are_as_large_as_its_backend_takes_them(tmp_path: Path) -> None:
    sizes = []

    class Wide(Bands):
        def batch(self, device: str) -> int:
            return 128

        def encode(self, images: np.ndarray) -> Encoded:
            sizes.append(len(images))
            n = len(images)
            return Encoded(np.zeros((n, 3), np.float32), np.zeros((n, 16, 3), np.float16))

    rows = make_images(tmp_path / "images", 150)
    embed(rows, Wide(backend="torch"), cache=tmp_path, threads=1, device="cuda:0")
    assert sizes == [128, 22]
