"""Focal loss, and class weights from the effective number of samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from outerfold.storage.records import FloatArray

_ROOM = 1e-7
"""Smallest value of 1 - p in the focal factor.

For gamma below 1 the derivative of (1 - p) ** gamma grows without bound as p approaches 1. Its
product with log p, which vanishes there, becomes NaN in floating point. The clamp makes it zero.
"""


def focal_loss(
    logits: Tensor, labels: Tensor, alpha: Tensor, *, gamma: float, label_smoothing: float
) -> Tensor:
    """Focal loss of each row, (folds, rows).

    Args:
        logits: (folds, rows, classes).
        labels: (folds, rows) class indices.
        alpha: (folds, classes) weight of a row by its true class.
        gamma: exponent of the focal factor; 0 is cross-entropy.
        label_smoothing: share of the target that is spread evenly over the classes.

    Reference: Lin et al. (2017), Focal Loss for Dense Object Detection, equation 5.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    target = _smooth_targets(labels, log_p, label_smoothing)
    if gamma > 0:
        # expm1 keeps 1 - p exact where p is close to 1.
        target = target * (-torch.expm1(log_p)).clamp_min(_ROOM).pow(gamma)
    per_row = -(target * log_p).sum(-1)
    return per_row * alpha.gather(1, labels)


def focal_gradient(
    logits: Tensor, labels: Tensor, alpha: Tensor, *, gamma: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """``focal_loss`` and its gradient by the logits.

    Args:
        logits, labels, alpha, gamma, label_smoothing: see ``focal_loss``.

    Returns:
        The loss of each row (folds, rows), and its gradient (folds, rows, classes).
    """
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    target = _smooth_targets(labels, log_p, label_smoothing)
    slope = target  # derivative of minus the unweighted loss by log p
    if gamma > 0:
        rest = -torch.expm1(log_p)
        within = rest.clamp_min(_ROOM)
        slope = target * within.pow(gamma)
        # Where the factor is clamped, its derivative is 0.
        change = within.pow(gamma - 1).mul_(rest >= _ROOM).mul_(p).mul_(log_p).mul_(gamma)
        target, slope = slope, slope - target * change
    weight = alpha.gather(1, labels)
    loss = -(target * log_p).sum(-1) * weight
    # The derivative of log p of class j by the logit of class k is (j == k) - p of class k.
    gradient = (p * slope.sum(-1, keepdim=True)).sub_(slope).mul_(weight.unsqueeze(-1))
    return loss, gradient


def _smooth_targets(labels: Tensor, like: Tensor, smoothing: float) -> Tensor:
    """Smoothed targets (folds, rows, classes), the shape of ``like``; each row sums to 1."""
    target = torch.full_like(like, smoothing / like.shape[-1])
    one = torch.full_like(like[..., :1], 1 - smoothing)
    return target.scatter_add_(-1, labels.unsqueeze(-1), one)


def effective_number_alpha(counts: FloatArray, beta: float) -> FloatArray:
    """Class weights (classes,) with mean 1 over the classes that occur; other classes get 0.

    Args:
        counts: (classes,) number of images of each class in one training epoch after the sampler,
            so that classes which a sampler has balanced are not weighted a second time.
        beta: in [0, 1); 0 gives equal weights, a value near 1 weights by inverse frequency.

    Reference: Cui et al. (2019), Class-Balanced Loss Based on Effective Number of Samples.

    Example:
        >>> effective_number_alpha(np.array([10.0, 90.0]), 0.99).round(2).tolist()
        [1.72, 0.28]
    """
    present = counts > 0
    weight = np.zeros_like(counts)
    # expm1 keeps digits that 1 - beta ** n loses for beta near 1.
    weight[present] = (1 - beta) / -np.expm1(counts[present] * np.log(max(beta, 1e-300)))
    alpha: FloatArray = weight * present.sum() / weight.sum()
    return alpha
