"""Focal loss and class weights against second implementations, and at the corners of floats."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from torch.nn import functional

from outerfold.pipelines.heads.losses import effective_number_alpha, focal_gradient, focal_loss

GAMMAS = (0.0, 0.3, 0.5, 1.0, 2.0, 3.0)


def some_rows(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (3, 20, classes), labels (3, 20) and alpha (3, classes) of three folds."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 20, classes, generator=rng, dtype=torch.float64) * 3
    labels = torch.randint(0, classes, (3, 20), generator=rng)
    alpha = torch.rand(3, classes, generator=rng, dtype=torch.float64) + 0.5
    return logits, labels, alpha


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_gamma_the_loss_is_torchs_cross_entropy(classes: int, smoothing: float) -> None:
    logits, labels, alpha = some_rows(classes)
    found = focal_loss(logits, labels, alpha, gamma=0.0, label_smoothing=smoothing)
    for fold in range(3):
        wanted = functional.cross_entropy(
            logits[fold], labels[fold], reduction="none", label_smoothing=smoothing
        )
        torch.testing.assert_close(found[fold], wanted * alpha[fold][labels[fold]])


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_the_loss_equals_a_second_implementation(gamma: float, smoothing: float) -> None:
    logits, labels, alpha = some_rows(4, seed=1)
    found = focal_loss(logits, labels, alpha, gamma=gamma, label_smoothing=smoothing).numpy()
    for fold in range(3):
        for row in range(20):
            z = np.exp(logits[fold, row].numpy())
            p, true = z / z.sum(), int(labels[fold, row])
            wanted = 0.0
            for c in range(4):
                target = smoothing / 4 + (1 - smoothing) * (c == true)
                wanted -= target * (1 - p[c]) ** gamma * np.log(p[c])
            assert found[fold, row] == pytest.approx(wanted * float(alpha[fold, true]), rel=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_right(gamma: float, smoothing: float) -> None:
    logits, labels, alpha = some_rows(3, seed=2)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return focal_loss(z, labels, alpha, gamma=gamma, label_smoothing=smoothing)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("size", [10.0, 17.0, 40.0, 90.0, 200.0])
def test_gradients_are_finite_where_a_probability_is_one_or_zero(
    gamma: float, smoothing: float, classes: int, size: float
) -> None:
    """The formula as the paper writes it gives NaN for gamma below 1 and a probability of 1."""
    logits = torch.zeros(1, 2 * classes, classes)
    labels = torch.arange(2 * classes).remainder(classes).unsqueeze(0)
    logits[0, :classes] = torch.eye(classes) * size  # sure and right
    logits[0, classes:] = -torch.eye(classes) * size  # sure and wrong
    logits.requires_grad_()
    loss = focal_loss(
        logits, labels, torch.ones(1, classes), gamma=gamma, label_smoothing=smoothing
    )
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0, classes:].abs().sum(-1) > 0.1).all(), "a wrong row must still teach"


def test_each_folds_loss_uses_its_own_class_weights() -> None:
    logits, labels, alpha = some_rows(3)
    first = focal_loss(logits, labels, alpha, gamma=2.0, label_smoothing=0.0)
    alpha[1] *= 7
    second = focal_loss(logits, labels, alpha, gamma=2.0, label_smoothing=0.0)
    torch.testing.assert_close(second[1], 7 * first[1])
    assert torch.equal(second[[0, 2]], first[[0, 2]])


# -- effective number of samples -------------------------------------------------------------


def by_the_paper(counts: list[int], beta: str) -> list[float]:
    """(1 - beta) / (1 - beta ** n), then mean 1 over the classes present; 60 digits."""
    getcontext().prec = 60
    b = Decimal(beta)
    weight = [(1 - b) / (1 - b**n) if n else Decimal(0) for n in counts]
    scale = sum(n > 0 for n in counts) / sum(weight)
    return [float(w * scale) for w in weight]


@pytest.mark.parametrize("beta", ["0", "0.9", "0.99", "0.999", "0.999999", "0.999999999999"])
@pytest.mark.parametrize(
    "counts", [[1, 1], [10, 1], [500, 20, 3], [100, 0, 7], [10**9, 5], [10**12, 10**6, 1]]
)
def test_class_weights_are_the_papers(beta: str, counts: list[int]) -> None:
    found = effective_number_alpha(np.array(counts, dtype=np.float64), float(beta))
    # The nearest float to 0.999999999999 is itself wrong in the 5th digit of 1 - beta.
    exact = by_the_paper(counts, str(Decimal(float(beta))))
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_without_beta_every_class_weighs_alike() -> None:
    np.testing.assert_allclose(
        effective_number_alpha(np.array([900.0, 90.0, 9.0, 1.0]), 0.0), 1, rtol=1e-12
    )


def test_towards_one_the_weights_become_inverse_frequencies() -> None:
    found = effective_number_alpha(np.array([300.0, 20.0, 1.0]), 1 - 1e-9)
    np.testing.assert_allclose(found[1:] / found[0], [15, 300], rtol=1e-5)


def test_an_absent_class_weighs_nothing_and_the_others_keep_mean_one() -> None:
    found = effective_number_alpha(np.array([50.0, 0.0, 5.0]), 0.99)
    assert found[1] == 0
    assert found[[0, 2]].mean() == pytest.approx(1)
    assert found[2] > found[0]


def test_counts_need_not_be_whole_since_weighted_draws_are_expected_values() -> None:
    low, middle, high = (
        effective_number_alpha(np.array([100.0, n]), 0.99)[1] for n in (10.0, 10.5, 11.0)
    )
    assert low > middle > high


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_written_out_is_autograds(
    gamma: float, smoothing: float, classes: int
) -> None:
    logits, labels, alpha = some_rows(classes, seed=2)
    logits[0, 0], labels[0, 0] = 0.0, 0
    logits[0, 0, 0] = 40.0  # where the focal factor is clamped
    logits[0, 1], labels[0, 1] = 0.0, 1
    logits[0, 1, 0] = 40.0
    given = {"gamma": gamma, "label_smoothing": smoothing}
    leaf = logits.clone().requires_grad_()
    wanted = focal_loss(leaf, labels, alpha, **given)
    wanted.sum().backward()
    loss, gradient = focal_gradient(logits, labels, alpha, **given)
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradient, leaf.grad)
