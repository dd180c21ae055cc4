"""Attention roll-out: share of each patch in a vision transformer's representation.

The output token of a layer counts as half its input token and half the tokens to which it attends
(mean over the heads). The product over layers gives the share of each patch in a token. It does not
depend on a class. Source: Abnar & Zuidema (2020), Quantifying Attention Flow in Transformers,
section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from outerfold.pipelines.encoders._base import TOKEN_GRID
from outerfold.pipelines.encoders.clip_encoder import VisionTrunk
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.registry import family_of
from outerfold.storage.records import DataError
from outerfold.storage.registry import load_part


class _Handle(Protocol):
    def remove(self) -> None: ...


class Attention(Protocol):
    """Attention of a transformer over one sequence of patches."""

    @property
    def pools(self) -> str:
        """How it pools its tokens: ``token`` for the first one, ``avg`` for the mean of patches."""

    def record(self) -> AbstractContextManager[list[Tensor]]:
        """Context in which a pass through the trunk fills the list with each layer's (n, t, t)."""


def attention_of(encoder: str, trunk: nn.Module) -> Attention | None:
    """Attention of a trunk; None where it cannot be rolled out.

    Args:
        encoder: name of the encoder, whose family says how.
        trunk: its trunk, or the whole one of its trained end.
    """
    family = family_of(encoder)
    if family is None or family.attention is None:
        return None
    found: Attention | None = load_part(family.attention)(trunk)
    return found


def rolls_out(encoder: FrozenEncoder) -> bool:
    """Whether the encoder is a transformer over one sequence of patches."""
    return attention_of(encoder.name, encoder.trunk) is not None


@torch.inference_mode()
def patch_shares(encoder: FrozenEncoder, x: Tensor, tokens: Tensor | None) -> Tensor:
    """Share of each patch in the input of the head, (n, h, w); the shares of an image sum to 1.

    Args:
        encoder: transformer for which ``rolls_out`` is True.
        x: (n, 3, s, s) normalised images.
        tokens: (n, grid * grid) weight that the head gives each spatial token; None where the head
            reads the encoder's pooled vector.

    Raises:
        DataError: the transformer pools neither by its class token nor by the mean of patches.
    """
    attention = _require_attention(encoder.name, encoder.trunk)
    with attention.record() as layers:
        _, spatial = encoder.trunk(x)
    return _scale_to_one(_unscaled_shares(attention, layers, spatial.shape[-2:], tokens))


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
        whole: nn.Module = trunk.trunk.parts.whole  # type: ignore[union-attr,assignment]
        with _require_attention(tails[0].encoder, whole).record() as first:
            trunk.trunk(x)
    shares = []
    for number, tail in enumerate(tails):
        attention = _require_attention(tail.encoder, tail.parts.whole)
        with attention.record() as last:
            _, spatial = tail(taken)
        own = None if tokens is None else tokens[number]
        shares.append(_unscaled_shares(attention, [*first, *last], spatial.shape[-2:], own))
    return _scale_to_one(torch.stack(shares).mean(dim=0))


def _require_attention(encoder: str, trunk: nn.Module) -> Attention:
    found = attention_of(encoder, trunk)
    assert found is not None
    return found


def _unscaled_shares(
    attention: Attention, layers: Sequence[Tensor], shape: Sequence[int], tokens: Tensor | None
) -> Tensor:
    """Shares (n, h, w) of the patches; the rest to 1 belongs to the class token and its like."""
    rolled = roll_out(layers)
    height, width = shape
    prefix = rolled.shape[-1] - height * width
    read = _pooling_weights(attention, rolled, prefix)
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


def clip_attention(trunk: nn.Module) -> Attention | None:
    """Attention of a vision transformer of CLIP; None for another trunk."""
    return _ClipAttention(trunk) if isinstance(trunk, VisionTrunk) else None


def timm_attention(trunk: nn.Module) -> Attention | None:
    """Attention of timm's vision transformers; None unless every block attends to all patches."""
    pools = str(getattr(getattr(trunk, "model", None), "global_pool", ""))
    return _TimmAttention(trunk, pools) if _list_timm_attentions(trunk) else None


@dataclass(frozen=True, eq=False)
class _ClipAttention:
    trunk: VisionTrunk
    pools: str = "token"

    @contextmanager
    def record(self) -> Iterator[list[Tensor]]:
        layers: list[Tensor] = []
        handles: list[_Handle] = []
        for block in _list_present(self.trunk.visual.transformer.resblocks):  # type: ignore[union-attr,arg-type]
            handles += _hook_torch_attention(block.attn, layers)  # type: ignore[arg-type]
        with _removed_after(handles):
            yield layers


@dataclass(frozen=True, eq=False)
class _TimmAttention:
    trunk: nn.Module
    pools: str

    @contextmanager
    def record(self) -> Iterator[list[Tensor]]:
        layers: list[Tensor] = []
        every = _list_timm_attentions(self.trunk)
        handles: list[_Handle] = [
            one.attn_drop.register_forward_hook(  # type: ignore[union-attr]
                lambda module, given, weights: layers.append(weights.mean(dim=1))
            )
            for one in every
        ]
        fused = [one for one in every if one.fused_attn]
        _set_fused(fused, False)  # the fused kernel does not return its weights
        try:
            with _removed_after(handles):
                yield layers
        finally:
            _set_fused(fused, True)


@contextmanager
def _removed_after(handles: Sequence[_Handle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    model = getattr(trunk, "model", None)
    blocks = _list_present(getattr(model, "blocks", ()))
    found = [getattr(block, "attn", None) for block in blocks]
    plain = all(
        isinstance(one, nn.Module) and hasattr(one, "attn_drop") and hasattr(one, "fused_attn")
        for one in found
    )
    whole = hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed")
    return [one for one in found if one is not None] if plain and whole else []


def _list_present(blocks: Iterable[nn.Module]) -> list[nn.Module]:
    """List the blocks that a tail still has; the blocks before it are identities."""
    return [block for block in blocks if not isinstance(block, nn.Identity)]


def _pooling_weights(attention: Attention, rolled: Tensor, prefix: int) -> Tensor:
    """Weight (n, t) of each token in the encoder's pooled vector."""
    read = torch.zeros(rolled.shape[:2], dtype=rolled.dtype, device=rolled.device)
    how = attention.pools
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
