"""Live progress: a bar a study on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from outerfold.study.worker.jobs import Outcome

LINES_A_STUDY = 4
"""Reports a study where there is no terminal to draw bars on."""


class StudyProgress:
    """Trials done, pruned and failed, and the best inner score, of every study.

    The inner score steers the search and is no performance figure; the bar says ``inner``.
    """

    def __init__(self, console: Console, *, trials: int, quiet: bool, maximise: bool) -> None:
        self.console, self.trials, self.quiet = console, trials, quiet
        self._better = max if maximise else min
        self._counts: dict[str, Counter[str]] = {}
        self._best: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> StudyProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def add(self, study: str, counts: dict[str, int], best: float | None) -> None:
        """A study as a run finds it."""
        self._counts[study] = Counter(counts)
        if best is not None:
            self._best[study] = best
        done = sum(counts.values())
        self._tasks[study] = self._bars.add_task(study, total=self.trials, completed=done, note="")
        self._draw(study)

    def update(self, outcome: Outcome) -> None:
        """A job has ended."""
        study = outcome.study
        if outcome.number is None:
            done = self._counts[study].total()
            early = f" after {done} of {self.trials} trials" if done < self.trials else ""
            why = f", {outcome.reason}" if outcome.reason else ""
            self._say(f"{study}: {outcome.state}{early}{why}")
            self._bars.update(self._tasks[study], note=self._note(study) + f", {outcome.state}")
            return
        self._counts[study][outcome.state] += 1
        if outcome.value is not None:
            best = self._best.get(study, outcome.value)
            self._best[study] = self._better(best, outcome.value)
        self._draw(study)
        done = self._counts[study].total()
        if done % max(1, self.trials // LINES_A_STUDY) == 0:
            self._say(f"{study}: {done}/{self.trials} trials, {self._note(study)}")

    def tell(self, text: str) -> None:
        """A sentence above the bars."""
        if not self.quiet:
            self.console.print(text)

    def _draw(self, study: str) -> None:
        done = self._counts[study].total()
        self._bars.update(self._tasks[study], completed=done, note=self._note(study))

    def _note(self, study: str) -> str:
        counts = self._counts[study]
        best = self._best.get(study)
        inner = "-" if best is None else f"{best:.3f}"
        return f"{counts['pruned']} pruned, {counts['failed']} failed, best inner {inner}"

    def _say(self, text: str) -> None:
        if not self.quiet and not self.console.is_terminal:
            self.console.print(text)
