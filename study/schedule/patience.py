"""When a search has had enough: its number of trials, or trials in a row that improved nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection

from outerfold.study.config.record import StudyConfig


@dataclass(frozen=True)
class EndedTrial:
    """How a trial ended.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        value: inner score of a complete trial, else None.
        seconds: taken; 0 where it ended in an earlier call. Only ``--max-time`` reads it.
    """

    state: str
    value: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SearchLimit:
    """What ends a search, told from its own trials alone.

    Attributes:
        trials: most trials of a study.
        patience: trials in a row without a better inner score; 0 for no such limit.
        maximise: whether a higher inner score is the better one.
        in_flight: trials of a study at once; one is begun on what all but so many showed.
    """

    trials: int
    patience: int = 0
    maximise: bool = True
    in_flight: int = 1

    def reached(self, history: Sequence[EndedTrial], begun: int | None = None) -> bool:
        """Whether a study begins no other trial.

        Args:
            history: ended trials, in order of their number.
            begun: trials begun; those that ended where None.
        """
        count = len(history) if begun is None else begun
        if count >= self.trials:
            return True
        seen = history[: count_visible(count, self.in_flight)]
        return 0 < self.patience <= count_stale(seen, maximise=self.maximise)


def count_visible(number: int, in_flight: int) -> int:
    """How many trials, the first ones, trial ``number`` may see and has to wait for.

    With ``in_flight`` trials of a study at once, a trial may begin while the ``in_flight - 1``
    before it are still under way. What it learns from must not depend on which of these happen to
    be over, so it sees none of them.
    """
    return max(0, number - (in_flight - 1))


def count_stale(history: Sequence[EndedTrial], *, maximise: bool) -> int:
    """Complete and pruned trials since the best inner score; an equal score is no improvement.

    A pruned trial counts: it was given up because it did not promise to be better. A failed one
    does not: it broke, and says nothing of the scores that are still to be had. Before the first
    complete trial there is nothing to improve on, so none counts.
    """
    best: float | None = None
    count = 0
    for trial in history:
        value = trial.value if trial.value is None or maximise else -trial.value
        if trial.state == "complete" and value is not None and (best is None or value > best):
            best, count = value, 0
        elif trial.state != "failed" and best is not None:
            count += 1
    return count


def history_of(study: optuna.Study) -> list[EndedTrial]:
    """The ended trials of a study, in order of their number."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return [
        EndedTrial(
            t.state.name.lower().replace("fail", "failed"),
            t.value if t.state.name == "COMPLETE" else None,
        )
        for t in trials
    ]


def limit_of(config: StudyConfig, study: optuna.Study) -> SearchLimit:
    """The limit of one study of a run."""
    maximise = study.direction == StudyDirection.MAXIMIZE
    return SearchLimit(config.trials, config.patience, maximise, config.in_flight)
