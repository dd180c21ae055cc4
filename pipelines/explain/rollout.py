"""Attention roll-out: share of each patch in a vision transformer's representation.

The output token of a layer counts as half its input token and half the tokens to which it attends
(mean over the heads). The product over layers gives the share of each patch in a token. It does not
depend on a class. Source: Abnar & Zuidema (2020), Quantifying Attention Flow in Transformers,
section 3.
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
        isinstance(trunk, TimmTrunk) and bool(_list_timm_attentions(trunk))
    )


@torch.inference_mode()
def patch_shares(trunk: nn.Module, x: Tensor, tokens: Tensor | None) -> Tensor:
    """Share of each patch in the input of the head, (n, h, w); the shares of an image sum to 1.

    Args:
        trunk: transformer for which ``rolls_out`` is True.
        x: (n, 3, s, s) normalised images.
        tokens: (n, grid * grid) weight that the head gives each spatial token; None where the head
            reads the encoder's pooled vector.

    Raises:
        DataError: the transformer pools neither by its class token nor by the mean of patches.
    """
    with _record_attention(trunk) as layers:
        _, spatial = trunk(x)
    return _scale_to_one(_unscaled_shares(trunk, layers, spatial.shape[-2:], tokens))


@torch.inference_mode()
def tail_shares(
    trunk: FrozenEncoder | None,
    tails: Sequence[Tail],
    x: Tensor,
    taken: Tensor,
    tokens: Tensor | None,
) -> Tensor:
    """``patch_shares`` for networks that trained the last blocks: the mean (n, h, w) over networks.

    Args:
        trunk: the frozen part; None where the tails read 8-bit images.
        tails: one tail for each network.
        x: (n, 3, s, s) normalised images.
        taken: (n, ...) inputs of the tails.
        tokens: (networks, n, grid * grid) weights that each network's head gives each spatial
            token; None where heads read pooled vectors.

    Raises:
        DataError: the transformer pools neither by its class token nor by the mean of patches.
    """
    first: list[Tensor] = []
    if trunk is not None:
        with _record_attention(trunk.trunk.whole) as first:  # type: ignore[arg-type]
            trunk.trunk(x)
    shares = []
    for number, tail in enumerate(tails):
        whole: nn.Module = tail.parts.whole  # type: ignore[attr-defined]
        with _record_attention(whole) as last:
            _, spatial = tail(taken)
        own = None if tokens is None else tokens[number]
        shares.append(_unscaled_shares(whole, [*first, *last], spatial.shape[-2:], own))
    return _scale_to_one(torch.stack(shares).mean(dim=0))


def _unscaled_shares(
    trunk: nn.Module, layers: Sequence[Tensor], shape: Sequence[int], tokens: Tensor | None
) -> Tensor:
    """Shares (n, h, w) of the patches; the rest to 1 belongs to the class token and its like."""
    rolled = roll_out(layers)
    height, width = shape
    prefix = rolled.shape[-1] - height * width
    read = _pooling_weights(trunk, rolled, prefix)
    if tokens is not None:
        read = tokens.to(rolled) @ cells(height, width).to(rolled)
        read = functional.pad(read, (prefix, 0))
    return torch.bmm(read[:, None], rolled)[:, 0, prefix:].reshape(-1, height, width)


def _scale_to_one(shares: Tensor) -> Tensor:
    return shares / shares.sum(dim=(1, 2), keepdim=True)


def roll_out(layers: Sequence[Tensor]) -> Tensor:
    """Multiply the attention of all layers: shares (n, t, t) of each input token in each output.

    Args:
        layers: attention (n, t, t) of each layer, first to last; each row sums to 1, and so do the
            rows of the result.
    """
    own = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=layers[0].device)
    rolled = own.expand_as(layers[0])
    for attention in layers:
        rolled = torch.bmm((attention + own) / 2, rolled)
    return rolled


def cells(height: int, width: int) -> Tensor:
    """Weights (grid * grid, height * width) by which spatial tokens are averaged from patches."""
    each = torch.eye(height * width).reshape(height * width, 1, height, width)
    return functional.adaptive_avg_pool2d(each, TOKEN_GRID).flatten(1).T


@contextmanager
def _record_attention(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """Context in which a pass through the trunk fills the list with each layer's (n, t, t)."""
    layers: list[Tensor] = []
    handles: list[_Handle] = []
    fused: list[nn.Module] = []
    if isinstance(trunk, VisionTrunk):
        for block in _list_present(trunk.visual.transformer.resblocks):  # type: ignore[union-attr,arg-type]
            handles += _hook_torch_attention(block.attn, layers)  # type: ignore[arg-type]
    else:
        for attention in _list_timm_attentions(trunk):
            handles.append(
                attention.attn_drop.register_forward_hook(  # type: ignore[union-attr]
                    lambda module, given, weights: layers.append(weights.mean(dim=1))
                )
            )
            if attention.fused_attn:
                fused.append(attention)
    _set_fused(fused, False)  # the fused kernel does not return its weights
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
        _set_fused(fused, True)


def _set_fused(attentions: list[nn.Module], on: bool) -> None:
    for attention in attentions:
        vars(attention)["fused_attn"] = on


def _hook_torch_attention(attention: nn.Module, layers: list[Tensor]) -> list[_Handle]:
    def ask(module: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "need_weights": True, "average_attn_weights": True}

    def keep(module: nn.Module, given: Any, answer: tuple[Tensor, Tensor]) -> None:
        layers.append(answer[1])

    return [
        attention.register_forward_pre_hook(ask, with_kwargs=True),
        attention.register_forward_hook(keep),
    ]


def _list_timm_attentions(trunk: nn.Module) -> list[nn.Module]:
    """List the attention modules; empty unless every block attends to all patches."""
    blocks = _list_present(getattr(trunk.model, "blocks", ()))
    found = [getattr(block, "attn", None) for block in blocks]
    plain = all(
        isinstance(one, nn.Module) and hasattr(one, "attn_drop") and hasattr(one, "fused_attn")
        for one in found
    )
    whole = hasattr(trunk.model, "num_prefix_tokens") and hasattr(trunk.model, "patch_embed")
    return [one for one in found if one is not None] if plain and whole else []


def _list_present(blocks: Iterable[nn.Module]) -> list[nn.Module]:
    """List the blocks that a tail still has; the blocks before it are identities."""
    return [block for block in blocks if not isinstance(block, nn.Identity)]


def _pooling_weights(trunk: nn.Module, rolled: Tensor, prefix: int) -> Tensor:
    """Weight (n, t) of each token in the encoder's pooled vector."""
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
