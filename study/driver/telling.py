"""Signs of life: what a command is doing, in a terminal and in a plain log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    began, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(SILENT_SECONDS):
            console.print(f"- {what}, for {time.monotonic() - began:.0f} s so far", soft_wrap=True)

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
