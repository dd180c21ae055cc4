"""Figures that other processes draw while this one makes the tables of a report."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import current_process

from joblib.externals.loky import ProcessPoolExecutor

from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import render, render_inline, vectors
from outerfold.reports.journal_style import JournalStyle, printed_in, printed_style
from outerfold.reports.results.predictions import Evidence
from outerfold.storage.processes import open_processes
from outerfold.storage.registry import anything_added

MOST = 3
"""Processes beside this one; with more, all figures would be drawn before the tables are made."""
PICTURE, VECTORS = "picture", "vectors"
Drawn = dict[str, bytes]
"""What was made of a figure: file contents by kind."""


def draw(name: str, what: str, evidence: Evidence) -> Drawn:
    """Draw a figure.

    Args:
        name: name of the figure.
        what: ``picture`` for its file and, under ``inline``, its SVG for the page (empty where the
            page holds a picture); ``vectors`` for ``svg`` and ``pdf``.
        evidence: numbers and tables.
    """
    plate = FIGURES[name]
    if what == VECTORS:
        return vectors(plate.draw, evidence, rows=plate.rows)
    if not plate.inline:
        image = render(plate.draw, evidence, kind=plate.kind, rows=plate.rows)
        return {plate.kind: image, "inline": b""}
    image, inside = render_inline(plate.draw, evidence, name=name, kind=plate.kind, rows=plate.rows)
    return {plate.kind: image, "inline": inside.encode()}


class Drawer:
    """Draws figures here or in other processes.

    Args:
        processes: the other processes; None to draw all figures here.
        count: their number.
    """

    def __init__(self, processes: ProcessPoolExecutor | None = None, count: int = 0) -> None:
        self._processes = processes
        # One thread for each of them hands it a figure at a time: what no process has begun can
        # be taken back, and loky, when it is shut down, stumbles over tasks that wait.
        self._threads = ThreadPoolExecutor(count) if count else None
        self._begun: dict[tuple[str, str], Future[Drawn]] = {}

    def begin(self, what: str, names: tuple[str, ...], evidence: Evidence) -> None:
        """Have other processes draw figures, the last one first; here the first one is asked first.

        Args:
            what: see ``draw``.
            names: names of figures, in the order in which they will be asked for.
            evidence: numbers and tables.
        """
        if self._threads is not None:
            for name in reversed(names):
                self._begun[name, what] = self._threads.submit(
                    self._draw_there, name, what, evidence, printed_style()
                )

    def draw(self, what: str, name: str, evidence: Evidence) -> Drawn:
        """The figure, drawn here where no other process has begun it, or where that one failed."""
        begun = self._begun.pop((name, what), None)
        if begun is None or begun.cancel() or begun.exception() is not None:
            return draw(name, what, evidence)
        return begun.result()

    def end(self) -> None:
        """End the other processes, whatever they are doing."""
        if self._threads is not None and self._processes is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._processes.shutdown(wait=True, kill_workers=True)

    def _draw_there(self, name: str, what: str, evidence: Evidence, style: JournalStyle) -> Drawn:
        assert self._processes is not None
        drawn: Drawn = self._processes.submit(_draw_in_style, name, what, evidence, style).result()
        return drawn


@contextmanager
def drawer(cores: int) -> Iterator[Drawer]:
    """A drawer with other processes, at most one for each further core; they end with the block.

    All figures are drawn here on one core, in a daemonic process, which may start no other, and
    beside plugins, which other processes have not loaded.
    """
    count = min(MOST, cores - 1)
    if count == 0 or current_process().daemon or anything_added():
        yield Drawer()
        return
    processes = open_processes(count)
    processes.submit(printed_style)  # they load the packages meanwhile
    figures = Drawer(processes, count)
    try:
        yield figures
    finally:
        figures.end()


def _draw_in_style(name: str, what: str, evidence: Evidence, style: JournalStyle) -> Drawn:
    with printed_in(style):
        return draw(name, what, evidence)
