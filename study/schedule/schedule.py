"""Order of the work of a run: the study with the fewest trials is served first.

The studies run at the same time. Each has one running trial, or up to ``SearchLimit.in_flight``:
trial k starts once trials 0 to k - in_flight have ended, and uses these alone. So the trials of a
study depend on ``in_flight``, but neither on the number of workers nor on their speed.
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
    ended: bool
    lost: list[int] = field(default_factory=list)  # numbers of trials that must be started again
    ending: bool = False


class Schedule:
    """Work that is left in a run.

    Args:
        done: ended trials of each study. Of studies with equally many trials, the first is served.
        ended: names of the studies that are already refitted and scored.
        limit: limits of each search.
        deadline: time that ends all searches, each after at least one complete trial; None for no
            deadline.

    Attributes:
        cut: whether the deadline has ended the searches.
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
        """Name of a study and the number of its next trial, or None for its end.

        The result is None as a whole if there is nothing to do at present.
        """
        if not self._free_studies():
            return None
        self.cut = self.cut or self._deadline_is_near()
        free = self._free_studies()  # a search that was cut just now waits for its running trials
        if not free:
            return None
        study = self._studies[name := min(free, key=self._next_number)]
        if study.lost:
            return name, study.lost.pop(0)
        if self._search_is_over(study):
            study.ending = True
            return name, None
        study.begun += 1
        return name, study.begun - 1

    def done(self, name: str, trial: EndedTrial | None) -> None:
        """Record the end of the study's first running trial, or, for None, of the study itself."""
        study = self._studies[name]
        if trial is None:
            study.ended = True
        else:
            study.history.append(trial)

    def lost(self, name: str, number: int | None) -> None:
        """Record that a trial, or for None the end of a study, was lost and must be done again."""
        study = self._studies[name]
        if number is None:
            study.ending = False
        else:
            study.lost = sorted([*study.lost, number])

    @property
    def finished(self) -> bool:
        """Whether all studies are refitted and scored, so that no work is left or running."""
        return all(study.ended for study in self._studies.values())

    @property
    def left(self) -> int:
        """Number of trials that have not ended; with patience, the largest possible number."""
        return sum(
            self.limit.trials - len(study.history)
            for study in self._studies.values()
            if not study.ended and not self._search_is_over(study)
        )

    @property
    def ends(self) -> int:
        """Number of studies that must still be refitted and scored."""
        return sum(not study.ended for study in self._studies.values())

    @property
    def untouched(self) -> int:
        """Number of studies of which no trial has ended."""
        return sum(not study.history for study in self._studies.values())

    def _free_studies(self) -> list[str]:
        """Names of the studies in which a trial or the end can be started now."""
        return [name for name, study in self._studies.items() if self._is_free(study)]

    def _is_free(self, study: _Study) -> bool:
        if study.lost:
            return True
        if study.ended or study.ending:
            return False
        if self._search_is_over(study):
            return len(study.history) == study.begun
        return len(study.history) >= count_visible(study.begun, self.limit.in_flight)

    def _next_number(self, name: str) -> int:
        study = self._studies[name]
        return study.lost[0] if study.lost else study.begun

    def _search_is_over(self, study: _Study) -> bool:
        if self.cut and any(trial.state == "complete" for trial in study.history):
            return True
        return self.limit.reached(study.history, study.begun)

    def _deadline_is_near(self) -> bool:
        if self.deadline is None or not self.left:
            return False
        trials = [trial for study in self._studies.values() for trial in study.history]
        return self.deadline.near(trials, self.ends)
