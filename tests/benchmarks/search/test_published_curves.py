"""The replay of published curves finds what is planted in small ones."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.published_curves import (
    DEFAULT,
    FIRST_EPOCH,
    HALVING,
    NAMED,
    NONE,
    RULES,
    SATURATED,
    TUNED,
    Found,
    in_step,
    name_paired,
    page,
    read_curves,
    replay,
    summary,
    tuned,
)
from outerfold.storage.records import FloatArray
from outerfold.study.engines.local import quiet_optuna


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


def rising(start: float, end: float, *, noise: float = 0.0) -> FloatArray:
    """Curve (20, 4) whose folds differ in level; ``noise`` moves folds apart at each epoch."""
    means = np.linspace(start, end, 20)[:, None]
    moved = noise * np.random.default_rng(3).normal(size=(20, 4))
    return means + np.array([-0.2, -0.1, 0.1, 0.2]) + moved - moved.mean(1, keepdims=True)


def test_halving_loses_a_late_winner_that_paired_pruning_spares_while_folds_disagree() -> None:
    late = rising(0.45, 0.7, noise=0.3)
    sets = [[late, *[rising(0.5, 0.6)] * 4]]
    found = {name: replay(sets, RULES[name], 20) for name in (HALVING, DEFAULT, NONE)}
    assert found[HALVING].kept < 0.5
    assert found[HALVING].loss > 0.05
    assert found[DEFAULT].kept == found[NONE].kept == 1.0
    assert found[DEFAULT].loss == found[NONE].loss == 0.0


def test_paired_pruning_ends_what_is_behind_in_every_fold_and_the_share_counts_it() -> None:
    sets = [[rising(0.6, 0.8), rising(0.3, 0.5)]]
    found = replay(sets, RULES[DEFAULT], 50)
    assert (found.kept, found.loss) == (1.0, 0.0)
    whole, pruned = 1.0, (20 + FIRST_EPOCH) / 40
    assert pruned < found.share < whole, "the better one comes first in some orders"
    assert replay(sets, RULES[NONE], 5).share == 1.0


def test_the_loss_is_the_difference_of_best_smoothed_means() -> None:
    """With a first epoch of 1, the trial that is behind at first is pruned unless it is first."""
    late, early = rising(0.3, 0.7), rising(0.5, 0.6)
    found = replay([[late, early]], RULES["paired, 1 error from epoch 1"], 200)
    best = [np.convolve(c.mean(1), [1 / 3] * 3, "valid").max() for c in (late, early)]
    best = [max(one, c.mean(1)[-2:].mean()) for one, c in zip(best, (late, early), strict=True)]
    assert 0.3 < found.kept < 0.7
    assert found.loss == pytest.approx((1 - found.kept) * (best[0] - best[1]))


def test_folds_in_step_end_with_the_first_or_are_held() -> None:
    folds = [[0.1, 0.2, 0.3], [0.4, 0.5]]
    assert in_step(folds).tolist() == [[0.1, 0.4], [0.2, 0.5]]
    assert in_step(folds, held=True).tolist() == [[0.1, 0.4], [0.2, 0.5], [0.3, 0.5]]


def test_curves_are_read_by_split_test_fold_and_configuration(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["split", "configuration", "network", "test_fold", "val_fold", "epoch", "val_accuracy"]
        )
        for split in (SATURATED, "a"):
            for epoch in (2, 1):  # the order of rows means nothing
                for configuration in (1, 0):
                    table.writerow([split, configuration, "net", "t", "y", epoch, 0.2 * epoch])
                    table.writerow([split, configuration, "net", "t", "x", epoch, 0.1 * epoch])
    splits = read_curves(path)
    assert list(splits) == ["a"]
    ((one, other),) = splits["a"]
    assert one.tolist() == other.tolist() == [[0.1, 0.2], [0.2, 0.4]]


def test_the_tuned_number_of_errors_never_saw_its_own_split() -> None:
    few, many, *others = (name_paired(errors, FIRST_EPOCH) for errors in TUNED)
    costly = Found(0.5, 0.0, 0.9)
    found = {name: dict.fromkeys("abc", costly) for name in others}
    found[few] = {"a": Found(1, 0.0, 0.4), "b": Found(0, 0.45, 0.4), "c": Found(0, 0.45, 0.4)}
    found[many] = {split: Found(0.5, 0.2, 0.4) for split in "abc"}
    # "few" is best on "a" alone, and "a" does not outweigh any other split.
    assert [one.loss for one in tuned(found).values()] == [0.2, 0.2, 0.2]
    found[few]["b"] = Found(1, 0.0, 0.4)
    assert [one.loss for one in tuned(found).values()] == [0.2, 0.2, 0.45]


def test_the_page_tells_whether_the_target_is_reached() -> None:
    sets = {"a": [[rising(0.6, 0.8), rising(0.3, 0.5)]], "b": [[rising(0.6, 0.8)]]}
    cheap = {name: {"a": Found(1, 0.003, 0.4), "b": Found(1, 0.004, 0.6)} for name in RULES}
    text = page(sets, cheap, cheap, 7)
    assert "`paired` loses 0.0035 and 0.0040 at 50%. The target is reached." in text
    assert summary(cheap[DEFAULT]) == pytest.approx((1.0, 0.0035, 0.004, 0.5))
    dear = {**cheap, DEFAULT: {"a": Found(1, 0.003, 0.4), "b": Found(1, 0.0061, 0.6)}}
    assert "**The target is missed.**" in page(sets, dear, cheap, 7)
    assert "12 curves of" in text
    for name in RULES:
        assert f"| {NAMED.get(name, name)} |" in text
