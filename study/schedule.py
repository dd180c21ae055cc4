"""Which piece of work comes next: the least advanced study first, one trial a study at a time.

Each study stays sequential, so what it tries does not depend on how many workers there are; the
studies run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class _Study:
    trials: int  # finished
    busy: bool = False
    ended: bool = False


class Schedule:
    """Work left in a run.

    Args:
        done: finished trials of each study, in the order of preference among equals.
        ended: studies that were refitted and scored already.
        trials: wanted of each study.
    """

    def __init__(self, done: Mapping[str, int], *, ended: frozenset[str], trials: int) -> None:
        self.trials = trials
        self._studies = {name: _Study(n, ended=name in ended) for name, n in done.items()}

    def take(self) -> tuple[str, int | None] | None:
        """A study and the number of its next trial, or None for its end; None when all wait."""
        free = [
            (study.trials, name)
            for name, study in self._studies.items()
            if not study.busy and not study.ended
        ]
        if not free:
            return None
        least = min(trials for trials, _ in free)
        name = next(name for trials, name in free if trials == least)
        study = self._studies[name]
        study.busy = True
        return name, study.trials if study.trials < self.trials else None

    def done(self, name: str, number: int | None) -> None:
        """A piece of work taken before has ended."""
        study = self._studies[name]
        study.busy = False
        if number is None:
            study.ended = True
        else:
            study.trials += 1

    @property
    def finished(self) -> bool:
        """Whether nothing is left, running or waiting."""
        return all(study.ended for study in self._studies.values())

    @property
    def left(self) -> int:
        """Trials not yet finished."""
        return sum(max(0, self.trials - study.trials) for study in self._studies.values())
