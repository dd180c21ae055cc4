"""Kinds of errors: what the machine did is tried again, what a configuration did is recorded."""

from __future__ import annotations

import errno
from enum import Enum

from outerfold.storage.errors import DataError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MEMORY = ("out of memory", "can't allocate memory", "alloc_failed")
"""Parts of the messages of PyTorch for memory that ran out, on the GPU or on the CPU."""


class Fault(Enum):
    """What an error is due to, and so what becomes of its job."""

    DATA = "data"
    """The data or options break a rule; the run is refused."""
    DISK_FULL = "disk full"
    """Nothing can be kept any more; the run stops."""
    MACHINE = "machine"
    """The job may succeed another time: it is run again, alone; a second failure is recorded."""
    CONFIGURATION = "configuration"
    """The job would fail each time; its failure is recorded."""


def classify(error: BaseException) -> Fault:
    """Kind of an error.

    Example:
        >>> classify(MemoryError()).value
        'machine'
        >>> classify(ValueError("loss is NaN")).value
        'configuration'
    """
    if isinstance(error, DataError):
        return Fault.DATA
    if isinstance(error, OSError) and error.errno in _FULL:
        return Fault.DISK_FULL
    if isinstance(error, OSError | MemoryError) or _is_memory(error):
        return Fault.MACHINE
    return Fault.CONFIGURATION


def _is_memory(error: BaseException) -> bool:
    """Whether PyTorch ran out of memory; its errors are ``RuntimeError`` or a kind of it."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _NO_MEMORY)
