"""Pruning, which stops a weak trial early: Optuna's pruners, set up for epochs from 1."""

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
"""Successive halving has its first rung after 1/20 of a trial's epochs. A first rung at 1/10
trained 1.3 to 1.8 times as many epochs and chose no better trial
(``benchmarks/search/pruners.md``)."""

WARM_UP_SHARE = 10
"""Hyperband has its first rung, and median pruning begins, after 1/10 of a trial's epochs."""


def _make_halving(epochs: int) -> BasePruner:
    return SuccessiveHalvingPruner(
        min_resource=max(1, epochs // FIRST_RUNG_SHARE), reduction_factor=3
    )


def _make_hyperband(epochs: int) -> BasePruner:
    first = max(1, epochs // WARM_UP_SHARE)
    return HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=3)


def _make_median(epochs: int) -> BasePruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // WARM_UP_SHARE))


def _make_none(epochs: int) -> BasePruner:
    return NopPruner()


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "halving": _make_halving,
    "hyperband": _make_hyperband,
    "median": _make_median,
    "none": _make_none,
}
"""Pruners by name; each function takes the largest number of epochs of a trial."""
