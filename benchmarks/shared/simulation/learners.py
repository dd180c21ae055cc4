"""Models of the simulation; each is fitted for all folds at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from outerfold.storage.records import FloatArray, IntArray

OUT = 1e6
"""A penalty so large that it removes a feature from a model."""
Predict = Callable[[FloatArray], FloatArray]


def fit_logistic(
    x: FloatArray, positive: FloatArray, rows: FloatArray, penalty: FloatArray
) -> FloatArray:
    """Fit logistic regressions with L2 penalties by Newton's method.

    Args:
        x: (n, d) features.
        positive: (n,) 0 or 1.
        rows: (fits, n) 1 where a fit may see the row, else 0.
        penalty: (fits, d) penalty of each coefficient.

    Returns:
        (fits, d + 1) coefficients; the intercept is last and has a penalty close to zero.
    """
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    ridge = np.concatenate([penalty, np.full((len(rows), 1), 1e-4)], axis=1)
    diagonal = np.arange(design.shape[1])
    beta = np.zeros((len(rows), design.shape[1]))
    for _ in range(25):
        p = expit(beta @ design.T)
        gradient = ((p - positive) * rows) @ design + ridge * beta
        curve = np.matmul((rows * p * (1 - p))[:, None, :] * design.T, design)
        curve[:, diagonal, diagonal] += ridge
        step = np.linalg.solve(curve, gradient[..., None])[..., 0]
        step /= np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / 3)
        beta -= step
        if np.abs(step).max() < 1e-7:
            break
    return beta


def logistic_probabilities(x: FloatArray, betas: FloatArray) -> FloatArray:
    """Probabilities (fits, n, classes) from coefficients (classes or 1, fits, d + 1).

    For several classes they are one against the rest, normalised to sum to one.
    """
    p = expit(betas[..., :-1] @ x.T + betas[..., -1:])
    if len(betas) == 1:
        return np.stack([1 - p[0], p[0]], axis=-1)
    return np.moveaxis(p / p.sum(axis=0), 0, -1)


def fit_all_logistic(
    x: FloatArray, labels: IntArray, rows: FloatArray, penalty: FloatArray, classes: int
) -> FloatArray:
    """Fit coefficients (classes or 1, fits, d + 1), one against the rest; 1 for two classes."""
    shown = (1,) if classes == 2 else range(classes)
    return np.stack([fit_logistic(x, (labels == c) * 1.0, rows, penalty) for c in shown])


def fit_head(
    x: FloatArray, labels: IntArray, rows: FloatArray, classes: int, seed: int
) -> list[Predict]:
    """Train heads of 32 hidden units in 20 full-batch AdamW steps, all fits in one batch."""
    import torch  # only this cell needs it

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    fits, d, hidden = len(rows), x.shape[1], 32
    shapes = ((fits, d, hidden), (fits, 1, hidden), (fits, hidden, classes), (fits, 1, classes))
    sizes = (d**-0.5, 0.0, hidden**-0.5, 0.0)
    weights = [
        (size * torch.randn(shape, generator=generator)).requires_grad_()
        for shape, size in zip(shapes, sizes, strict=True)
    ]
    optimiser = torch.optim.AdamW(weights, lr=0.02, weight_decay=0.05)
    inputs = torch.as_tensor(x, dtype=torch.float32).expand(fits, *x.shape)
    seen, target = torch.as_tensor(rows, dtype=torch.float32), torch.as_tensor(labels)

    def logits(batch: torch.Tensor, w: list[torch.Tensor]) -> torch.Tensor:
        return torch.relu(batch @ w[0] + w[1]) @ w[2] + w[3]

    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(
            logits(inputs, weights).transpose(1, 2), target.expand(fits, -1), reduction="none"
        )
        optimiser.zero_grad()
        ((loss * seen).sum(1) / seen.sum(1)).sum().backward()
        optimiser.step()
    trained = [w.detach() for w in weights]

    def predict(fit: int) -> Predict:
        own = [w[fit] for w in trained]
        return lambda z: torch.softmax(
            logits(torch.as_tensor(z, dtype=torch.float32), own).double(), 1
        ).numpy()

    return [predict(fit) for fit in range(fits)]


def fit_trees(x: FloatArray, labels: IntArray, rows: FloatArray, seed: int) -> list[Predict]:
    """Fit one tree per fit, with leaves of five rows: intervals are known to fail for it."""
    from sklearn.tree import DecisionTreeClassifier

    found = []
    for seen in rows > 0:
        tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=seed)
        found.append(tree.fit(x[seen], labels[seen]).predict_proba)
    return found
