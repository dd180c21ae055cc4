"""Micro-batches: parts of a batch that does not fit in memory; their gradients are added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

LEAST = 4
"""Rows of the smallest micro-batch; with fewer rows batch normalisation is too noisy."""

CONTEXT = 700 * 2**20
"""Bytes of a process on a GPU besides its tensors: kernels and work space."""
FILLED = 0.8
"""Share of a GPU's free memory that workers side by side may need by the first measurement."""

WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)


class Moment(NamedTuple):
    """Position of a training step; moments sort in the order in which steps are trained."""

    epoch: int
    fold: int
    step: int


class Change(NamedTuple):
    """Change of the micro-batch size: from this step on, parts have at most ``rows`` rows."""

    epoch: int
    fold: int
    step: int
    rows: int

    @property
    def since(self) -> Moment:
        """Position of the first step with this size."""
        return Moment(self.epoch, self.fold, self.step)


@dataclass(eq=False)
class MicroBatches:
    """Size of micro-batches over a training, which falls when memory runs out.

    With the ``changes`` of an earlier training, a training of the same rows and seed uses the same
    parts at the same steps, and so gives the same model.

    Attributes:
        changes: changes of the size, in the order in which they happened.
    """

    changes: list[Change] = field(default_factory=list)

    @classmethod
    def again(cls, changes: Sequence[Sequence[int]]) -> MicroBatches:
        """Rebuild the sizes from ``changes`` as a trial stores them: (epoch, fold, step, rows)."""
        return cls([Change(*map(int, change)) for change in changes])

    def parts(self, moment: Moment, rows: int) -> int:
        """Number of parts in which a batch of ``rows`` is trained at ``moment``."""
        return -(-rows // min(rows, self._limit(moment, rows)))  # rounded up

    def halve(self, moment: Moment, rows: int) -> bool:
        """Halve the parts of a batch of ``rows`` that did not fit in memory at ``moment``.

        Return False, without a change, where the halves would have fewer than ``LEAST`` rows, or
        within ``whole_batches``.
        """
        if _WHOLE.get():
            return False
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


@contextmanager
def whole_batches(*, on: bool) -> Iterator[None]:
    """Let a training fail where memory runs out, instead of taking batches in parts.

    Parts change a model, since batch normalisation sees them. So where several workers share a GPU
    their number is lowered first.

    Args:
        on: False changes nothing.
    """
    token = _WHOLE.set(on)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


def count_beside(device: str) -> int:
    """Number of processes like this one for which a GPU has memory, this one counted; 0 on a CPU.

    The footprint is the largest memory that this process has reserved, and its context.

    Args:
        device: device that trained, such as ``cuda:0``.
    """
    if not device.startswith("cuda"):
        return 0
    own = torch.cuda.memory_reserved(device) + CONTEXT
    free = torch.cuda.mem_get_info(device)[0] + own
    return fit_beside(torch.cuda.max_memory_reserved(device) + CONTEXT, free)


def fit_beside(footprint: int, free: int) -> int:
    """Number of processes of a footprint that fit into the free memory of a GPU; at least 1.

    Args:
        footprint: bytes of one of them.
        free: bytes that they may take together; some stay free, since other trials need more.

    Example:
        >>> fit_beside(4 * 2**30, 24 * 2**30)
        4
    """
    return max(1, int(FILLED * free // footprint))


def release_gpu_memory() -> None:
    """Return freed memory blocks to the GPU, so that smaller blocks fit there."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
