"""Figures that other processes draw while this one makes the tables of a report."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import render, render_inline, vectors
from outerfold.reports.journal_style import JournalStyle, printed_in, printed_style
from outerfold.reports.results.predictions import Evidence
from outerfold.storage.processes import Beside

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
        beside: the other processes; None to draw all figures here.
    """

    def __init__(self, beside: Beside | None = None) -> None:
        self._pool = None if beside is None else beside.pool
        # One thread for each of them hands it a figure at a time: what no process has begun can
        # be taken back, and loky, when it is shut down, stumbles over tasks that wait.
        self._threads = None if beside is None else ThreadPoolExecutor(beside.count)
        self._begun: dict[tuple[str, str], Future[Drawn]] = {}

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

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

    def _draw_there(self, name: str, what: str, evidence: Evidence, style: JournalStyle) -> Drawn:
        assert self._pool is not None
        drawn: Drawn = self._pool.submit(_draw_in_style, name, what, evidence, style).result()
        return drawn


def _draw_in_style(name: str, what: str, evidence: Evidence, style: JournalStyle) -> Drawn:
    with printed_in(style):
        return draw(name, what, evidence)
