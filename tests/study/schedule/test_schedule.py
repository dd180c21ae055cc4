"""The order of work: the least advanced study first, and one trial a study at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outerfold.study.schedule.patience import EndedTrial, SearchLimit, count_stale
from outerfold.study.schedule.schedule import Schedule

Task = tuple[str, int | None]
STUDIES = ("outer-0", "outer-1", "outer-2", "final")
BETTER_EVERY_TIME = [EndedTrial("complete", 0.001 * number) for number in range(200)]
Scripts = Mapping[str, Sequence[EndedTrial]]
"""What the trials of each study come to, by number: a configuration scores what it scores."""


def simulate(
    schedule: Schedule,
    workers: int,
    *,
    seed: int = 0,
    stop_after: int = 10**6,
    scripts: Scripts | None = None,
) -> tuple[list[Task], list[Task]]:
    """Work by ``workers`` of random speed: tasks as they were taken and as they ended."""
    rng = np.random.default_rng(seed)
    running: list[tuple[float, Task]] = []
    taken: list[Task] = []
    ended: list[Task] = []
    now = 0.0
    scripts = scripts or dict.fromkeys(STUDIES, BETTER_EVERY_TIME)
    while not schedule.finished and len(ended) < stop_after:
        while len(running) < workers and (task := schedule.take()) is not None:
            assert task[0] not in [name for _, (name, _) in running], "one trial a study at a time"
            running.append((now + rng.exponential(), task))
            taken.append(task)
        now, task = min(running)
        running.remove((now, task))
        name, number = task
        schedule.done(name, None if number is None else scripts[name][number])
        ended.append(task)
    return taken, ended


def fresh(
    done: Mapping[str, int] | None = None,
    *,
    trials: int = 5,
    ended: tuple[str, ...] = (),
    patience: int = 0,
    scripts: Scripts | None = None,
) -> Schedule:
    counts = done if done is not None else dict.fromkeys(STUDIES, 0)
    scripts = scripts or dict.fromkeys(counts, BETTER_EVERY_TIME)
    histories = {name: scripts[name][:count] for name, count in counts.items()}
    return Schedule(histories, ended=frozenset(ended), limit=SearchLimit(trials, patience))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_each_study_does_its_trials_in_order_and_then_ends_however_many_workers_there_are(
    workers: int, seed: int
) -> None:
    taken, ended = simulate(fresh(), workers, seed=seed)
    assert sorted(map(str, taken)) == sorted(map(str, ended))
    for order in (taken, ended):
        for study in STUDIES:
            assert [number for name, number in order if name == study] == [0, 1, 2, 3, 4, None]


def test_one_worker_goes_round_the_studies() -> None:
    taken, _ = simulate(fresh(trials=2), 1)
    assert taken == [(name, number) for number in (0, 1, None) for name in STUDIES]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
)
def test_the_least_advanced_free_study_is_taken_first(
    workers: int, seed: int, counts: list[int]
) -> None:
    done = dict(zip(STUDIES, counts, strict=True))
    schedule = fresh(done)
    rng = np.random.default_rng(seed)
    busy: dict[str, int | None] = {}
    over: set[str] = set()
    while not schedule.finished:
        while len(busy) < workers and (task := schedule.take()) is not None:
            name, number = task
            free = [done[n] for n in STUDIES if n not in busy and n not in over]
            assert done[name] == min(free)
            assert number == (done[name] if done[name] < 5 else None)
            busy[name] = number
        name = str(rng.choice(list(busy)))
        number = busy.pop(name)
        schedule.done(name, None if number is None else BETTER_EVERY_TIME[number])
        if number is None:
            over.add(name)
        else:
            done[name] += 1
    assert over == set(STUDIES)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stop", [1, 4, 9, 17])
def test_a_schedule_made_from_the_counts_of_a_stopped_one_does_what_was_left(
    workers: int, stop: int
) -> None:
    _, before = simulate(fresh(), workers, seed=3, stop_after=stop)
    done = {n: sum(name == n and number is not None for name, number in before) for n in STUDIES}
    ended = tuple(name for name, number in before if number is None)
    _, after = simulate(fresh(done, ended=ended), workers, seed=4)
    for study in STUDIES:
        assert [number for name, number in before + after if name == study] == [
            0,
            1,
            2,
            3,
            4,
            None,
        ]


def test_a_study_with_all_its_trials_only_ends() -> None:
    schedule = fresh({"outer-0": 5, "outer-1": 7, "final": 0})
    assert schedule.take() == ("final", 0)
    assert schedule.take() == ("outer-0", None)
    assert schedule.take() == ("outer-1", None)
    assert schedule.take() is None


def test_a_study_that_has_ended_is_not_touched_again() -> None:
    schedule = fresh({"outer-0": 5, "final": 5}, ended=("outer-0", "final"))
    assert schedule.take() is None
    assert schedule.finished


def test_what_is_left_counts_trials_that_no_one_has_finished() -> None:
    schedule = fresh({"outer-0": 2, "outer-1": 9, "final": 0})
    assert schedule.left == 3 + 0 + 5
    task = schedule.take()
    assert task == ("final", 0)
    assert schedule.left == 8, "a running trial is not finished"
    schedule.done("final", EndedTrial("failed"))
    assert schedule.left == 7
    assert not schedule.finished


# -- patience --------------------------------------------------------------------------------

trial = st.one_of(
    st.sampled_from([EndedTrial("pruned"), EndedTrial("failed")]),
    st.sampled_from([0.5, 0.6, 0.7, 0.8]).map(lambda value: EndedTrial("complete", value)),
)
histories = st.lists(trial, min_size=30, max_size=30)


def ends_at(history: Sequence[EndedTrial], patience: int, *, maximise: bool = True) -> int:
    """Trials of a study, by looking back from each one at all before it."""
    for count in range(1, len(history) + 1):
        seen = [(number, t) for number, t in enumerate(history[:count]) if t.state != "failed"]
        values = [t.value for _, t in seen if t.value is not None]
        if values:
            best = (max if maximise else min)(values)
            first = next(number for number, t in seen if t.value == best)
            if sum(number > first for number, _ in seen) >= patience:
                return count
    return len(history)


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(1, 12), st.booleans())
def test_patience_ends_a_study_where_looking_back_from_each_trial_would(
    history: list[EndedTrial], patience: int, maximise: bool
) -> None:
    limit = SearchLimit(len(history), patience, maximise)
    reached = [count for count in range(len(history) + 1) if limit.reached(history[:count])]
    assert reached[0] == ends_at(history, patience, maximise=maximise)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(histories, min_size=4, max_size=4),
    st.integers(1, 9),
    st.integers(0, 10**6),
    st.integers(1, 60),
)
def test_patience_ends_each_study_at_the_same_trial_for_any_workers_order_and_interruption(
    scripted: list[list[EndedTrial]], patience: int, seed: int, stop: int
) -> None:
    scripts = dict(zip(STUDIES, scripted, strict=True))
    expected = {name: ends_at(scripts[name], patience) for name in STUDIES}
    for workers in (1, 2, 5):
        start = fresh(trials=30, patience=patience, scripts=scripts)
        _, before = simulate(start, workers, seed=seed, stop_after=stop, scripts=scripts)
        done = {n: sum(n == name and at is not None for name, at in before) for n in STUDIES}
        over = tuple(name for name, number in before if number is None)
        again = fresh(done, trials=30, ended=over, patience=patience, scripts=scripts)
        _, after = simulate(again, workers, seed=seed + 1, scripts=scripts)
        for study in STUDIES:
            order = [number for name, number in before + after if name == study]
            assert order == [*range(expected[study]), None]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], 0),
        ([EndedTrial("pruned")] * 4, 0),
        ([EndedTrial("complete", 0.5), EndedTrial("pruned"), EndedTrial("complete", 0.4)], 2),
        ([EndedTrial("complete", 0.5), EndedTrial("complete", 0.5)], 1),
        ([EndedTrial("complete", 0.5), EndedTrial("failed"), EndedTrial("failed")], 0),
        ([EndedTrial("complete", 0.5), EndedTrial("pruned"), EndedTrial("complete", 0.6)], 0),
    ],
)
def test_pruned_and_equal_trials_try_the_patience_and_failed_ones_do_not(
    history: list[EndedTrial], expected: int
) -> None:
    assert count_stale(history, maximise=True) == expected


def test_no_trial_is_left_of_a_study_out_of_patience() -> None:
    scripts = {"final": [EndedTrial("complete", 0.9), *[EndedTrial("pruned")] * 9]}
    schedule = fresh({"final": 4}, trials=10, patience=3, scripts=scripts)
    assert (schedule.left, schedule.ends) == (0, 1)
    assert schedule.take() == ("final", None)


def test_lost_work_is_done_again_first_of_its_study_and_in_order() -> None:
    schedule = fresh({"outer-0": 0}, trials=3)
    assert schedule.take() == ("outer-0", 0)
    schedule.lost("outer-0", 0)
    assert schedule.take() == ("outer-0", 0)
    for number in range(3):
        schedule.done("outer-0", BETTER_EVERY_TIME[number])
        if number < 2:
            assert schedule.take() == ("outer-0", number + 1)
    assert schedule.take() == ("outer-0", None)
    assert schedule.take() is None
    assert not schedule.finished
    schedule.lost("outer-0", None)
    assert schedule.take() == ("outer-0", None), "the end of a study is done again as well"
    schedule.done("outer-0", None)
    assert schedule.finished


def test_studies_without_an_ended_trial_are_counted() -> None:
    schedule = fresh({"outer-0": 0, "outer-1": 2, "final": 0})
    assert schedule.untouched == 2
    schedule.take()
    assert schedule.untouched == 2
    schedule.done("outer-0", BETTER_EVERY_TIME[0])
    assert schedule.untouched == 1
