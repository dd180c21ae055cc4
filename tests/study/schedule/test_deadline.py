"""``--max-time``: forms of a time, and a search that is cut so that the rest is done in time."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outerfold.storage.errors import DataError
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.execution import Execution
from outerfold.study.schedule.deadline import Deadline
from outerfold.study.schedule.patience import EndedTrial, SearchLimit
from outerfold.study.schedule.schedule import Schedule

STUDIES = ("outer-0", "outer-1", "outer-2", "final")
STATES = ("complete", "pruned", "failed")
REPORT = 7.0
END_TRIALS = 1.5
"""Duration of a study's end, in trials."""
TRIALS = 100


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h5s", 3605),
        ("2h0m1s", 7201),
    ],
)
def test_a_time_is_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert parse_seconds(text, option="max-time") == seconds


@pytest.mark.parametrize("text", ["8761h", f"{10**40}s", f"1{'0' * 5000}h"])
def test_a_time_of_more_than_a_year_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"--max-time '.{1,70}: a time is at most 8760h, a year"):
        parse_seconds(text, option="max-time")


@pytest.mark.parametrize("text", ["", "2", "2 h", "1.5h", "30m1h", "-2h", "0m", "2d", "h", "2h\n"])
def test_what_is_no_time_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"--max-time '.*': a time is hours, minutes and seconds"):
        parse_seconds(text, option="max-time")


def test_a_malformed_time_is_refused_before_any_work() -> None:
    with pytest.raises(DataError, match="--max-time '2hours': a time is hours, minutes and"):
        Execution(max_time="2hours")


class Works:
    """A run by workers whose trials take ``pace`` seconds at most, under a clock of its own."""

    def __init__(
        self,
        *,
        budget: float,
        workers: int,
        pace: float,
        seed: int,
        promise: float,
    ) -> None:
        self.now, self.workers, self.pace = 0.0, workers, pace
        self.trials, self.complete = dict.fromkeys(STUDIES, 0), dict.fromkeys(STUDIES, 0)
        self.complete_at_cut: dict[str, int] | None = None
        self.states = iter(STATES[(seed >> i % 60) % 3] for i in range(999))
        self.schedule = Schedule(
            {name: [] for name in STUDIES},
            ended=frozenset(),
            limit=SearchLimit(TRIALS),
            deadline=Deadline(budget, workers, END_TRIALS, promise, REPORT, lambda: self.now),
        )

    def run(self) -> float:
        """Seconds from the start to the report's end."""
        running: list[tuple[float, str, int | None]] = []
        while not self.schedule.finished:
            while len(running) < self.workers and (task := self.schedule.take()) is not None:
                cost = self.pace * (1 if task[1] is not None else END_TRIALS)
                running.append((self.now + cost, *task))
                if self.schedule.cut and self.complete_at_cut is None:
                    self.complete_at_cut = dict(self.complete)
            running.sort(key=lambda job: job[0])
            self.now, name, number = running.pop(0)
            self.schedule.done(name, None if number is None else self._trial(name))
        return self.now + REPORT

    def _trial(self, name: str) -> EndedTrial:
        state = next(self.states)
        self.trials[name] += 1
        self.complete[name] += state == "complete"
        return EndedTrial(state, 0.5 if state == "complete" else None, self.pace)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.floats(0.1, 3.0), st.integers(0, 2**60), st.floats(150.0, 400.0))
@example(workers=1, pace=1.0, seed=144_115_188_075_855_856, budget=150.0)  # one is far behind
def test_a_cut_run_is_over_in_time_with_the_studies_level(
    workers: int, pace: float, seed: int, budget: float
) -> None:
    works = Works(budget=budget, workers=workers, pace=pace, seed=seed, promise=pace)
    over = works.run()
    at_cut = works.complete_at_cut or works.complete
    assert over <= budget or not all(at_cut.values()), "a complete trial may come after the cut"
    if works.schedule.cut:
        level = [count for name, count in works.trials.items() if at_cut[name]]
        assert not level or max(level) - min(level) <= 1
        behind = [name for name in STUDIES if not at_cut[name]]
        done = [works.complete[name] == 1 or works.trials[name] == TRIALS for name in behind]
        assert all(done), "each goes on to its first complete trial, or to its last"
        assert all(works.trials[name] >= max(level, default=0) - 1 for name in behind)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", [0, 5, 2**40 + 7])
def test_every_study_has_a_complete_trial_however_short_the_time(workers: int, seed: int) -> None:
    works = Works(budget=1.0, workers=workers, pace=2.0, seed=seed, promise=2.0)
    works.run()
    assert works.schedule.cut
    assert works.complete == dict.fromkeys(STUDIES, 1)


def test_a_run_that_takes_less_than_its_time_is_not_cut() -> None:
    works = Works(budget=10_000.0, workers=2, pace=1.0, seed=3, promise=5.0)
    works.run()
    assert not works.schedule.cut
    assert set(works.trials.values()) == {TRIALS}


def test_the_expected_trial_counts_until_a_complete_one_was_seen() -> None:
    deadline = Deadline(100.0, 1, END_TRIALS, 40.0, 5.0, lambda: 10.0)
    assert deadline.near([], ends=1), "10 + 40 + 1.5 x 40 + 5 is 115"
    assert deadline.near([EndedTrial("pruned", None, 1.0)], ends=1)
    assert not deadline.near([EndedTrial("complete", 0.5, 20.0)], ends=1)
    assert deadline.near(
        [EndedTrial("complete", 0.5, 20.0), EndedTrial("pruned", None, 35.0)], ends=1
    )


def test_trials_of_an_earlier_call_do_not_say_how_long_one_takes() -> None:
    deadline = Deadline(100.0, 1, END_TRIALS, 40.0, 5.0, lambda: 10.0)
    assert deadline.near([EndedTrial("complete", 0.5)], ends=1)
