"""Which piece of work comes next: the least advanced study first, one trial a study at a time.

Each study stays sequential, so what it tries does not depend on how many workers there are; the
studies run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    def __init__(
        self, done: Mapping[str, Sequence[Ended]], *, ended: frozenset[str], limit: Limit
    ) -> None:
        self.limit = limit
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
        least = min(trials for trials, _ in free)
        name = next(name for trials, name in free if trials == least)
        study = self._studies[name]
        study.busy = True
        return name, None if self.limit.reached(study.history) else len(study.history)

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
            if not study.ended and not self.limit.reached(study.history)
        )

    @property
    def ends(self) -> int:
        """Studies yet to be refitted and scored."""
        return sum(not study.ended for study in self._studies.values())
