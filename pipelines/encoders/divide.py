"""Division of an encoder at a block: a frozen trunk and a trainable tail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from outerfold.pipelines.encoders._base import TRUNK_OF, Encoder
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.parts import Parts, parts_of
from outerfold.storage.records import DataError

ALL = "all"
Blocks = int | str
"""Number of trainable blocks, or ``all`` for the whole encoder, from the pixels on."""

ALIKE = 0.05
"""Largest allowed difference between both parts and the whole encoder, in standard deviations of
the output; float16 alone makes about 0.01."""


@dataclass(frozen=True, eq=False)
class Divided:
    """Encoder in two parts.

    Attributes:
        trunk: encoder whose ``tokens`` are activations at the cut; None where the tail is the
            whole encoder.
        tail: trainable part with pretrained weights, in evaluation mode.
    """

    trunk: FrozenEncoder | None
    tail: Tail


class Tail(nn.Module):
    """Trainable end of an encoder.

    Its inputs are activations at the cut (n, positions, channels), or 8-bit images (n, s, s, 3)
    where it is the whole encoder. Its outputs are those of the encoder: the pooled vector (n, dim)
    and the map (n, token_dim, h, w).

    Attributes:
        encoder: name of the encoder.
        since: position of its first block in the encoder; None for the whole encoder.
        shape: shape of one activation at the cut in the network's own layout.
        checkpointing: whether to drop the inner activations of blocks and to compute them again in
            the backward pass, which needs less memory and more time and gives the same gradients.
    """

    mean: Tensor
    std: Tensor
    parts: Parts

    def __init__(self, encoder: FrozenEncoder, since: int | None, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder: str = encoder.name
        self.since: int | None = since
        self.shape: tuple[int, ...] = shape
        self.checkpointing: bool = False
        parts = parts_of(encoder.name, deepcopy(encoder.trunk).cpu())
        assert parts is not None
        if since is not None:
            parts.forget(since)
        self.parts = parts
        self.register_buffer("mean", torch.tensor(encoder.mean) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std) * 255, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled vector (n, dim) and the map (n, token_dim, h, w) of inputs ``x``."""
        features = self.features(x)
        return self.pool(features), self.map(features)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of inputs ``x``, in the model's own shape; ``pool`` reads them."""
        parts = self.parts
        if self.since is None:
            x = parts.stem(((x.float() - self.mean) / self.std).permute(0, 3, 1, 2))
        elif len(self.shape) > 2:
            x = x.float().transpose(1, 2).reshape(-1, *self.shape)
        else:
            x = x.float()
        for block in parts.blocks()[self.since or 0 :]:
            x = self._apply_block(block, x)
        return parts.features(x)

    def pool(self, features: Tensor) -> Tensor:
        """Pool features to (n, dim)."""
        return self.parts.pool(features)

    def map(self, features: Tensor) -> Tensor:
        """Arrange features as a map (n, token_dim, h, w)."""
        return self.parts.map(features)

    def _apply_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return self.parts.block(block, x)
        given: Tensor = checkpoint(
            self.parts.block,
            block,
            x,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _freeze_statistics(block)),
        )
        return given


class Trunk(nn.Module):
    """Frozen beginning of an encoder.

    It maps normalised images (n, 3, s, s) to activations at the cut (n, positions, channels) and
    their mean (n, channels). The positions of a map are in the order of its rows.
    """

    parts: Parts

    def __init__(self, parts: Parts, until: int) -> None:
        super().__init__()
        self.parts, self.until = parts, until

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (n, channels) and the activations (n, positions, channels)."""
        x = self.at_the_cut(x)
        flat = x.flatten(2).transpose(1, 2) if x.ndim > 3 else x
        return flat.mean(1), flat

    def at_the_cut(self, x: Tensor) -> Tensor:
        """Compute the output of the trunk's last block in its own shape."""
        x = self.parts.stem(x)
        for block in self.parts.blocks()[: self.until]:
            x = self.parts.block(block, x)
        return x


