"""Rules that end a search: its number of trials, or trials in a row without improvement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from outerfold.objectives.choice import Candidate, choose_trial
from outerfold.study.config.record import StudyConfig


@dataclass(frozen=True)
class EndedTrial:
    """State and score of an ended trial.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        value: inner score of a complete trial, else None.
        seconds: duration; 0 if the trial ended in an earlier call. Only ``--max-time`` uses it.
    """

    state: str
    value: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SearchLimit:
    """Limits that end the search of a study, computed from its own trials alone.

    Attributes:
        trials: largest number of trials of a study.
        patience: trials in a row without a better inner score that end the search; 0 means that
            there is no such limit.
        maximise: whether a higher inner score is better.
        in_flight: number of trials of a study that may run at once, see ``count_visible``.
    """

    trials: int
    patience: int = 0
    maximise: bool = True
    in_flight: int = 1

    def reached(self, history: Sequence[EndedTrial], begun: int | None = None) -> bool:
        """Whether a study must start no more trials.

        Args:
            history: ended trials, in order of their number.
            begun: number of started trials; None means that all started trials have ended.
        """
        count = len(history) if begun is None else begun
        if count >= self.trials:
            return True
        seen = history[: count_visible(count, self.in_flight)]
        return 0 < self.patience <= count_stale(seen, maximise=self.maximise)


def count_visible(number: int, in_flight: int) -> int:
    """Number of first trials that trial ``number`` waits for and uses.

    With ``in_flight`` trials of a study at once, a trial may start while the ``in_flight - 1``
    trials before it are still running. Its suggestion must not depend on which of these have
    ended already, so it uses none of them.
    """
    return max(0, number - (in_flight - 1))


def count_stale(history: Sequence[EndedTrial], *, maximise: bool) -> int:
    """Number of complete and pruned trials since the best inner score.

    An equal score is no improvement. A pruned trial counts, because it was stopped for being no
    better. A failed trial does not count, because its score is unknown. Trials before the first
    complete one do not count either, since there is no score to improve.
    """
    complete = [
        Candidate(number, trial.value)
        for number, trial in enumerate(history)
        if trial.state == "complete" and trial.value is not None
    ]
    best = choose_trial(complete, maximise=maximise)
    if best is None:
        return 0
    return sum(trial.state != "failed" for trial in history[best.number + 1 :])


def state_word(trial: FrozenTrial) -> str:
    """State of a trial in lower case; of an ended one ``complete``, ``pruned`` or ``failed``."""
    return trial.state.name.lower().replace("fail", "failed")


def count_trials(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Numbers of trials that are ``complete``, ``pruned`` and ``failed``."""
    states = [state_word(trial) for trial in trials]
    return {name: states.count(name) for name in ("complete", "pruned", "failed")}


def read_history(study: optuna.Study) -> list[EndedTrial]:
    """Ended trials of a study, in order of their number."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return [
        EndedTrial(
            state_word(t),
            t.value if t.state.name == "COMPLETE" else None,
        )
        for t in trials
    ]


def build_limit(config: StudyConfig, study: optuna.Study) -> SearchLimit:
    """Limits of the search of one study of a run."""
    maximise = study.direction == StudyDirection.MAXIMIZE
    return SearchLimit(config.trials, config.patience, maximise, config.in_flight)
