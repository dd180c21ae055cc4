"""What every image encoder must hold to; subclass and give an ``encoder`` fixture."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from outerfold.pipelines.encoders._base import TOKEN_GRID, Encoder, recipe
from outerfold.storage.cache.row_store import digest


def pictures(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random images (count, side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, side // 8, axis=1), side // 8, axis=2)


class EncoderContract:
    @pytest.fixture
    def encoder(self) -> Encoder:
        raise NotImplementedError

    def test_shapes_are_the_ones_it_states(self, encoder: Encoder) -> None:
        out = encoder.encode(pictures(3, encoder.image_size))
        assert out.pooled.shape == (3, encoder.dim)
        assert out.tokens.shape == (3, encoder.tokens, encoder.token_dim)
        assert encoder.tokens == TOKEN_GRID**2

    def test_values_are_finite_float32_and_float16(self, encoder: Encoder) -> None:
        out = encoder.encode(pictures(2, encoder.image_size))
        assert (out.pooled.dtype, out.tokens.dtype) == (np.float32, np.float16)
        assert np.isfinite(out.pooled).all()
        assert np.isfinite(out.tokens).all()

    def test_an_image_is_encoded_alike_alone_and_among_others(self, encoder: Encoder) -> None:
        images = pictures(4, encoder.image_size)
        together, alone = encoder.encode(images), encoder.encode(images[2:3])
        np.testing.assert_allclose(alone.pooled[0], together.pooled[2], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(alone.tokens[0], together.tokens[2], rtol=1e-2, atol=1e-2)

    def test_the_same_batch_gives_the_same_bits(self, encoder: Encoder) -> None:
        images = pictures(3, encoder.image_size)
        one, two = encoder.encode(images), encoder.encode(images)
        np.testing.assert_array_equal(one.pooled, two.pooled)
        np.testing.assert_array_equal(one.tokens, two.tokens)

    def test_different_images_differ(self, encoder: Encoder) -> None:
        out = encoder.encode(pictures(2, encoder.image_size))
        assert np.abs(out.pooled[0] - out.pooled[1]).max() > 1e-4

    def test_tokens_say_where(self, encoder: Encoder) -> None:
        image = np.zeros((1, encoder.image_size, encoder.image_size, 3), np.uint8)
        corner = image.copy()
        corner[:, : encoder.image_size // 4, : encoder.image_size // 4] = 255
        black, lit = encoder.encode(image), encoder.encode(corner)
        change = np.abs(lit.tokens.astype(float) - black.tokens.astype(float)).mean(axis=2)[0]
        assert change[0] > change[-1]

    def test_its_input_is_left_alone(self, encoder: Encoder) -> None:
        images = pictures(1, encoder.image_size)
        before = images.copy()
        encoder.encode(images)
        np.testing.assert_array_equal(images, before)

    def test_an_image_of_another_size_is_refused(self, encoder: Encoder) -> None:
        with pytest.raises(ValueError, match=re.escape(encoder.name)):
            encoder.encode(np.zeros((1, 8, 8, 3), np.uint8))

    def test_it_names_its_weights_by_hash_and_its_libraries_by_version(
        self, encoder: Encoder
    ) -> None:
        assert re.fullmatch("[0-9a-f]{64}", encoder.weights_sha256)
        assert any(entry.startswith("torch ") for entry in encoder.versions)
        assert digest(recipe(encoder)) == digest(recipe(encoder))

    def test_to_keeps_what_it_computes(self, encoder: Encoder) -> None:
        images = pictures(2, encoder.image_size)
        moved = encoder.to("cpu")
        assert recipe(moved) == recipe(encoder)
        np.testing.assert_array_equal(moved.encode(images).pooled, encoder.encode(images).pooled)