def divide(encoder: Encoder, blocks: Blocks) -> Divided:
    """Cut an encoder before its last ``blocks`` blocks; the layers after them belong to the tail.

    The trunk shares the encoder's weights, and the tail has a copy. Batch normalisation of the
    trunk stays in evaluation mode, as in the encoder.

    Args:
        encoder: encoder to cut; it stays unchanged.
        blocks: number of blocks of the tail, or ``all``.

    Raises:
        DataError: the encoder cannot be cut there, or its parts give other values than the whole.
    """
    count = count_blocks(encoder)
    assert isinstance(encoder, FrozenEncoder)
    if blocks != ALL and not 0 < int(blocks) <= count:
        raise DataError(
            f"--trainable-blocks {blocks}: {encoder.name} has {count} blocks; name 1 to {count}, "
            f"or {ALL} for everything down to the pixels"
        )
    if blocks == ALL:
        trunk, tail = None, Tail(encoder, None, ())
    else:
        since = count - int(blocks)
        trunk, shape = _make_trunk(encoder, since)
        tail = Tail(encoder, since, shape)
    tail.requires_grad_(True).eval()
    _check_parts(encoder, trunk, tail)
    return Divided(trunk, tail)


def frozen_parts(encoder: Encoder, blocks: Blocks) -> list[Encoder]:
    """Return the networks that encode images for a run: the encoder, and its trunk where it is cut.

    Args:
        encoder: the pretrained encoder.
        blocks: number of trained blocks, or ``all``; 0 keeps the encoder whole.

    Raises:
        DataError: the encoder cannot be cut there.
    """
    trunk = divide(encoder, blocks).trunk if blocks else None
    return [encoder] if trunk is None else [encoder, trunk]


def count_blocks(encoder: Encoder) -> int:
    """Count the blocks of an encoder.

    Raises:
        DataError: the encoder cannot be cut.
    """
    if not isinstance(encoder, FrozenEncoder):
        raise _cut_error(encoder.name, "it is not a single network")
    return len(_require_parts(encoder).blocks())


def _require_parts(encoder: FrozenEncoder) -> Parts:
    parts = parts_of(encoder.name, encoder.trunk)
    if parts is None:
        raise _cut_error(encoder.name, "its blocks are not known here")
    return parts


def _make_trunk(encoder: FrozenEncoder, until: int) -> tuple[FrozenEncoder, tuple[int, ...]]:
    """Make the encoder up to a block; return it and the shape of one image's activation."""
    trunk = Trunk(_require_parts(encoder), until).eval()
    side = encoder.image_size
    with torch.inference_mode():
        black = torch.zeros(1, 3, side, side, device=encoder.device)
        found, flat = trunk.at_the_cut(black), trunk(black)[1]
    first = replace(
        encoder,
        name=f"{encoder.name}{TRUNK_OF}{until}",
        trunk=trunk,
        dim=flat.shape[2],
        token_dim=flat.shape[2],
        tokens=flat.shape[1],
    )
    return first, tuple(found.shape[1:])


def _check_parts(encoder: FrozenEncoder, trunk: FrozenEncoder | None, tail: Tail) -> None:
    """Raise ``DataError`` if trunk and tail give another pooled vector than the whole encoder.

    The test image has random tiles, since a black image would hide differences. Torch computes all
    of it, whatever the backend: a backend is compared with torch on its own.
    """
    encoder = replace(encoder, computed_by=None)
    trunk = None if trunk is None else replace(trunk, computed_by=None)
    side = encoder.image_size
    coarse = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    tiles = -(-side // 8)
    image = np.repeat(np.repeat(coarse, tiles, axis=1), tiles, axis=2)[:, :side, :side]
    whole = encoder.encode(image).pooled
    given = torch.from_numpy(image if trunk is None else trunk.encode(image).tokens)
    with torch.inference_mode():
        apart = np.abs(tail(given)[0].numpy() - whole).max()
    if not apart <= ALIKE * max(float(whole.std()), 1e-6):
        raise _cut_error(
            encoder.name, f"its parts give other values than the whole ({apart:.2g} off)"
        )


def _cut_error(name: str, reason: str) -> DataError:
    return DataError(
        f"--trainable-blocks: {name} cannot be cut at a block, since {reason}; use "
        "--trainable-blocks 0, or another --encoder"
    )


def _freeze_statistics(block: nn.Module) -> AbstractContextManager[None]:
    """Context for the second computation of a block under checkpointing.

    Momentum 0 keeps its batch normalisation from counting the rows a second time.
    """

    @contextmanager
    def frozen_momentum() -> Iterator[None]:
        norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, before, strict=True):
                norm.momentum = momentum

    return frozen_momentum()
