"""An encoder cut in two at a block: a trunk that stays as it is and a tail that can be trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.frozen import FrozenEncoder
from outerfold.pipelines.encoders.parts import Parts, parts_of
from outerfold.storage.records import DataError

ALL = "all"
Blocks = int | str
"""A number of trainable blocks, or ``all`` for everything down to the pixels."""

ALIKE = 0.05
"""Largest difference from the whole encoder, in spreads of its output; float16 makes some 0.01."""


@dataclass(frozen=True, eq=False)
class Divided:
    """An encoder in two.

    Attributes:
        trunk: an encoder whose ``tokens`` are activations at the cut; None where the tail is
            everything.
        tail: with pretrained weights, in evaluation mode.
    """

    trunk: FrozenEncoder | None
    tail: Tail


class Tail(nn.Module):
    """The trainable end of an encoder.

    Takes activations at the cut (n, positions, channels), or where it is everything 8-bit images
    (n, s, s, 3), and gives what the encoder gives: (n, dim) and (n, token_dim, h, w).

    Attributes:
        checkpointing: give up the blocks' inner activations and compute them again on the way
            back; less memory, more time, the same gradients.
    """

    mean: Tensor
    std: Tensor
    parts: Parts

    def __init__(self, encoder: FrozenEncoder, since: int | None, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.since: int | None = since
        self.shape: tuple[int, ...] = shape
        self.checkpointing: bool = False
        parts = parts_of(deepcopy(encoder.trunk).cpu())
        assert parts is not None
        if since is not None:
            parts.forget(since)
        self.parts = parts
        self.register_buffer("mean", torch.tensor(encoder.mean) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std) * 255, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.features(x)
        return self.pool(features), self.map(features)

    def features(self, x: Tensor) -> Tensor:
        """What the tail takes, to what its pooled vector is made of, in the model's own shape."""
        parts = self.parts
        if self.since is None:
            x = parts.stem(((x.float() - self.mean) / self.std).permute(0, 3, 1, 2))
        elif len(self.shape) > 2:
            x = x.float().transpose(1, 2).reshape(-1, *self.shape)
        else:
            x = x.float()
        for block in parts.blocks()[self.since or 0 :]:
            x = self._through(block, x)
        return parts.features(x)

    def pool(self, features: Tensor) -> Tensor:
        """Those features to (n, dim)."""
        return self.parts.pool(features)

    def map(self, features: Tensor) -> Tensor:
        """Those features to (n, token_dim, h, w)."""
        return self.parts.map(features)

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return self.parts.block(block, x)
        given: Tensor = checkpoint(
            self.parts.block,
            block,
            x,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _seen_once(block)),
        )
        return given


class Trunk(nn.Module):
    """Normalised images (n, 3, s, s) to the mean (n, channels) and activations at the cut.

    These are (n, positions, channels), positions of a map row by row.
    """

    def __init__(self, whole: nn.Module, until: int) -> None:
        super().__init__()
        self.whole, self.until = whole, until

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        x = self.at_the_cut(x)
        flat = x.flatten(2).transpose(1, 2) if x.ndim > 3 else x
        return flat.mean(1), flat

    def at_the_cut(self, x: Tensor) -> Tensor:
        """What the last block of the trunk gives, as it gives it."""
        parts = parts_of(self.whole)
        assert parts is not None
        x = parts.stem(x)
        for block in parts.blocks()[: self.until]:
            x = parts.block(block, x)
        return x


def divide(encoder: Encoder, blocks: Blocks) -> Divided:
    """Cut an encoder before its last ``blocks`` blocks; what follows them goes with the tail.

    The trunk shares the encoder's weights, the tail has a copy. Batch normalisation of a trunk
    stays in evaluation mode, as the encoder is.

    Raises:
        DataError: the encoder cannot be cut so, or its parts do not give what the whole gives.
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
        trunk, shape = _trunk(encoder, since)
        tail = Tail(encoder, since, shape)
    tail.requires_grad_(True).eval()
    _refuse_others(encoder, trunk, tail)
    return Divided(trunk, tail)


def count_blocks(encoder: Encoder) -> int:
    """How many blocks an encoder has; one that cannot be cut raises ``DataError``."""
    if not isinstance(encoder, FrozenEncoder):
        raise _cannot(encoder.name, "it is not one network")
    parts = parts_of(encoder.trunk)
    if parts is None:
        raise _cannot(encoder.name, "its blocks are not known here")
    return len(parts.blocks())


def _trunk(encoder: FrozenEncoder, until: int) -> tuple[FrozenEncoder, tuple[int, ...]]:
    """The encoder up to a block, and the shape of an activation without its image axis."""
    trunk = Trunk(encoder.trunk, until).eval()
    side = encoder.image_size
    with torch.inference_mode():
        black = torch.zeros(1, 3, side, side, device=encoder.device)
        found, flat = trunk.at_the_cut(black), trunk(black)[1]
    first = replace(
        encoder,
        name=f"{encoder.name} before block {until}",
        trunk=trunk,
        dim=flat.shape[2],
        token_dim=flat.shape[2],
        tokens=flat.shape[1],
    )
    return first, tuple(found.shape[1:])


def _refuse_others(encoder: FrozenEncoder, trunk: FrozenEncoder | None, tail: Tail) -> None:
    """Try one image both ways."""
    side = encoder.image_size
    coarse = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    tiles = -(-side // 8)
    image = np.repeat(np.repeat(coarse, tiles, axis=1), tiles, axis=2)[:, :side, :side]
    whole = encoder.encode(image).pooled
    given = torch.from_numpy(image if trunk is None else trunk.encode(image).tokens)
    with torch.inference_mode():
        apart = np.abs(tail(given)[0].numpy() - whole).max()
    if not apart <= ALIKE * max(float(whole.std()), 1e-6):
        raise _cannot(encoder.name, f"its parts give other values than the whole ({apart:.2g} off)")


def _cannot(name: str, reason: str) -> DataError:
    return DataError(
        f"--trainable-blocks: {name} cannot be cut at a block, since {reason}; use "
        "--trainable-blocks 0, or another --encoder"
    )


def _seen_once(block: nn.Module) -> AbstractContextManager[None]:
    """While a block is computed again, its batch normalisation does not count the rows again."""

    @contextmanager
    def still() -> Iterator[None]:
        norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, before, strict=True):
                norm.momentum = momentum

    return still()
