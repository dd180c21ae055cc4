"""Which piece of work comes next: the least advanced study first, one trial a study at a time.

Each study stays sequential, so what it tries does not depend on how many workers there are; the
studies run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.deadline import Deadline
from study.patience import Ended, Limit


@dataclass
class _Study:
    history: list[Ended]  # finished trials, in order of their number
    busy: bool = False
    ended: bool = False


class Schedule:
    """Work left in a run.

    Args:
        done: finished trials of each study, in the order of preference among equals.
        ended: studies that were refitted and scored already.
        limit: what ends a search.
        deadline: what cuts all searches, each with a complete trial at least; None for nothing.
    """

    def __init__(
        self, done: Mapping[str, Sequence[Ended]], *, ended: frozenset[str], limit: Limit,
        deadline: Deadline | None = None,
    ) -> None:  # fmt: skip
        self.limit, self.deadline = limit, deadline
        self.cut = False
        self._studies = {
            name: _Study(list(history), ended=name in ended) for name, history in done.items()
        }

    def take(self) -> tuple[str, int | None] | None:
        """A study and the number of its next trial, or None for its end; None when all wait."""
        free = [
            (len(study.history), name)
            for name, study in self._studies.items()
            if not study.busy and not study.ended
        ]
        if not free:
            return None
        self.cut = self.cut or self._deadline_is_near()
        least = min(trials for trials, _ in free)
        name = next(name for trials, name in free if trials == least)
        study = self._studies[name]
        study.busy = True
        return name, None if self._enough(study) else len(study.history)

    def done(self, name: str, trial: Ended | None) -> None:
        """A trial taken before has ended so, or, for None, a study."""
        study = self._studies[name]
        study.busy = False
        if trial is None:
            study.ended = True
        else:
            study.history.append(trial)

    @property
    def finished(self) -> bool:
        """Whether nothing is left, running or waiting."""
        return all(study.ended for study in self._studies.values())

    @property
    def left(self) -> int:
        """Trials not yet finished; with patience, the most there may be."""
        return sum(
            self.limit.trials - len(study.history)
            for study in self._studies.values()
            if not study.ended and not self._enough(study)
        )

    @property
    def ends(self) -> int:
        """Studies yet to be refitted and scored."""
        return sum(not study.ended for study in self._studies.values())

    def _enough(self, study: _Study) -> bool:
        if self.cut and any(trial.state == "complete" for trial in study.history):
            return True
        return self.limit.reached(study.history)

    def _deadline_is_near(self) -> bool:
        if self.deadline is None or not self.left:
            return False
        trials = [trial for study in self._studies.values() for trial in study.history]
        return self.deadline.near(trials, self.ends)
