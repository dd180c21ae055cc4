"""Signs of life: what a run is doing, in a terminal, in a plain log and in the run's own log."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SILENT_SECONDS = 4.0
"""Longest time without a sign of life, in a plain log."""


@contextmanager
def telling(console: Console, what: str, *, quiet: bool = False) -> Iterator[None]:
    """Say what is being done, and in a plain log every few seconds that it still is.

    Args:
        console: terminal or other output.
        what: the work in words, such as ``auditing 600 images``.
        quiet: whether to print nothing.
    """
    if quiet:
        yield
        return
    if console.is_terminal:
        with console.status(what):
            yield
        return
    console.print(f"- {what}", soft_wrap=True)
    with _repeating(console, lambda: what):
        yield


@contextmanager
def stepping(
    console: Console, what: str, *, quiet: bool = False
) -> Iterator[Callable[[int, int, str], None]]:
    """Show which of several steps is being done: a bar in a terminal, else a line at times.

    In a plain log a line comes every few seconds, also while one step lasts.

    Args:
        console: terminal or other output.
        what: the work in words, such as ``writing the report``.
        quiet: whether to print nothing.

    Yields:
        Function of (steps done, steps in all, name of the step that begins).
    """
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    bars, now = not quiet and console.is_terminal, ""
    with Progress(*columns, console=console, transient=True, disable=not bars) as bar:
        task = bar.add_task(what, total=None)

        def step(done: int, total: int, name: str) -> None:
            nonlocal now
            now = f": {name}, {done:,} of {total:,} done"
            bar.update(task, description=f"{what}: {name}", completed=done, total=total)

        if quiet or bars:
            yield step
            return
        console.print(f"- {what}", soft_wrap=True)
        with _repeating(console, lambda: what + now):
            yield step


@contextmanager
def _repeating(console: Console, words: Callable[[], str]) -> Iterator[None]:
    """Print these words and the time so far every few seconds while the block runs."""
    began, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(SILENT_SECONDS):
            so_far = f"for {time.monotonic() - began:.0f} s so far"
            console.print(f"- {words()}, {so_far}", soft_wrap=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def counting(
    console: Console, what: str, *, quiet: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Show how many steps are done: a bar in a terminal, a line every few seconds in a plain log.

    Args:
        console: terminal or other output.
        what: the work in words, such as ``reading images``.
        quiet: whether to print nothing.

    Yields:
        Function of (steps done, steps in all).
    """
    columns = (
        TextColumn(what),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    bars = not quiet and console.is_terminal
    began = told = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not bars) as bar:
        task = bar.add_task("", total=None)

        def step(done: int, total: int) -> None:
            nonlocal told
            bar.update(task, completed=done, total=total)
            now = time.monotonic()
            if quiet or bars or now - told < SILENT_SECONDS or not done:
                return
            told = now
            left = (now - began) * (total - done) / done
            console.print(f"- {what}: {done:,} of {total:,}, {left:.0f} s left", soft_wrap=True)

        yield step


class LogLines(io.TextIOBase):
    """Text output whose lines become records of a logger, at level INFO.

    Args:
        log: the logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._rest = log, ""

    def write(self, text: str) -> int:
        """Log the lines that ``text`` ends; the rest waits for its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.info("%s", line.rstrip())
        return len(text)


@contextmanager
def log_to(path: Path, *, alone: bool) -> Iterator[None]:
    """Add the records of the logger ``outerfold`` to a file, from level INFO on.

    Args:
        path: the file.
        alone: whether the records go nowhere else. Otherwise the handlers that are there get the
            records that they would get without the file, and all is afterwards as it was.
    """
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("outerfold")
    before = log.level, log.handlers, log.propagate
    log.handlers = [file] if alone else [file, _Forward(log)]
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.level, log.handlers, log.propagate = before
        log.setLevel(before[0])  # it clears what the logger remembers of its level
        file.close()


class _Forward(logging.Handler):
    """Handler that gives records to the handlers of a logger as it was when this was made."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(log.getEffectiveLevel())
        self._before = logging.Logger(log.name)
        self._before.handlers, self._before.propagate = log.handlers, log.propagate
        self._before.parent = log.parent

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler.emit``."""
        self._before.callHandlers(record)
