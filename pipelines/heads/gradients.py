"""Backward passes of stacked layers, written out where autograd would pass over memory more often.

Left to itself, autograd makes a weight's gradient, adds it to the one that is there, and has it
zeroed before the next step; and it takes batch normalisation apart into some twenty operations.
Heads are never under autocast, so nothing here heeds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-5


@dataclass(eq=False)
class Sink:
    """Where the gradient of a stacked weight is written in one pass, instead of ``weight.grad``.

    Attributes:
        gradient: (folds, fan_in, fan_out) in the optimiser's buffer.
        stale: True while it holds what a step has used already.
    """

    weight: nn.Parameter
    gradient: Tensor
    stale: bool = True

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """The weight's part of ``x (folds, rows, fan_in)``, ``gradient (folds, rows, fan_out)``."""
        for own, rows, slope in zip(self.gradient, x, gradient, strict=True):
            if self.stale:
                torch.mm(rows.t(), slope, out=own)
            else:
                own.addmm_(rows.t(), slope)
        self.stale = False

    def settle(self) -> None:
        """Before a step: take in what reached the weight by another way, or that nothing did."""
        if self.stale:
            self.gradient.zero_()
        self.stale = False
        if self.weight.grad is not None:
            self.gradient.add_(self.weight.grad)
            self.weight.grad = None


class Product(torch.autograd.Function):
    """``x (folds, rows, fan_in) @ weight (folds, fan_in, fan_out)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sink: Sink | None) -> Tensor:
        """One batched product; ``sink`` takes the weight's gradient, if given."""
        ctx.save_for_backward(x, weight)
        ctx.sink = sink
        return torch.bmm(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Both inputs' gradients, where they are asked for."""
        x, weight = ctx.saved_tensors
        to_x = torch.bmm(gradient, weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_x, None, None
        if ctx.sink is not None:
            ctx.sink.add(x, gradient)
            return to_x, None, None
        return to_x, torch.bmm(x.transpose(1, 2), gradient), None


class Normalise(torch.autograd.Function):
    """Batch normalisation of each fold by the rows that count.

    Reference: Ioffe & Szegedy (2015), Batch Normalization, the gradients of section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, share: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x (folds, rows, width)`` normalised, its mean and its biased variance.

        Args:
            share: (folds, rows, 1) part of a row in the fold's mean, 0 for padding.
            weight, bias: (folds, 1, width).
        """
        mean = torch.bmm(share.transpose(1, 2), x)
        centred = x - mean
        var = torch.bmm(share.transpose(1, 2), centred.square())
        spread = torch.rsqrt(var + BATCH_NORM_EPS)
        ctx.save_for_backward(centred, share, spread, weight)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(bias, centred, spread * weight), mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """Of rows, weight and bias; the gradient of a row that only pads must be 0."""
        centred, share, spread, weight = ctx.saved_tensors
        to_bias = gradient.sum(1, keepdim=True)
        to_weight = (gradient * centred).sum(1, keepdim=True) * spread
        common = torch.addcmul(to_bias, centred, to_weight * spread)
        to_x = torch.addcmul(gradient, common, share, value=-1).mul_(spread * weight)
        return to_x, None, to_weight, to_bias
