"""Focal loss with class weights by the effective number of samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from outerfold.storage.records import FloatArray

_ROOM = 1e-7
"""Least distance of a probability from 1 inside the focal factor.

For gamma below 1 the derivative of (1 - p) ** gamma grows without bound as p reaches 1, and
times the vanishing log p it becomes NaN in floating point; the clamp ends it at zero.
"""


def focal_loss(
    logits: Tensor, labels: Tensor, alpha: Tensor, *, gamma: float, label_smoothing: float
) -> Tensor:
    """Loss of each row, (folds, rows).

    Args:
        logits: (folds, rows, classes).
        labels: (folds, rows) class index.
        alpha: (folds, classes) weight of the true class.
        gamma: 0 is cross-entropy.
        label_smoothing: share of the target spread evenly over the classes.

    Reference: Lin et al. (2017), Focal Loss for Dense Object Detection, equation 5.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    target = _smoothed(labels, log_p, label_smoothing)
    if gamma > 0:
        # expm1 keeps 1 - p exact where p is close to 1.
        target = target * (-torch.expm1(log_p)).clamp_min(_ROOM).pow(gamma)
    per_row = -(target * log_p).sum(-1)
    return per_row * alpha.gather(1, labels)


def focal_gradient(
    logits: Tensor, labels: Tensor, alpha: Tensor, *, gamma: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """``focal_loss`` and the gradient of each row's loss by its logits, (folds, rows, classes)."""
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    target = _smoothed(labels, log_p, label_smoothing)
    slope = target  # of minus the loss by log p
    if gamma > 0:
        rest = -torch.expm1(log_p)
        within = rest.clamp_min(_ROOM)
        slope = target * within.pow(gamma)
        # Where the factor is clamped it does not change.
        change = within.pow(gamma - 1).mul_(rest >= _ROOM).mul_(p).mul_(log_p).mul_(gamma)
        target, slope = slope, slope - target * change
    weight = alpha.gather(1, labels)
    loss = -(target * log_p).sum(-1) * weight
    gradient = (p * slope.sum(-1, keepdim=True)).sub_(slope).mul_(weight.unsqueeze(-1))
    return loss, gradient


def _smoothed(labels: Tensor, like: Tensor, smoothing: float) -> Tensor:
    """Targets of the shape of ``like (folds, rows, classes)``; each row's sum to 1."""
    target = torch.full_like(like, smoothing / like.shape[-1])
    one = torch.full_like(like[..., :1], 1 - smoothing)
    return target.scatter_add_(-1, labels.unsqueeze(-1), one)


def effective_number_alpha(counts: FloatArray, beta: float) -> FloatArray:
    """Class weights (classes,) with mean 1 over the classes present; absent classes get 0.

    Args:
        counts: (classes,) images of each class in one training epoch, as the sampler delivers
            them: what a sampler has balanced is not weighted a second time.
        beta: in [0, 1); 0 weighs all classes alike, towards 1 by inverse frequency.

    Reference: Cui et al. (2019), Class-Balanced Loss Based on Effective Number of Samples.
    """
    present = counts > 0
    weight = np.zeros_like(counts)
    # expm1/log1p: 1 - beta ** n loses digits for beta near 1.
    weight[present] = (1 - beta) / -np.expm1(counts[present] * np.log(max(beta, 1e-300)))
    alpha: FloatArray = weight * present.sum() / weight.sum()
    return alpha
