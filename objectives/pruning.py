"""When a trial is given up: Optuna's pruners, set up for epochs counted from 1."""

from __future__ import annotations

from collections.abc import Callable

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

FIRST_RUNG_SHARE = 20
"""Of the epochs of a trial, one such share comes before halving's first rung. A rung at a tenth
trained 1.3 to 1.8 times as many epochs and chose nothing better (``benchmarks/pruners.md``)."""

WARM_UP_SHARE = 10
"""The same for hyperband's first rung and before the median prunes."""


def _halving(epochs: int) -> BasePruner:
    return SuccessiveHalvingPruner(
        min_resource=max(1, epochs // FIRST_RUNG_SHARE), reduction_factor=3
    )


def _hyperband(epochs: int) -> BasePruner:
    first = max(1, epochs // WARM_UP_SHARE)
    return HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=3)


def _median(epochs: int) -> BasePruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // WARM_UP_SHARE))


def _none(epochs: int) -> BasePruner:
    return NopPruner()


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "halving": _halving,
    "hyperband": _hyperband,
    "median": _median,
    "none": _none,
}
"""By name: a function of the most epochs a trial may have."""
