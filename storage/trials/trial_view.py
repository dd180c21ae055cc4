"""Storage of one running trial: it holds earlier trials, and no other trial can read it."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class TrialView(InMemoryStorage):
    """Study in memory that holds only the trials ``seen`` and the running trial ``number``.

    An interrupted trial leaves nothing behind, and the input of the sampler and the pruner does
    not depend on which other trials are running.

    Args:
        name: name of the study; Hyperband derives its brackets from name and number.
        direction: direction of the study.
        seen: ended trials, in order of their number.
        number: number of the next trial, at least ``len(seen)``.
    """

    def __init__(
        self, name: str, direction: StudyDirection, seen: Sequence[FrozenTrial], number: int
    ) -> None:
        super().__init__()
        self._seen = list(seen)
        self._number = number
        study = self.create_new_study([direction], name)
        for _ in range(number):  # Optuna counts trials: blank ones before it set its number
            self.create_new_trial(study)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials ``seen``, and the running trial."""
        own = super().get_all_trials(study_id, deepcopy=False)[self._number :]
        found = [t for t in (*self._seen, *own) if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found
