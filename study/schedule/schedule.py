"""Which piece of work comes next: the least advanced study first.

The studies run side by side. Each has one trial at a time, or up to ``SearchLimit.in_flight``:
trial k is begun once trials 0 to k - in_flight have ended and learns from these alone. So what a
study tries depends on that number, but neither on how many workers there are nor on how fast they
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outerfold.study.schedule.deadline import Deadline
from outerfold.study.schedule.patience import EndedTrial, SearchLimit, count_visible


@dataclass
class _Study:
    history: list[EndedTrial]  # ended trials, in order of their number
    begun: int
    lost: list[int] = field(default_factory=list)  # begun, and to be begun again
    ending: bool = False
    ended: bool = False


class Schedule:
    """Work left in a run.

    Args:
        done: ended trials of each study, in the order of preference among equals.
        ended: studies that were refitted and scored already.
        limit: what ends a search.
        deadline: what cuts all searches, each with a complete trial at least; None for nothing.
    """

    def __init__(
        self,
        done: Mapping[str, Sequence[EndedTrial]],
        *,
        ended: frozenset[str],
        limit: SearchLimit,
        deadline: Deadline | None = None,
    ) -> None:
        self.limit, self.deadline = limit, deadline
        self.cut = False
        self._studies = {
            name: _Study(list(history), len(history), ended=name in ended)
            for name, history in done.items()
        }

    def take(self) -> tuple[str, int | None] | None:
        """A study and the number of its next trial, or None for its end; None when all wait."""
        if not self._free():
            return None
        self.cut = self.cut or self._deadline_is_near()
        free = self._free()  # a search that was cut just now waits for its trials to end
        if not free:
            return None
        study = self._studies[name := min(free, key=self._next)]
        if study.lost:
            return name, study.lost.pop(0)
        if self._enough(study):
            study.ending = True
            return name, None
        study.begun += 1
        return name, study.begun - 1

    def done(self, name: str, trial: EndedTrial | None) -> None:
        """The study's first trial under way has ended so, or, for None, the study itself."""
        study = self._studies[name]
        if trial is None:
            study.ended = True
        else:
            study.history.append(trial)

    def lost(self, name: str, number: int | None) -> None:
        """A piece of work taken before came to nothing and is to be done again."""
        study = self._studies[name]
        if number is None:
            study.ending = False
        else:
            study.lost = sorted([*study.lost, number])

    @property
    def finished(self) -> bool:
        """Whether nothing is left, running or waiting."""
        return all(study.ended for study in self._studies.values())

    @property
    def left(self) -> int:
        """Trials not yet ended; with patience, the most there may be."""
        return sum(
            self.limit.trials - len(study.history)
            for study in self._studies.values()
            if not study.ended and not self._enough(study)
        )

    @property
    def ends(self) -> int:
        """Studies yet to be refitted and scored."""
        return sum(not study.ended for study in self._studies.values())

    def _free(self) -> list[str]:
        """Studies in which there is something to be done now."""
        return [name for name, study in self._studies.items() if self._is_free(study)]

    def _is_free(self, study: _Study) -> bool:
        if study.lost:
            return True
        if study.ended or study.ending:
            return False
        if self._enough(study):
            return len(study.history) == study.begun
        return len(study.history) >= count_visible(study.begun, self.limit.in_flight)

    def _next(self, name: str) -> int:
        study = self._studies[name]
        return study.lost[0] if study.lost else study.begun

    def _enough(self, study: _Study) -> bool:
        if self.cut and any(trial.state == "complete" for trial in study.history):
            return True
        return self.limit.reached(study.history, study.begun)

    def _deadline_is_near(self) -> bool:
        if self.deadline is None or not self.left:
            return False
        trials = [trial for study in self._studies.values() for trial in study.history]
        return self.deadline.near(trials, self.ends)
