"""The two heads: shapes, attention by a second implementation, one logit for two classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from outerfold.pipelines.heads.networks import (
    ATTENTION_HEADS,
    AttentionFusion,
    AttentionPool,
    EmbeddingMLP,
    FusionNetwork,
    Standardise,
    Widths,
    class_logits,
)
from outerfold.pipelines.heads.random_streams import RandomStreams

FOLDS, ROWS, TOKENS, WIDTH = 3, 6, 5, 8


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scaler(width: int = WIDTH) -> Standardise:
    streams = np.random.default_rng(0)
    return Standardise(streams.normal(size=(FOLDS, width)), streams.uniform(1, 2, (FOLDS, width)))


def test_attention_pooling_starts_as_the_mean_of_the_tokens() -> None:
    tokens = noise(FOLDS, ROWS, TOKENS, WIDTH)
    pooled = AttentionPool(FOLDS, WIDTH)(tokens, scaler().scale)
    torch.testing.assert_close(pooled, tokens.mean(dim=2))


def test_attention_pooling_weighs_standardised_tokens_by_each_heads_own_query() -> None:
    pool, scale = AttentionPool(FOLDS, WIDTH), scaler()
    with torch.no_grad():
        pool.query.copy_(noise(*pool.query.shape, seed=1) * 3)
    tokens = noise(FOLDS, ROWS, TOKENS, WIDTH)
    found = pool(tokens, scale.scale)
    share = WIDTH // ATTENTION_HEADS
    for k in range(FOLDS):
        seen = (tokens[k] - scale.mean[k]) / scale.scale[k]  # (rows, tokens, width)
        for h in range(ATTENTION_HEADS):
            part = slice(h * share, (h + 1) * share)
            weights = torch.softmax(seen[..., part] @ pool.query[k, h] / share**0.5, dim=1)
            wanted = (weights.unsqueeze(-1) * tokens[k][..., part]).sum(1)
            torch.testing.assert_close(found[k][:, part], wanted)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="4 heads cannot share a width of 10"):
        AttentionPool(1, 10)


def test_attention_fusion_gives_twice_its_width_and_is_torchs_attention_over_two_tokens() -> None:
    fusion = AttentionFusion(RandomStreams([1, 2, 3]), WIDTH, 6, 16)
    image, tabular = noise(FOLDS, ROWS, WIDTH), noise(FOLDS, ROWS, 6, seed=1)
    found = fusion(image, tabular)
    assert found.shape == (FOLDS, ROWS, 2 * 16)
    for k in range(FOLDS):
        tokens = torch.stack([fusion.image(image)[k], fusion.tabular(tabular)[k]], dim=1)
        reference = torch.nn.MultiheadAttention(16, ATTENTION_HEADS, bias=False, batch_first=True)
        with torch.no_grad():
            reference.in_proj_weight.copy_(fusion.qkv.weight[k].T)
            reference.out_proj.weight.copy_(fusion.out.weight[k].T)
        mixed, _ = reference(tokens, tokens, tokens)
        torch.testing.assert_close(found[k], (tokens + mixed).flatten(1), atol=1e-5, rtol=1e-5)


def test_attention_fusion_lets_each_input_change_what_becomes_of_the_other() -> None:
    fusion = AttentionFusion(RandomStreams([1]), WIDTH, 6, 16)
    image, tabular = noise(1, ROWS, WIDTH), noise(1, ROWS, 6, seed=1)
    of_image, of_columns = fusion(image, tabular).split(16, dim=-1)
    assert not torch.allclose(fusion(image, tabular + 1)[..., :16], of_image)
    assert not torch.allclose(fusion(image + 1, tabular)[..., 16:], of_columns)


def test_two_classes_share_one_logit_whose_sigmoid_is_the_second_ones_probability() -> None:
    logit = noise(FOLDS, ROWS, 1) * 5
    both = class_logits(logit)
    assert both.shape == (FOLDS, ROWS, 2)
    torch.testing.assert_close(torch.softmax(both, -1)[..., 1:], torch.sigmoid(logit))
    four = noise(FOLDS, ROWS, 4)
    assert class_logits(four) is four


@pytest.mark.parametrize(("classes", "logits"), [(2, 1), (3, 3), (4, 4)])
@pytest.mark.parametrize("tokens", [False, True])
def test_the_embedding_head_gives_each_row_of_each_fold_its_logits(
    classes: int, logits: int, tokens: bool
) -> None:
    widths = Widths(WIDTH, tokens, 0, classes)
    network = EmbeddingMLP(RandomStreams([1, 2, 3]), widths, scaler(), dropout=0.1).eval()
    shape = (FOLDS, ROWS, TOKENS, WIDTH) if tokens else (FOLDS, ROWS, WIDTH)
    assert network(noise(*shape), torch.zeros(FOLDS, ROWS, 0), None).shape == (FOLDS, ROWS, logits)


@pytest.mark.parametrize(("tabular", "attention"), [(0, False), (7, False), (7, True)])
def test_the_fusion_head_takes_images_with_columns_or_without(
    tabular: int, attention: bool
) -> None:
    network = FusionNetwork(
        RandomStreams([1, 2, 3]),
        Widths(WIDTH, False, tabular, 2),
        scaler(),
        dropout=0.1,
        attention=attention,
    ).eval()
    images, columns = noise(FOLDS, ROWS, WIDTH), noise(FOLDS, ROWS, tabular, seed=1)
    found = network(images, columns, None)
    assert found.shape == (FOLDS, ROWS, 1)
    assert not torch.allclose(network(images + 1, columns, None), found)
    if tabular:
        assert not torch.allclose(network(images, columns + 1, None), found)


def test_every_parameter_of_the_fusion_head_has_a_gradient_that_is_not_rounding_noise() -> None:
    """Adam would make full-size steps of the noise, so a stack would not learn what one does."""
    network = FusionNetwork(
        RandomStreams([1, 2]),
        Widths(WIDTH, False, 7, 2),
        Standardise(np.zeros((2, 8)), np.ones((2, 8))),
        dropout=0.0,
        attention=True,
    )
    out = network(noise(2, 32, WIDTH), noise(2, 32, 7, seed=1), torch.ones(2, 32, 1))
    (out * noise(*out.shape, seed=2)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.flatten(1).norm(dim=1).min() > 1e-4, name


def test_a_stack_keeps_its_folds_apart() -> None:
    """No row of one fold has a part in another fold's logits or gradients."""
    network = FusionNetwork(
        RandomStreams([1, 2, 3]), Widths(WIDTH, False, 7, 2), scaler(), dropout=0.0, attention=True
    )
    images, columns = noise(FOLDS, ROWS, WIDTH), noise(FOLDS, ROWS, 7, seed=1)
    images.requires_grad_()
    network(images, columns, torch.ones(FOLDS, ROWS, 1))[1].sum().backward()
    assert images.grad is not None
    assert not images.grad[[0, 2]].any()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert not parameter.grad[[0, 2]].any(), name
