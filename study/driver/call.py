"""Who asked for a run: a command line, which owns its process, or a Python program."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True)
class Call:
    """Where a run tells what it does, and what its caller typed.

    Attributes:
        console: terminal, or the lines of a log.
        words: what was called, in words, for the provenance.
        again: what continues the run, in one line.
        started: time at which the call began, by ``time.monotonic``.
        owns_process: whether signals and logging of this process are the run's own, as on the
            command line. Otherwise they stay as they are, and Ctrl-C and failures are raised.
    """

    console: Console
    words: tuple[str, ...]
    again: str
    started: float
    owns_process: bool = True
