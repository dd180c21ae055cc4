"""Regrets are those that are planted, and the bound is that of a t interval over outer folds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.search import regret
from benchmarks.search.pruners import CONFIG
from benchmarks.search.regret import (
    FOLDS,
    LIMIT,
    Row,
    bound,
    compared,
    page,
    replay_in_orders,
    verdict,
)
from benchmarks.search.ways import ALONE, TODAY, WAYS
from benchmarks.shared.chunks import Arrays
from outerfold.study.engines.local import quiet_optuna

SEEDS, TRIALS, EPOCHS, LENGTH = 2, 4, 100, 60


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


@pytest.fixture
def arrays() -> Arrays:
    """The last trial of four is behind at first and best in the end; later epochs are NaN.

    The outer score of a trial is that of its inner folds, less 0.1.
    """
    means = np.full((TRIALS, EPOCHS), np.nan)
    means[:, :LENGTH] = np.linspace([0.5] * TRIALS, [0.6] * TRIALS, LENGTH).T
    means[-1, :LENGTH] = np.linspace(0.3, 0.9, LENGTH)
    inner = np.stack([means - 0.05, means + 0.05], axis=-1)
    count = SEEDS * FOLDS
    return {
        "inner": np.stack([inner] * count),
        "outer": np.stack([means - 0.1] * count),
        "seconds": np.full(count, 60.0),
    }


@pytest.fixture
def few_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orders in place of twenty, for what does not depend on their number."""
    monkeypatch.setattr(regret, "ORDERS", 2)


def test_a_replay_counts_epochs_to_the_end_of_a_curve_and_scores_at_the_best_epoch(
    arrays: Arrays,
) -> None:
    whole = replay_in_orders(arrays, "none", EPOCHS)
    assert whole.epochs.tolist() == [TRIALS * LENGTH] * SEEDS * FOLDS
    assert whole.complete.tolist() == [TRIALS] * SEEDS * FOLDS
    assert whole.score == pytest.approx(0.9 - 0.1), "the late one wins"
    assert (whole.default == 0).all()


def test_curves_are_cut_where_a_shorter_training_ends(arrays: Arrays) -> None:
    short = replay_in_orders(arrays, "none", 20)
    assert short.epochs.tolist() == [TRIALS * 20] * SEEDS * FOLDS
    assert short.score.max() < 0.6, "the late one has not come up"


@pytest.mark.usefixtures("few_orders")
def test_regret_is_the_score_without_pruning_minus_that_with_it(arrays: Arrays) -> None:
    rows, table = compared(arrays, EPOCHS)
    assert rows["none"] == Row(1.0, 0.0, 0.0)
    paired = rows["paired, 1 error from epoch 3"]
    assert paired.regret == pytest.approx(0.9 - 0.6)
    assert paired.share == pytest.approx((3 * LENGTH + 3) / (TRIALS * LENGTH))
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == list(WAYS)


def test_the_bound_is_that_of_a_one_sided_t_interval_over_outer_folds() -> None:
    regrets = np.random.default_rng(1).normal(size=7 * FOLDS)
    interval = ttest_1samp(regrets, 0.0, alternative="less")
    assert bound(regrets) == pytest.approx(interval.confidence_interval(0.95).high)
    assert np.isnan(bound(regrets[:1]))


def test_the_default_is_first_in_every_order_and_the_others_are_in_many(arrays: Arrays) -> None:
    swapped = {name: values.copy() for name, values in arrays.items()}
    swapped["inner"], swapped["outer"] = arrays["inner"][:, ::-1], arrays["outer"][:, ::-1]
    first = replay_in_orders(swapped, "paired, 1 error from epoch 3", EPOCHS)
    assert (first.default == 1).all()
    assert first.score == pytest.approx(0.9 - 0.1)
    rising = {**arrays, "inner": arrays["inner"] + 0.01 * np.arange(TRIALS)[:, None, None]}
    complete = replay_in_orders(rising, "paired, 1 error from epoch 3", EPOCHS).complete
    assert (complete % 1).all(), "a mean over orders that differ"


def test_without_a_search_the_default_is_chosen(arrays: Arrays) -> None:
    alone = replay_in_orders(arrays, ALONE, EPOCHS)
    assert alone.epochs.tolist() == [LENGTH + TRIALS - 1] * SEEDS * FOLDS
    assert (alone.complete == 1).all()
    assert (alone.default == 1).all()


def judged(**changes: dict[str, Row]) -> dict[str, dict[str, Row]]:
    """Two data sets on which every way is too dear, except for the changes by data set."""
    dear = dict.fromkeys(WAYS, Row(0.5, 0.0, 0.0))
    return {name: {**dear, **changes.get(name, {})} for name in ("a", "b")}


def test_the_default_stays_while_no_bound_exceeds_the_limit() -> None:
    text = verdict(judged(a={TODAY: Row(0.25, 0.001, LIMIT)}, b={TODAY: Row(0.2, -0.01, 0.0)}))
    assert f"No bound exceeds {LIMIT}, so the default stays." in text
    assert "a +0.0010, bound +0.0050, 25.00% of the epochs; b -0.0100, bound +0.0000" in text


OTHER = "halving, rung at 1/10, factor 3"


def test_another_way_is_named_where_only_it_is_within_both_limits() -> None:
    over, good = Row(0.25, 0.004, 0.006), Row(0.3, 0.001, 0.004)
    text = verdict(judged(a={TODAY: over, OTHER: good}, b={TODAY: good, OTHER: good}))
    assert f"**{OTHER}** has the lowest mean regret of the ways whose bounds do not" in text
    too_dear = Row(0.31, 0.001, 0.004)
    text = verdict(judged(a={TODAY: over, OTHER: too_dear}, b={TODAY: good, OTHER: good}))
    assert "leave it undecided. The lowest mean regret of these ways has" in text
    assert text.endswith(f"**{TODAY}**.")


def test_both_readings_of_the_limit_on_epochs_are_told_where_they_differ() -> None:
    high, low = Row(0.31, 0.001, 0.006), Row(0.2, 0.001, 0.006)
    worse = Row(0.25, 0.002, 0.007)
    text = verdict(judged(a={TODAY: high, OTHER: worse}, b={TODAY: low, OTHER: worse}))
    assert f"The lowest mean regret of these ways has **{TODAY}**. If 30%" in text
    assert f"alone, it would be {OTHER}: a +0.0020, bound +0.0070, 25.00%" in text


@pytest.mark.usefixtures("few_orders")
def test_the_page_says_how_it_was_made(arrays: Arrays) -> None:
    text = page({"bus-bra": arrays, "breast-usg": arrays}, CONFIG)
    assert "There are 10 outer folds of bus-bra and 10 outer folds of breast-usg" in text
    assert "--folds 10 10`; the curves took 20 CPU minutes" in text
    assert text.count("| none | 100% | ") == 4
