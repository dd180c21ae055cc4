"""Heads of the two tasks; each head is a stack with one network for each fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import Linear, StackedBlock
from outerfold.pipelines.rows.training_rows import FoldRows
from outerfold.storage.records import FloatArray

ATTENTION_HEADS = 4
"""Number of attention heads, for pooling and for fusion."""


@dataclass(frozen=True)
class Widths:
    """Sizes of a network's inputs and outputs.

    Attributes:
        image: width of an image representation.
        tokens: True where an image is (tokens, image) instead of (image,).
        tabular: width of the encoded clinical columns; 0 without columns.
        classes: number of classes; two classes share one logit.
    """

    image: int
    tokens: bool
    tabular: int
    classes: int

    @property
    def logits(self) -> int:
        """Number of outputs of the last layer: 1 for two classes, else one for each class."""
        return 1 if self.classes == 2 else self.classes


class Network(Protocol):
    """Interface of a stack of heads."""

    def __call__(self, images: Tensor, tabular: Tensor, mask: Tensor | None) -> Tensor:
        """Return logits (folds, rows, logits).

        Args:
            images: (folds, rows, width) or (folds, rows, tokens, width).
            tabular: (folds, rows, k) encoded clinical columns.
            mask: (folds, rows, 1) while training, 1 for a row and 0 for padding; None when
                predicting.
        """


class Standardise(nn.Module):
    """Scaling of inputs by each fold's mean and standard deviation, which are saved as weights."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: FloatArray, scale: FloatArray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).unsqueeze(1))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).unsqueeze(1))

    @classmethod
    def of(cls, folds: list[FoldRows]) -> Standardise:
        """Stack the scalers of the folds; the mean and scale are ``(folds, 1, width)``."""
        return cls(
            np.stack([fold.scaler.mean for fold in folds]),
            np.stack([fold.scaler.scale for fold in folds]),
        )

    def forward(self, x: Tensor, block: float = 1.0) -> Tensor:
        """Standardise ``x (folds, rows, width)``, then divide it by ``block``."""
        factor = 1.0 / (self.scale * block)
        return torch.addcmul(-self.mean * factor, x, factor)


class AttentionPool(nn.Module):
    """Attention pooling of spatial tokens to one vector, with four heads.

    Each head owns a quarter of the width. It weights the tokens by the softmax of the products of
    its learnt query with its quarter, and pools this quarter. Queries start at zero, so training
    starts from the mean of the tokens. The method follows Ilse, Tomczak & Welling (2018),
    attention-based multiple-instance pooling.
    """

    def __init__(self, folds: int, width: int) -> None:
        super().__init__()
        if width % ATTENTION_HEADS:
            raise ValueError(f"{ATTENTION_HEADS} heads cannot share a width of {width}")
        share = width // ATTENTION_HEADS
        self.query = nn.Parameter(torch.zeros(folds, ATTENTION_HEADS, share))

    def forward(self, tokens: Tensor, scale: Tensor) -> Tensor:
        """Pool ``tokens (folds, rows, t, width)`` to (folds, rows, width).

        Args:
            scale: (folds, 1, width) standard deviation of the mean token, see ``Standardise``.
        """
        folds, rows, count, width = tokens.shape
        weights = self.weights(tokens, scale)
        pooled = torch.bmm(weights.transpose(1, 2), tokens.view(folds * rows, count, width))
        shares = pooled.view(folds, rows, ATTENTION_HEADS, ATTENTION_HEADS, -1)
        kept: Tensor = shares.diagonal(dim1=2, dim2=3).transpose(2, 3)
        return kept.reshape(folds, rows, width)

    def weights(self, tokens: Tensor, scale: Tensor) -> Tensor:
        """Attention weights (folds * rows, t, heads); each head's sum to 1 over the tokens.

        Args:
            tokens: (folds, rows, t, width).
            scale: (folds, 1, width) standard deviation of the mean token.
        """
        folds, rows, count, width = tokens.shape
        # The query is divided instead of the tokens, which saves a copy of the largest tensor; the
        # mean of the tokens cancels in the softmax.
        query = self.query / scale.view(self.query.shape) / self.query.shape[-1] ** 0.5
        # Each head's query fills a block of an otherwise empty (width, heads) matrix, and each head
        # pools the whole width, of which only its quarter is used. This is four times the
        # arithmetic, but the tokens are read in place and need not be copied into another order.
        blocks = torch.stack([_make_block_matrix(heads) for heads in query])
        logits = torch.bmm(tokens.view(folds, rows * count, width), blocks)
        return torch.softmax(logits.view(folds * rows, count, ATTENTION_HEADS), dim=1)


def _make_block_matrix(heads: Tensor) -> Tensor:
    """Block matrix (heads * share, heads) of ``heads (heads, share)``, with own rows per head."""
    blocks: Tensor = torch.block_diag(*heads)  # type: ignore[no-untyped-call]
    return blocks.T


