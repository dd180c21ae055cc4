"""One rule chooses the epoch of a training and the trial of a study."""

from __future__ import annotations

import numpy as np
import pytest

from outerfold.objectives.choice import (
    Candidate,
    OpenEpochs,
    choose_epoch,
    choose_trial,
    smoothed,
)


def by_hand(curve: list[float]) -> list[float]:
    """Mean of each epoch and of its neighbours, where there are any."""
    return [
        float(np.mean([curve[j] for j in (i - 1, i, i + 1) if 0 <= j < len(curve)]))
        for i in range(len(curve))
    ]


@pytest.mark.parametrize(
    "curve",
    [
        [0.5],
        [0.5, 0.7],
        [0.1, 0.9, 0.2, 0.6, 0.6, 0.6],
        [0.3] * 5,
        [0.9, 0.1, 0.1, 0.1],
    ],
)
@pytest.mark.parametrize("maximise", [True, False])
def test_the_epoch_has_the_best_mean_of_itself_and_its_neighbours(
    curve: list[float], maximise: bool
) -> None:
    smooth = by_hand(curve)
    np.testing.assert_allclose(smoothed(np.array(curve)), smooth, rtol=1e-12)
    number, value = choose_epoch(np.array(curve), maximise=maximise)
    assert value == pytest.approx(max(smooth) if maximise else min(smooth), abs=1e-12)
    assert smooth[number - 1] == pytest.approx(value, abs=1e-12)


def test_of_equal_epochs_the_first_is_chosen() -> None:
    assert choose_epoch(np.full(5, 0.25), maximise=True) == (1, 0.25)


def test_one_lucky_epoch_is_not_the_best() -> None:
    curve = np.array([0.1, 0.9, 0.2, 0.6, 0.6, 0.6])
    assert curve.argmax() == 1
    assert choose_epoch(curve, maximise=True)[0] == 5


@pytest.mark.parametrize("maximise", [True, False])
@pytest.mark.parametrize("levels", [3, 1000])  # few levels: many equal epochs
def test_the_chosen_epoch_was_open_since_it_was_trained(maximise: bool, levels: int) -> None:
    """Wherever a training ends, the weights of its epoch are still held."""
    rng = np.random.default_rng(levels)
    for _ in range(200):
        curve = rng.integers(0, levels, size=rng.integers(1, 30)) / levels
        epochs = OpenEpochs(maximise=maximise)
        held: set[int] = set()
        for length, mean in enumerate(curve.tolist(), start=1):
            held = (held | {length}) & epochs.add(mean)
            assert choose_epoch(curve[:length], maximise=maximise)[0] in held
            assert len(held) <= 2


def test_the_trial_has_the_best_value_and_is_the_first_of_equal_ones() -> None:
    trials = [Candidate(4, 0.8), Candidate(1, 0.2), Candidate(2, 0.8), Candidate(7, 0.2)]
    assert choose_trial(trials, maximise=True) == Candidate(2, 0.8)
    assert choose_trial(trials, maximise=False) == Candidate(1, 0.2)
    assert choose_trial([], maximise=True) is None
