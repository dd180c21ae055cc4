"""Attention roll-out: how much of each patch reaches a vision transformer's representation.

A layer passes on half of what a token is and half of what it attends to, the mean over its heads;
the product over layers says from which patches a token is made. It does not depend on a class.
Abnar & Zuidema (2020), Quantifying Attention Flow in Transformers, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from outerfold.pipelines.encoders._base import TOKEN_GRID
from outerfold.pipelines.encoders.clip_encoder import VisionTrunk
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.timm_encoder import TimmTrunk
from outerfold.storage.records import DataError


class _Handle(Protocol):
    def remove(self) -> None: ...


def rolls_out(trunk: nn.Module) -> bool:
    """Whether the trunk is a transformer over one sequence of patches."""
    return isinstance(trunk, VisionTrunk) or (
        isinstance(trunk, TimmTrunk) and bool(_timm_attentions(trunk))
    )


@torch.inference_mode()
def patch_shares(trunk: nn.Module, x: Tensor, tokens: Tensor | None) -> Tensor:
    """How much of each patch is in what the head reads, (n, h, w); sums to 1 over an image.

    Args:
        x: (n, 3, s, s), normalised.
        tokens: (n, grid * grid) what the head gives each spatial token; None where it reads the
            encoder's own pooled vector.

    Raises:
        DataError: a transformer whose pooling is neither its class token nor the mean of patches.
    """
    with _kept_attention(trunk) as layers:
        _, spatial = trunk(x)
    return _whole(_reaching(trunk, layers, spatial.shape[-2:], tokens))


@torch.inference_mode()
def tail_shares(
    trunk: FrozenEncoder | None,
    tails: Sequence[Tail],
    x: Tensor,
    taken: Tensor,
    tokens: Tensor | None,
) -> Tensor:
    """The same where each of several networks trained the last blocks: their mean.

    Args:
        trunk: the frozen part; None where the tails take 8-bit images.
        taken: (n, ...) what the tails take of the images.
        tokens: (networks, n, grid * grid) or None, as above, of each network's head.
    """
    first: list[Tensor] = []
    if trunk is not None:
        with _kept_attention(trunk.trunk.whole) as first:  # type: ignore[arg-type]
            trunk.trunk(x)
    shares = []
    for number, tail in enumerate(tails):
        whole: nn.Module = tail.parts.whole  # type: ignore[attr-defined]
        with _kept_attention(whole) as last:
            _, spatial = tail(taken)
        own = None if tokens is None else tokens[number]
        shares.append(_reaching(whole, [*first, *last], spatial.shape[-2:], own))
    return _whole(torch.stack(shares).mean(dim=0))


def _reaching(
    trunk: nn.Module, layers: Sequence[Tensor], shape: Sequence[int], tokens: Tensor | None
) -> Tensor:
    """(n, h, w) of what is read; the rest is the class token's and its like."""
    rolled = roll_out(layers)
    height, width = shape
    prefix = rolled.shape[-1] - height * width
    read = _pooled_by(trunk, rolled, prefix)
    if tokens is not None:
        read = tokens.to(rolled) @ cells(height, width).to(rolled)
        read = functional.pad(read, (prefix, 0))
    return torch.bmm(read[:, None], rolled)[:, 0, prefix:].reshape(-1, height, width)


def _whole(shares: Tensor) -> Tensor:
    return shares / shares.sum(dim=(1, 2), keepdim=True)


def roll_out(layers: Sequence[Tensor]) -> Tensor:
    """From attention (n, t, t) of each layer, first to last, to what each token is made of.

    Rows of the result (n, t, t) sum to 1, as those of each layer do.
    """
    own = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=layers[0].device)
    rolled = own.expand_as(layers[0])
    for attention in layers:
        rolled = torch.bmm((attention + own) / 2, rolled)
    return rolled


def cells(height: int, width: int) -> Tensor:
    """(grid * grid, height * width): the mean over patches that each spatial token is."""
    each = torch.eye(height * width).reshape(height * width, 1, height, width)
    return functional.adaptive_avg_pool2d(each, TOKEN_GRID).flatten(1).T


@contextmanager
def _kept_attention(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, a pass through the trunk fills the list, a layer an entry (n, t, t)."""
    layers: list[Tensor] = []
    handles: list[_Handle] = []
    fused: list[nn.Module] = []
    if isinstance(trunk, VisionTrunk):
        for block in _present(trunk.visual.transformer.resblocks):  # type: ignore[union-attr,arg-type]
            handles += _listen_to_torch(block.attn, layers)  # type: ignore[arg-type]
    else:
        for attention in _timm_attentions(trunk):
            handles.append(
                attention.attn_drop.register_forward_hook(  # type: ignore[union-attr]
                    lambda module, given, weights: layers.append(weights.mean(dim=1))
                )
            )
            if attention.fused_attn:
                fused.append(attention)
    _fuse(fused, False)  # the fused kernel keeps its weights to itself
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
        _fuse(fused, True)


def _fuse(attentions: list[nn.Module], on: bool) -> None:
    for attention in attentions:
        vars(attention)["fused_attn"] = on


def _listen_to_torch(attention: nn.Module, layers: list[Tensor]) -> list[_Handle]:
    def ask(module: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "need_weights": True, "average_attn_weights": True}

    def keep(module: nn.Module, given: Any, answer: tuple[Tensor, Tensor]) -> None:
        layers.append(answer[1])

    return [
        attention.register_forward_pre_hook(ask, with_kwargs=True),
        attention.register_forward_hook(keep),
    ]


def _timm_attentions(trunk: nn.Module) -> list[nn.Module]:
    """Attention of each block where all of them attend over the whole sequence of patches."""
    blocks = _present(getattr(trunk.model, "blocks", ()))
    found = [getattr(block, "attn", None) for block in blocks]
    plain = all(
        isinstance(one, nn.Module) and hasattr(one, "attn_drop") and hasattr(one, "fused_attn")
        for one in found
    )
    whole = hasattr(trunk.model, "num_prefix_tokens") and hasattr(trunk.model, "patch_embed")
    return [one for one in found if one is not None] if plain and whole else []


def _present(blocks: Iterable[nn.Module]) -> list[nn.Module]:
    """Those that a tail, which is without the blocks before it, has."""
    return [block for block in blocks if not isinstance(block, nn.Identity)]


def _pooled_by(trunk: nn.Module, rolled: Tensor, prefix: int) -> Tensor:
    """(n, t) what the encoder's own pooled vector takes of each token."""
    read = torch.zeros(rolled.shape[:2], dtype=rolled.dtype, device=rolled.device)
    how = (
        "token" if isinstance(trunk, VisionTrunk) else str(getattr(trunk.model, "global_pool", ""))
    )
    if how == "token":
        read[:, 0] = 1
    elif how == "avg":
        read[:, prefix:] = 1 / (rolled.shape[-1] - prefix)
    else:
        raise DataError(
            f"explain: this transformer pools its patches by {how or 'nothing'!r}, and attention "
            "is rolled out to a class token or a mean of patches only; choose another encoder"
        )
    return read
