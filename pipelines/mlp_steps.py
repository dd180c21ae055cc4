"""Steps of one fold's ``EmbeddingMLP``, forwards and backwards written out, on a CPU.

A stack of folds takes every fold's weights and moments through the cache at each step, and autograd
spends as long on a hundred small operations as on the products. One fold after the other, with
torch's own kernels and gradients written where Adam reads them, a step is nearly products alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.backward import BATCH_NORM_EPS
from pipelines.losses import focal_gradient
from pipelines.networks import EmbeddingMLP, class_logits
from pipelines.stacked import BATCH_NORM_MOMENTUM, Block, Chance, StackedAdam

NORMALISE = torch.ops.aten.native_batch_norm.default
NORMALISE_BACKWARD = torch.ops.aten.native_batch_norm_backward.default


@dataclass(frozen=True, eq=False)
class Loss:
    """What a step lowers: see ``focal_loss``; ``alpha (folds, classes)``."""

    alpha: Tensor
    gamma: float
    label_smoothing: float


@dataclass(frozen=True, eq=False)
class Passed:
    """What a block keeps of the way forwards, for the way back.

    Attributes:
        x: (rows, fan_in) what it was given.
        hidden, normal: (rows, fan_out) before and after normalisation.
        mean, spread: (fan_out,) of the batch; the spread is inverse.
        kept: (rows, fan_out) what dropout multiplied by; None without.
    """

    x: Tensor
    hidden: Tensor
    normal: Tensor
    mean: Tensor
    spread: Tensor
    kept: Tensor | None


class BlockSteps:
    """One fold of a ``Block``."""

    def __init__(self, block: Block, fold: int, optimiser: StackedAdam, chance: Chance) -> None:
        self.fold, self.chance, self.rate = fold, chance, block.dropout.rate
        norm = block.norm
        self.weight = block.linear.weight.data[fold]
        self.scale, self.shift = norm.weight.data[fold, 0], norm.bias.data[fold, 0]
        self.to_weight = optimiser.gradient_of(block.linear.weight)[fold]
        self.to_scale, self.to_shift = (
            optimiser.gradient_of(parameter)[fold, 0] for parameter in (norm.weight, norm.bias)
        )
        self.running = norm.running_mean[fold, 0], norm.running_var[fold, 0]

    def forward(self, x: Tensor) -> tuple[Tensor, Passed]:
        """``x (rows, fan_in)`` to (rows, fan_out)."""
        hidden = torch.mm(x, self.weight)
        # One row has no variance to remember.
        remembered = self.running if len(x) > 1 else (None, None)
        normal, mean, spread = NORMALISE(
            hidden, self.scale, self.shift, *remembered,
            True, BATCH_NORM_MOMENTUM, BATCH_NORM_EPS,
        )  # fmt: skip
        kept = None
        out = normal.clamp_min(0)
        if self.rate:
            kept = self.chance.kept_of(self.fold, len(x), hidden.shape[1], self.rate)
            kept = kept.to(x.dtype).div_(1 - self.rate)
            out.mul_(kept)
        return out, Passed(x, hidden, normal, mean, spread, kept)

    def backward(self, gradient: Tensor, passed: Passed) -> Tensor:
        """Writes the parameters' gradients; returns that of ``hidden``.

        Args:
            gradient: (rows, fan_out) of what ``forward`` gave; it is overwritten.
        """
        if passed.kept is not None:
            gradient.mul_(passed.kept)
        gradient.mul_(passed.normal > 0)
        gradient, to_scale, to_shift = NORMALISE_BACKWARD(
            gradient, passed.hidden, self.scale, None, None, passed.mean, passed.spread,
            True, BATCH_NORM_EPS, [True, True, True],
        )  # fmt: skip
        self.to_scale.copy_(to_scale)
        self.to_shift.copy_(to_shift)
        torch.mm(passed.x.t(), gradient, out=self.to_weight)
        return gradient


class MlpSteps:
    """One fold of an ``EmbeddingMLP`` without attention; weights and moments are the stack's."""

    def __init__(
        self, network: EmbeddingMLP, fold: int, optimiser: StackedAdam, chance: Chance, loss: Loss
    ) -> None:
        self.fold, self.optimiser, self.loss = fold, optimiser, loss
        self.alpha = loss.alpha[fold : fold + 1]
        self.factor = 1.0 / network.scaler.scale[fold]
        self.offset = -network.scaler.mean[fold] * self.factor
        self.blocks = [
            BlockSteps(block, fold, optimiser, chance) for block in (network.first, network.second)
        ]
        out = network.out
        assert out.bias is not None
        self.weight, self.bias = out.weight.data[fold], out.bias.data[fold]
        self.to_weight, self.to_bias = (
            optimiser.gradient_of(parameter)[fold] for parameter in (out.weight, out.bias)
        )

    @classmethod
    def of(
        cls, network: object, optimiser: StackedAdam, chance: Chance, loss: Loss
    ) -> list[MlpSteps]:
        """One a fold; none where the network is another, or on another device."""
        on_cpu = optimiser.values.device.type == "cpu"
        if not (isinstance(network, EmbeddingMLP) and network.pool is None and on_cpu):
            return []
        return [cls(network, fold, optimiser, chance, loss) for fold in range(len(chance.seeds))]

    @torch.inference_mode()
    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One update from ``images (rows, width)``, ``labels (rows,)``; the sum of their losses."""
        first, second = self.blocks
        hidden, kept_first = first.forward(torch.addcmul(self.offset, images, self.factor))
        hidden, kept_second = second.forward(hidden)
        logits = torch.addmm(self.bias, hidden, self.weight)
        losses, slope = focal_gradient(
            class_logits(logits)[None], labels[None], self.alpha,
            gamma=self.loss.gamma, label_smoothing=self.loss.label_smoothing,
        )  # fmt: skip
        slope = slope[0, :, -logits.shape[1] :].div(len(images))
        torch.mm(hidden.t(), slope, out=self.to_weight)
        torch.sum(slope, 0, keepdim=True, out=self.to_bias)
        slope = second.backward(torch.mm(slope, self.weight.t()), kept_second)
        first.backward(torch.mm(slope, second.weight.t()), kept_first)
        self.optimiser.step_of(self.fold, rate)
        return losses.sum()
