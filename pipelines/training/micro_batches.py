"""What is done when a batch does not fit in memory: smaller parts, whose gradients are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

LEAST = 4
"""Rows of the smallest micro-batch; batch normalisation says little of fewer."""

WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class Moment(NamedTuple):
    """A step of training; moments are in the order in which they are trained."""

    epoch: int
    fold: int
    step: int


class Change(NamedTuple):
    """From a moment on batches are trained in parts of at most ``rows``."""

    epoch: int
    fold: int
    step: int
    rows: int

    @property
    def since(self) -> Moment:
        """When it was made."""
        return Moment(self.epoch, self.fold, self.step)


@dataclass(eq=False)
class MicroBatches:
    """The size of micro-batches over a training, as memory has made it.

    Given the ``changes`` of an earlier training, one of the same rows and seed takes the same
    parts at the same steps, and so gives the same model.
    """

    changes: list[Change] = field(default_factory=list)

    @classmethod
    def again(cls, changes: Sequence[Sequence[int]]) -> MicroBatches:
        """From ``changes`` as a trial keeps them."""
        return cls([Change(*map(int, change)) for change in changes])

    def parts(self, moment: Moment, rows: int) -> int:
        """How many parts a batch of ``rows`` is trained in."""
        return -(-rows // min(rows, self._limit(moment, rows)))

    def halve(self, moment: Moment, rows: int) -> bool:
        """Halve what did not fit at ``moment``; False where the parts are as small as may be."""
        size = min(rows, self._limit(moment, rows)) // 2
        if size < LEAST:
            return False
        self.changes.append(Change(*moment, size))
        return True

    @property
    def smallest(self) -> int | None:
        """Rows of the smallest micro-batch; None where every batch was trained whole."""
        return min((change.rows for change in self.changes), default=None)

    def _limit(self, moment: Moment, rows: int) -> int:
        past = [change.rows for change in self.changes if change.since <= moment]
        return min(past, default=rows)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


def release() -> None:
    """Give freed blocks back to the GPU, so that smaller ones find room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
