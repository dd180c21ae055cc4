"""Half precision on a GPU: allowed by measurement alone, and apart in the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shared.places import BENCHMARKS
from outerfold.pipelines.encoders._base import recipe
from outerfold.pipelines.encoders.backends.choose import largest_difference, with_backend
from outerfold.pipelines.encoders.backends.precision import (
    MEASURED,
    MOST_LOSS,
    Measured,
    choose_precision,
)
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from tests.contracts.encoder_contract import pictures
from tests.pipelines.encoders.backends.test_backends import small

SMALL = small()
ALLOWED = Measured(SMALL.name, SMALL.weights_sha256, "bfloat16", 0.0001, 0.0015)


def half(precision: str = "bfloat16") -> FrozenEncoder:
    found = with_backend(SMALL, "torch", Path(), precision)
    assert isinstance(found, FrozenEncoder)
    return found


@pytest.mark.parametrize(
    ("device", "wide", "measured", "expected"),
    [
        ("cuda:0", True, ALLOWED, "bfloat16"),
        ("cuda:0", False, ALLOWED, "float32"),
        ("cuda:0", False, replace(ALLOWED, precision="float16"), "float16"),
        ("cuda:0", True, replace(ALLOWED, bound=MOST_LOSS), "float32"),
        ("cuda:0", True, replace(ALLOWED, weights_sha256="1" * 64), "float32"),
        ("cpu", True, ALLOWED, "float32"),
    ],
)
def test_half_precision_needs_a_gpu_and_a_measurement_of_these_weights(
    device: str, wide: bool, measured: Measured, expected: str
) -> None:
    found = choose_precision([SMALL], device, bfloat16=wide, measured=[measured])
    assert found.precision == expected


def test_one_encoder_without_a_measurement_keeps_a_run_in_float32() -> None:
    other = replace(SMALL, name="test:other")
    found = choose_precision([SMALL, other], "cuda", bfloat16=True, measured=[ALLOWED])
    assert found.precision == "float32"
    assert found.reason.endswith("to keep a linear probe's ROC-AUC for test:other")


def test_the_table_holds_what_its_page_says() -> None:
    page = (BENCHMARKS / "models" / "half_precision.md").read_text()
    assert MEASURED
    for one in MEASURED:
        assert f"{one!r}," in page
        allowed = "yes" if one.bound < MOST_LOSS else "no"
        assert f"| {one.loss:+.6f} | {one.bound:+.6f} | {allowed} |" in page


def test_half_precision_has_a_key_of_its_own_and_float32_the_former() -> None:
    whole = with_backend(SMALL, "torch", Path())
    assert recipe(half()) == {**recipe(whole), "precision": "bfloat16"}
    assert "precision" not in recipe(whole)


def test_values_in_half_precision_are_near_and_the_same_among_any_neighbours() -> None:
    encoder, images = half(), pictures(5, 64)
    whole, full = encoder.encode(images), with_backend(SMALL, "torch", Path()).encode(images)
    assert whole.pooled.dtype == np.float32
    assert not np.array_equal(whole.pooled, full.pooled)
    np.testing.assert_allclose(whole.pooled, full.pooled, atol=0.05 * full.pooled.std())
    np.testing.assert_array_equal(encoder.encode(images[3:4]).pooled[0], whole.pooled[3])


def test_the_difference_from_float32_is_measured_on_the_photographs() -> None:
    found = largest_difference([half()], Path())
    assert found is not None
    assert 0 < found < 1
    assert largest_difference([with_backend(SMALL, "torch", Path())], Path()) is None


def test_small_encoders_have_large_batches_on_a_gpu_and_their_trunks_too() -> None:
    named = replace(half(), name="clip:ViT-B/32")
    trunk = replace(named, name="clip:ViT-B/32 before block 10")
    assert [one.batch("cuda") for one in (half(), named, trunk)] == [64, 256, 256]
    assert named.batch("cpu") == half().batch("cpu") == 8
