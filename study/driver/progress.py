"""Live progress: one bar for each study on a terminal, a line at times elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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

from outerfold.objectives.choice import Candidate, choose_trial
from outerfold.study.worker.jobs import Outcome

LINES_A_STUDY = 4
"""Number of progress lines for each study where the output is no terminal."""


class StudyProgress:
    """Numbers of ended, pruned and failed trials, and the best inner score, of every study.

    The inner score guides the search and is no measure of performance; so it is shown as ``inner``.

    Args:
        console: terminal or other output.
        trials: number of trials of each study.
        quiet: whether to print nothing.
        maximise: whether a higher inner score is better.

    Attributes:
        busy: seconds that workers spent on trials (``search``) and on ends of studies (``ends``).
    """

    def __init__(self, console: Console, *, trials: int, quiet: bool, maximise: bool) -> None:
        self.console, self.trials, self.quiet = console, trials, quiet
        self.busy = {"search": 0.0, "ends": 0.0}
        self._maximise = maximise
        self._counts: dict[str, Counter[str]] = {}
        self._complete: dict[str, list[Candidate]] = {}
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

    def add(self, study: str, counts: dict[str, int], complete: Sequence[Candidate]) -> None:
        """Add a study with the trials that it has at the start of the command.

        Args:
            study: name of the study.
            counts: numbers of its ended trials by state.
            complete: its complete trials.
        """
        self._counts[study] = Counter(counts)
        self._complete[study] = list(complete)
        done = sum(counts.values())
        self._tasks[study] = self._bars.add_task(study, total=self.trials, completed=done, note="")
        self._draw(study)

    def update(self, outcome: Outcome) -> None:
        """Show the outcome of an ended job."""
        study = outcome.study
        self.busy["ends" if outcome.number is None else "search"] += outcome.seconds
        if outcome.number is None:
            done = self._counts[study].total()
            early = f" after {done} of {self.trials} trials" if done < self.trials else ""
            reason = f", {outcome.reason}" if outcome.reason else ""
            self._print_line(f"{study}: {outcome.state}{early}{reason}")
            note = self._summary(study) + f", {outcome.state}"
            self._bars.update(self._tasks[study], note=note)
            return
        self._counts[study][outcome.state] += 1
        if outcome.value is not None:
            self._complete[study].append(Candidate(outcome.number, outcome.value))
        self._draw(study)
        done = self._counts[study].total()
        if done % max(1, self.trials // LINES_A_STUDY) == 0:
            self._print_line(f"{study}: {done}/{self.trials} trials, {self._summary(study)}")

    def tell(self, text: str) -> None:
        """Print a sentence above the bars."""
        if not self.quiet:
            self.console.print(text)

    def _draw(self, study: str) -> None:
        done = self._counts[study].total()
        self._bars.update(self._tasks[study], completed=done, note=self._summary(study))

    def _summary(self, study: str) -> str:
        counts = self._counts[study]
        best = choose_trial(self._complete[study], maximise=self._maximise)
        inner = "-" if best is None else f"{best.value:.3f}"
        return f"{counts['pruned']} pruned, {counts['failed']} failed, best inner {inner}"

    def _print_line(self, text: str) -> None:
        if not self.quiet and not self.console.is_terminal:
            self.console.print(text)