class EmbeddingMLP(nn.Module):
    """Head of the dbt task: embedding (or attended tokens) -> 256 -> 128 -> logits."""

    def __init__(
        self, streams: RandomStreams, widths: Widths, scaler: Standardise, *, dropout: float
    ) -> None:
        super().__init__()
        self.scaler = scaler
        self.pool = AttentionPool(len(streams.seeds), widths.image) if widths.tokens else None
        self.first = StackedBlock(streams, widths.image, 256, dropout)
        self.second = StackedBlock(streams, 256, 128, dropout)
        self.out = Linear(streams, 128, widths.logits)

    def forward(self, images: Tensor, tabular: Tensor, mask: Tensor | None) -> Tensor:
        """Return logits (folds, rows, logits); see ``Network``. ``tabular`` is ignored."""
        pooled = images if self.pool is None else self.pool(images, self.scaler.scale)
        hidden = self.second(self.first(self.scaler(pooled), mask), mask)
        logits: Tensor = self.out(hidden)
        return logits


class AttentionFusion(nn.Module):
    """Four-head self-attention over two tokens, the image and the clinical columns.

    Keys, values and output have no bias. The softmax cancels a bias of the keys, and the following
    batch normalisation cancels the other two, so their true gradients are zero and Adam would take
    steps along rounding noise (see ``StackedBlock``). The biases of the two tokens act on the
    queries.
    """

    def __init__(self, streams: RandomStreams, image: int, tabular: int, width: int) -> None:
        super().__init__()
        self.image = Linear(streams, image, width)
        self.tabular = Linear(streams, tabular, width)
        self.qkv = Linear(streams, width, 3 * width, bias=False)
        self.out = Linear(streams, width, width, bias=False)

    def forward(self, image: Tensor, tabular: Tensor) -> Tensor:
        """Fuse image (folds, rows, image) and columns (folds, rows, tabular).

        Returns:
            (folds, rows, 2 * width), both tokens one after the other.
        """
        tokens = torch.stack([self.image(image), self.tabular(tabular)], dim=2)
        folds, rows, two, width = tokens.shape
        heads = self.qkv(tokens.view(folds, rows * two, width))
        query, key, value = heads.view(
            folds, rows, two, 3, ATTENTION_HEADS, width // ATTENTION_HEADS
        ).permute(3, 0, 1, 4, 2, 5)  # each (folds, rows, heads, 2, width / heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(2, 3).reshape(folds, rows * two, width))
        fused: Tensor = (tokens + mixed.view(tokens.shape)).flatten(2)
        return fused


class FusionNetwork(nn.Module):
    """Head of the multimodal task: image embedding and clinical columns, then a 128-32 classifier.

    The image part is divided by the square root of its width, as in multi-block analysis, so that
    its hundreds of numbers together weigh as much as one column. Without this they dominate the
    columns and overfit first (252 images, inner folds: ROC-AUC 0.73 unscaled, 0.77 scaled, linear
    model 0.77).
    """

    FUSED = 128

    def __init__(
        self,
        streams: RandomStreams,
        widths: Widths,
        scaler: Standardise,
        *,
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.scaler = scaler
        joined = widths.image
        self.columns: nn.ModuleList | None = None
        self.fusion: AttentionFusion | None = None
        if widths.tabular:
            self.columns = nn.ModuleList(
                [
                    StackedBlock(streams, widths.tabular, 64, dropout),
                    StackedBlock(streams, 64, 64, dropout),
                    StackedBlock(streams, 64, 32, dropout),
                ]
            )
            joined += 32
        if attention:
            self.fusion = AttentionFusion(streams, widths.image, 32, self.FUSED)
            joined = 2 * self.FUSED
        self.first = StackedBlock(streams, joined, 128, dropout)
        self.second = StackedBlock(streams, 128, 32, dropout)
        self.out = Linear(streams, 32, widths.logits)

    def forward(self, images: Tensor, tabular: Tensor, mask: Tensor | None) -> Tensor:
        """Return logits (folds, rows, logits); see ``Network``."""
        joined = self.scaler(images, block=images.shape[-1] ** 0.5)
        if self.columns is not None:
            for block in self.columns:
                tabular = block(tabular, mask)
            if self.fusion is not None:
                joined = self.fusion(joined, tabular)
            else:
                joined = torch.cat([joined, tabular], dim=-1)
        hidden = self.second(self.first(joined, mask), mask)
        logits: Tensor = self.out(hidden)
        return logits


def class_logits(logits: Tensor) -> Tensor:
    """Return logits of all classes (..., classes) for a network's outputs (..., logits).

    A single output is the logit of the second of two classes; that of the first is 0.
    """
    if logits.shape[-1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=-1)
