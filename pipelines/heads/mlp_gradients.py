"""Training steps of one fold's ``EmbeddingMLP`` on a CPU, with gradients written by hand.

A stack of folds reads the weights and moments of all folds at each step, which is more than the
cache holds, and autograd spends as much time on small operations as on matrix products. Here one
fold trains after the other, with torch's own kernels, and the gradients are written where Adam
reads them.

Kept because a study of 3 x 100 trials (``benchmarks.speed.throughput --own``, three seeds, paired)
takes 19 % longer (30, 19 and 8 %) with the stack and autograd in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from outerfold.pipelines.heads.losses import focal_gradient
from outerfold.pipelines.heads.networks import EmbeddingMLP, class_logits
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import (
    BATCH_NORM_EPS,
    StackedAdam,
    StackedBlock,
    running_momentum,
)
from outerfold.pipelines.rows.batches import BatchRun

NORMALISE = torch.ops.aten.native_batch_norm.default
NORMALISE_BACKWARD = torch.ops.aten.native_batch_norm_backward.default


@dataclass(frozen=True, eq=False)
class Loss:
    """Loss that a step lowers, see ``focal_loss``; ``alpha`` has the shape (folds, classes)."""

    alpha: Tensor
    gamma: float
    label_smoothing: float


class Passed(NamedTuple):
    """Values that a block keeps from its forward pass for its backward pass.

    Attributes:
        x: (rows, fan_in) input.
        hidden, normal: (rows, fan_out) before and after normalisation.
        mean, spread: (fan_out,) of the batch; the spread is inverse.
        kept: (rows, fan_out) factors of dropout; None without dropout.
    """

    x: Tensor
    hidden: Tensor
    normal: Tensor
    mean: Tensor
    spread: Tensor
    kept: Tensor | None


class BlockSteps:
    """One fold of a ``StackedBlock``."""

    def __init__(self, block: StackedBlock, fold: int, optimiser: StackedAdam) -> None:
        norm = block.norm
        self.weight = block.linear.weight.data[fold]
        self.scale, self.shift = norm.weight.data[fold, 0], norm.bias.data[fold, 0]
        self.to_weight = optimiser.gradient_of(block.linear.weight)[fold]
        self.to_scale, self.to_shift = (
            optimiser.gradient_of(parameter)[fold, 0] for parameter in (norm.weight, norm.bias)
        )
        self.running = norm.running_mean[fold, 0], norm.running_var[fold, 0]
        self.seen = norm.steps[fold]

    def forward(self, x: Tensor, kept: Tensor | None) -> tuple[Tensor, Passed]:
        """Map ``x (rows, fan_in)`` to (rows, fan_out); ``kept`` holds the factors of dropout."""
        hidden = torch.mm(x, self.weight)
        # One row has no variance, so it does not move the running statistics.
        moves = len(x) > 1
        self.seen += moves
        weight = float(running_momentum(self.seen)) if moves else 0.0
        remembered = self.running if moves else (None, None)
        normal, mean, spread = NORMALISE(
            hidden, self.scale, self.shift, *remembered, True, weight, BATCH_NORM_EPS
        )
        out = normal.clamp_min(0)
        if kept is not None:
            out.mul_(kept)
        return out, Passed(x, hidden, normal, mean, spread, kept)

    def backward(self, gradient: Tensor, passed: Passed) -> Tensor:
        """Write the gradients of the parameters, and return that of ``hidden``.

        Args:
            gradient: (rows, fan_out) gradient of the output; it is overwritten.
        """
        if passed.kept is not None:
            gradient.mul_(passed.kept)
        gradient.mul_(passed.normal > 0)
        gradient, to_scale, to_shift = NORMALISE_BACKWARD(
            gradient,
            passed.hidden,
            self.scale,
            None,
            None,
            passed.mean,
            passed.spread,
            True,
            BATCH_NORM_EPS,
            [True, True, True],
        )
        self.to_scale.copy_(to_scale)
        self.to_shift.copy_(to_shift)
        torch.mm(passed.x.t(), gradient, out=self.to_weight)
        return gradient


class MlpSteps:
    """Training of one fold of an ``EmbeddingMLP`` without attention.

    Weights and moments are views of those of the stack.
    """

    def __init__(
        self,
        network: EmbeddingMLP,
        fold: int,
        optimiser: StackedAdam,
        streams: RandomStreams,
        loss: Loss,
    ) -> None:
        self.fold, self.optimiser, self.loss, self.streams = fold, optimiser, loss, streams
        self.alpha = loss.alpha[fold : fold + 1]
        self.factor = 1.0 / network.scaler.scale[fold]
        self.offset = -network.scaler.mean[fold] * self.factor
        layers = network.first, network.second
        self.blocks = [BlockSteps(block, fold, optimiser) for block in layers]
        self.widths = [block.linear.weight.shape[-1] for block in layers]
        self.rate = network.first.dropout.rate
        out = network.out
        assert out.bias is not None
        self.weight, self.bias = out.weight.data[fold], out.bias.data[fold]
        self.to_weight, self.to_bias = (
            optimiser.gradient_of(parameter)[fold] for parameter in (out.weight, out.bias)
        )

    @classmethod
    def of(
        cls, network: object, optimiser: StackedAdam, streams: RandomStreams, loss: Loss
    ) -> list[MlpSteps]:
        """Make one for each fold; none for another network or another device."""
        on_cpu = optimiser.values.device.type == "cpu"
        if not (isinstance(network, EmbeddingMLP) and network.pool is None and on_cpu):
            return []
        return [cls(network, fold, optimiser, streams, loss) for fold in range(len(streams.seeds))]

    @torch.inference_mode()
    def train(self, run: BatchRun, rate: float) -> Tensor:
        """Update the weights once for each batch, and return the sum of the rows' losses."""
        scaled = torch.addcmul(self.offset, run.images, self.factor)
        parts = (torch.split(rows, run.sizes) for rows in (scaled, run.labels))
        losses = [
            self._step(x, labels, kept, rate)
            for x, labels, kept in zip(*parts, self._kept(run.sizes), strict=True)
        ]
        return torch.cat(losses).sum()

    def _kept(self, sizes: Sequence[int]) -> Iterable[Sequence[Tensor | None]]:
        """Factors of dropout in each step, for both blocks."""
        if not self.rate:
            return [(None, None)] * len(sizes)
        return self.streams.steps_of(self.fold, sizes, self.widths, self.rate)

    def _step(
        self, x: Tensor, labels: Tensor, kept: Sequence[Tensor | None], rate: float
    ) -> Tensor:
        """Update the weights once, and return the losses (rows,) before the update."""
        first, second = self.blocks
        hidden, passed_first = first.forward(x, kept[0])
        hidden, passed_second = second.forward(hidden, kept[1])
        logits = torch.addmm(self.bias, hidden, self.weight)
        losses, slope = focal_gradient(
            class_logits(logits)[None],
            labels[None],
            self.alpha,
            gamma=self.loss.gamma,
            label_smoothing=self.loss.label_smoothing,
        )
        slope = slope[0, :, -logits.shape[1] :].div(len(x))
        torch.mm(hidden.t(), slope, out=self.to_weight)
        torch.sum(slope, 0, keepdim=True, out=self.to_bias)
        slope = second.backward(torch.mm(slope, self.weight.t()), passed_second)
        first.backward(torch.mm(slope, second.weight.t()), passed_first)
        self.optimiser.step_of(self.fold, rate)
        return losses[0]
