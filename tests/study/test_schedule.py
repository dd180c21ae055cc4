"""The order of work: the least advanced study first, and one trial a study at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.schedule import Schedule

Task = tuple[str, int | None]
STUDIES = ("outer-0", "outer-1", "outer-2", "final")


def simulate(
    schedule: Schedule, workers: int, *, seed: int = 0, stop_after: int = 10**6
) -> tuple[list[Task], list[Task]]:
    """Work by ``workers`` of random speed: tasks as they were taken and as they ended."""
    chance = np.random.default_rng(seed)
    running: list[tuple[float, Task]] = []
    taken: list[Task] = []
    ended: list[Task] = []
    now = 0.0
    while not schedule.finished and len(ended) < stop_after:
        while len(running) < workers and (task := schedule.take()) is not None:
            assert task[0] not in [name for _, (name, _) in running], "one trial a study at a time"
            running.append((now + chance.exponential(), task))
            taken.append(task)
        now, task = min(running)
        running.remove((now, task))
        schedule.done(*task)
        ended.append(task)
    return taken, ended


def fresh(
    done: Mapping[str, int] | None = None, *, trials: int = 5, ended: tuple[str, ...] = ()
) -> Schedule:
    counts = done if done is not None else dict.fromkeys(STUDIES, 0)
    return Schedule(counts, ended=frozenset(ended), trials=trials)


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
    st.integers(1, 8), st.integers(0, 10**6),
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
)  # fmt: skip
def test_the_least_advanced_free_study_is_taken_first(
    workers: int, seed: int, counts: list[int]
) -> None:
    done = dict(zip(STUDIES, counts, strict=True))
    schedule = fresh(done)
    chance = np.random.default_rng(seed)
    busy: dict[str, int | None] = {}
    over: set[str] = set()
    while not schedule.finished:
        while len(busy) < workers and (task := schedule.take()) is not None:
            name, number = task
            free = [done[n] for n in STUDIES if n not in busy and n not in over]
            assert done[name] == min(free)
            assert number == (done[name] if done[name] < 5 else None)
            busy[name] = number
        name = str(chance.choice(list(busy)))
        number = busy.pop(name)
        schedule.done(name, number)
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
            0, 1, 2, 3, 4, None,
        ]  # fmt: skip


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
    schedule.done(*task)
    assert schedule.left == 7
    assert not schedule.finished
