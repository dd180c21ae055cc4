"""Layers with the weights of all folds, which train in one batched product.

The first axis of every tensor is the fold. Rows that pad a fold to the batch size are masked: they
enter neither the batch statistics nor the loss, so a fold in a stack learns the same as alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from outerfold.pipelines.heads.random_streams import RandomStreams

BATCH_NORM_MOMENTUM, BATCH_NORM_EPS = 0.1, 1e-5
BETAS = (0.9, 0.999)
EPS = 1e-6
"""Epsilon of Adam; torch's 1e-8 turns the rounding noise of a vanishing gradient into a full-size
step."""


class Linear(nn.Module):
    """Linear layer (folds, rows, fan_in) -> (folds, rows, fan_out), initialised as in torch."""

    def __init__(
        self, streams: RandomStreams, fan_in: int, fan_out: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter((streams.uniform(fan_in, fan_out) * 2 - 1) * bound)
        self.bias = nn.Parameter((streams.uniform(1, fan_out) * 2 - 1) * bound) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute one batched matrix product for all folds."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


def running_momentum(steps: Tensor) -> Tensor:
    """Weight of the latest batch in the running statistics after ``steps`` batches, from 1.

    With a constant weight the statistics would still hold 0.9^t of their start, mean 0 and variance
    1, after t batches, and heads here may end after a dozen. With this weight they are the
    exponentially weighted mean of the batches seen and of nothing else.

    Args:
        steps: any shape, at least 1.

    Reference: Kingma & Ba (2015), Adam, section 3 (bias correction).

    Example:
        >>> weights = running_momentum(torch.tensor([1.0, 2.0, 1000.0]))
        >>> [round(weight, 3) for weight in weights.tolist()]
        [1.0, 0.526, 0.1]
    """
    kept = (1 - BATCH_NORM_MOMENTUM) ** steps.double()
    return (BATCH_NORM_MOMENTUM / (1 - kept)).to(steps.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation of each fold over the rows that are not padding.

    Attributes:
        running_mean, running_var: (folds, 1, width) statistics that predictions use.
        steps: (folds,) batches that the statistics were made from; training alone needs it, so a
            kept model does not hold it.
    """

    running_mean: Tensor
    running_var: Tensor
    steps: Tensor

    def __init__(self, folds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(folds, 1, width))
        self.bias = nn.Parameter(torch.zeros(folds, 1, width))
        self.register_buffer("running_mean", torch.zeros(folds, 1, width))
        self.register_buffer("running_var", torch.ones(folds, 1, width))
        self.register_buffer("steps", torch.zeros(folds), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise ``x (folds, rows, width)``.

        Args:
            mask: (folds, rows, 1), 1 for a row and 0 for padding; None uses the running statistics.
        """
        if mask is None:
            scale = self.weight * torch.rsqrt(self.running_var + BATCH_NORM_EPS)
            return x * scale + (self.bias - self.running_mean * scale)
        count = mask.sum(1, keepdim=True).clamp_min(1.0)
        share = (mask / count).transpose(1, 2)  # (folds, 1, rows); 0 for padding
        mean = torch.bmm(share, x)
        centred = x - mean
        var = torch.bmm(share, centred.square())
        self._update_running(mean.detach(), var.detach(), count)
        return torch.addcmul(self.bias, centred, torch.rsqrt(var + BATCH_NORM_EPS) * self.weight)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        unbiased = var * count / (count - 1).clamp_min(1.0)
        moved = (count > 1).flatten()  # one row has no variance
        self.steps += moved
        weight = (running_momentum(self.steps.clamp_min(1.0)) * moved).view(-1, 1, 1)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(unbiased, weight)


class Dropout(nn.Module):
    """Dropout with masks from each fold's own stream; they are drawn on the CPU for any device."""

    def __init__(self, streams: RandomStreams, rate: float) -> None:
        super().__init__()
        self.streams, self.rate = streams, rate

    def forward(self, x: Tensor) -> Tensor:
        """Set a share ``rate`` of ``x (folds, rows, width)`` to zero while training."""
        if not self.training or self.rate == 0.0:
            return x
        kept = self.streams.kept(x.shape[1], x.shape[2], self.rate)
        return x * kept.to(x.device, x.dtype).div_(1 - self.rate)


class StackedBlock(nn.Module):
    """Block of a linear layer, batch normalisation, ReLU and dropout.

    The linear layer has no bias: its true gradient before a normalisation is zero, and Adam would
    turn the rounding noise of zero into full-size steps.
    """

    def __init__(self, streams: RandomStreams, fan_in: int, fan_out: int, dropout: float) -> None:
        super().__init__()
        self.linear = Linear(streams, fan_in, fan_out, bias=False)
        self.norm = BatchNorm(len(streams.seeds), fan_out)
        self.dropout = Dropout(streams, dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map ``x (folds, rows, fan_in)`` to (folds, rows, fan_out).

        Args:
            mask: (folds, rows, 1), 1 for a row and 0 for padding; None when predicting.
        """
        hidden: Tensor = self.dropout(torch.relu(self.norm(self.linear(x), mask)))
        return hidden


class StackedAdam:
    """Optimiser with torch's fused Adam or AdamW over one flat ``(folds, parameters)`` buffer.

    The parameters of the module become views of the buffer. So a step is one pass for any number of
    layers, the gradient norm is a row norm, and a fold whose epoch has ended (it has fewer batches
    than others) keeps its weights and moments unchanged.

    Args:
        module: stacked layers; the first axis of every parameter is the fold.
        weight_decay: weight decay.
        decoupled: True for AdamW (Loshchilov & Hutter 2019), False for Adam with L2.
        clip_norm: largest gradient norm of one fold; None does not clip.
    """

    def __init__(
        self, module: nn.Module, *, weight_decay: float, decoupled: bool, clip_norm: float | None
    ) -> None:
        self.weight_decay, self.decoupled, self.clip_norm = weight_decay, decoupled, clip_norm
        parameters = list(module.parameters())
        self.values = torch.cat([p.data.reshape(len(p), -1) for p in parameters], dim=1)
        self.gradients = torch.zeros_like(self.values)
        self.means, self.squares = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.steps = list(torch.zeros(len(self.values), device=self.values.device))
        _share_buffers(parameters, self.values, self.gradients)

    @torch.no_grad()
    def step(self, learning_rate: float, active: Tensor) -> None:
        """Update the folds where ``active (folds,)`` is True, then clear the gradients."""
        self._update(
            [k for k, takes_part in enumerate(active.tolist()) if takes_part], learning_rate
        )
        self.gradients.zero_()

    def step_of(self, fold: int, learning_rate: float) -> None:
        """Update one fold whose gradients were all written to the tensors of ``gradient_of``."""
        self._update([fold], learning_rate)

    def gradient_of(self, parameter: nn.Parameter) -> Tensor:
        """Tensor from which a step reads the gradient of a parameter, in the parameter's shape."""
        assert parameter.grad is not None  # ``_share_buffers`` made it a view of the buffer
        return parameter.grad

    def _update(self, folds: Sequence[int], learning_rate: float) -> None:
        buffers = self.values, self.gradients, self.means, self.squares
        values, gradients, means, squares = ([each[k] for k in folds] for each in buffers)
        if self.clip_norm is not None:
            for gradient in gradients:
                gradient.mul_((self.clip_norm / (gradient.norm() + 1e-6)).clamp_max_(1.0))
        adam(
            values,
            gradients,
            means,
            squares,
            [],
            [self.steps[k] for k in folds],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
            decoupled_weight_decay=self.decoupled,
        )


def _share_buffers(parameters: Sequence[nn.Parameter], values: Tensor, gradients: Tensor) -> None:
    """Make parameters and their gradients views of the buffers."""
    # The views are not contiguous over the folds' rows, so torch warns that gradients are copied
    # to them; this is intended.
    warnings.filterwarnings("ignore", message="grad and param do not obey")
    for parameter, (start, stop) in zip(parameters, _column_spans(parameters), strict=True):
        parameter.data = values[:, start:stop].view(parameter.shape)
        parameter.grad = gradients[:, start:stop].view(parameter.shape)


def _column_spans(parameters: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    start = 0
    for parameter in parameters:
        stop = start + parameter[0].numel()
        yield start, stop
        start = stop
