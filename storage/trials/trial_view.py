"""Where one trial is worked on: it sees earlier trials, and is seen by none before its end."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class TrialView(InMemoryStorage):
    """A study in memory as its trial ``number`` may see it: ``seen`` and itself, no other.

    A trial that is cut off leaves nothing behind, and what a sampler and a pruner are told does
    not depend on which other trials happen to be under way.

    Args:
        name: of the study; Hyperband deals its brackets by name and number.
        seen: ended trials, in order of their number.
        number: that the next trial asked for shall have, at least ``len(seen)``.
    """

    def __init__(
        self, name: str, direction: StudyDirection, seen: Sequence[FrozenTrial], number: int
    ) -> None:
        super().__init__()
        self._seen = list(seen)
        self._number = number
        study = self.create_new_study([direction], name)
        for _ in range(number):  # a number is a count, so blanks hold the places of the others
            self.create_new_trial(study)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """What the trial may see, and the trial itself."""
        own = super().get_all_trials(study_id, deepcopy=False)[self._number :]
        found = [t for t in (*self._seen, *own) if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found
