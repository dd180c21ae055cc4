"""Plan of a run for the terminal: the work to do and its expected duration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.table import Table

from outerfold.objectives.pruning import FIRST_RUNG_SHARE
from outerfold.storage.cores import CORE_SECONDS
from outerfold.storage.records import Dataset, OuterFold
from outerfold.study.config.record import ALL, ENSEMBLE, FOLDS, StudyConfig
from outerfold.study.config.search_space import build_ranges, build_views

EPOCH_SHARE = {"none": 1.0, "median": 0.9, "hyperband": 0.55, "paired": 0.4}
"""Share of all epochs that a search of 24 trials trained, by pruner, without the effect of epoch
patience. Paired pruning: 9 trials of whole networks (``benchmarks/search/published_curves.md``)."""

BEST_EPOCH = 10
"""Typical epoch of the best inner score: with a patience of 20 epochs of 100, the complete trials
of two searches (165 trials of two data sets) ended after 28 and 32 epochs on average."""

STACKED, REFIT = 0.8, 0.3
"""Duration of an epoch of one network, in epochs of all inner folds: a network that trains together
with others in one stack (0.7 to 1.1, by batch size), and a network of the refit on all training
rows (0.26 to 0.30)."""

SCORED = 0.5
"""Duration of a study's end besides training, in epochs of all inner folds: its networks score the
test rows twice (less than 0.1 s where an epoch takes 0.12 s)."""

TRIAL_SECONDS = 0.025
"""Seconds of a trial besides its epochs: suggestion, journal, preparation. This and the two that
follow are work in Python, so they grow with the time of a core (``time_core``)."""

OPEN_SECONDS = 0.5
"""Seconds until the workers have opened the first studies. They have started before the plan, for
which one of them measured an epoch."""

REPORT_SECONDS = 6.7
"""Seconds for figures, tables and documents of a finished run, with the import of packages: 6.3 to
7.4 in eleven runs of the demo."""


@dataclass(frozen=True)
class Cost:
    """Work that is left in a run, and measured durations to estimate its time.

    Attributes:
        trials: number of trials left in all studies.
        ends: number of studies that must still be refitted and scored.
        epoch_seconds: measured duration of one epoch of all inner folds together.
        rows_share: mean number of training rows of a study, divided by that of the measured study.
        defaults: number of default configurations that are refitted and scored beside the studies'
            own; those that a search will choose are counted too.
        default_share: duration of an epoch of the default configuration over ``epoch_seconds``.
        firsts: number of studies whose first trial, that of the default configuration, is left; it
            is never pruned.
        encoding_seconds: expected duration of the encoding that is left.
        core_seconds: measured duration of a fixed piece of work in Python, see ``time_core``.
    """

    trials: int
    ends: int
    epoch_seconds: float
    rows_share: float = 1.0
    defaults: int = 0
    default_share: float = 1.0
    firsts: int = 0
    encoding_seconds: float = 0.0
    core_seconds: float = CORE_SECONDS

    @property
    def report_seconds(self) -> float:
        """Expected duration of the report."""
        return REPORT_SECONDS * self.core_seconds / CORE_SECONDS

    def parts(self, config: StudyConfig, workers: int) -> dict[str, float]:
        """Expected seconds of each part of the run: ``encoding, search, ends, report``."""
        epoch = self.epoch_seconds * self.rows_share
        slow = self.core_seconds / CORE_SECONDS
        trial = epoch * config.epochs * epoch_share(config) + slow * TRIAL_SECONDS
        saved = epoch * (1 - self.default_share) * complete_epochs(config)
        end = epoch * config.networks * end_epochs(config)
        at_once = min(workers, self.ends * config.in_flight)
        return {
            "encoding": self.encoding_seconds,
            "search": slow * OPEN_SECONDS + (self.trials * trial - self.firsts * saved) / at_once,
            "ends": (self.ends + self.defaults) * end / at_once,
            "report": self.report_seconds,
        }

    def seconds(self, config: StudyConfig, workers: int) -> float:
        """Expected duration of the search and the ends of its studies, in seconds."""
        parts = self.parts(config, workers)
        return parts["search"] + parts["ends"]


def mean_rows(studies: Sequence[OuterFold]) -> float:
    """Mean number of training rows of the studies; a study's epochs take time in proportion."""
    return sum(len(fold.train) for fold in studies) / len(studies)


def complete_epochs(config: StudyConfig) -> int:
    """Expected number of epochs of a complete trial, which patience may end early."""
    return min(config.epochs, config.patience_epochs + BEST_EPOCH)


def end_epochs(config: StudyConfig) -> float:
    """Duration of a study's end for one network, in epochs of all inner folds.

    At the end of a study the chosen trial is run again, if it was not recorded. Then it is trained
    to its best epoch on the second division of the training rows, or refitted on all of them.
    """
    again = SCORED if config.records_trials else STACKED * complete_epochs(config)
    return again + _last_training(config) * min(config.epochs, BEST_EPOCH)


def end_trials(config: StudyConfig) -> float:
    """Most that a study's end takes for one network, in complete trials.

    The chosen trial is run again, if it was not recorded. Then it is trained once more to its best
    epoch, which may be its last, or refitted.
    """
    again = 0.0 if config.records_trials else 1.2
    return again + _last_training(config)


def _last_training(config: StudyConfig) -> float:
    """Duration of an epoch of an end's last training, in epochs of all inner folds."""
    return 1.0 if config.final == FOLDS else REFIT


def epoch_share(config: StudyConfig) -> float:
    """Share of all epochs (trials times epochs) that a search is expected to train."""
    if config.pruner == "halving":
        share = _halving_share(config.trials, config.epochs, complete_epochs(config))
        return min(share, complete_epochs(config) / config.epochs)
    return EPOCH_SHARE[config.pruner] * complete_epochs(config) / config.epochs


def _halving_share(trials: int, epochs: int, length: int) -> float:
    """Share of all epochs that successive halving trains if the scores are in random order.

    Later trials score better than earlier ones, and the first one, the default configuration, is a
    good one already; together these hardly matter (factor 0.8 to 1.0 in searches of 6, 10 and 60
    trials).

    The k-th trial that reaches a rung goes on if it is among the best ``max(1, k // 3)`` of these
    k. A trial that is never pruned ends after ``length`` epochs.
    """
    # ``reached`` is the expected number of trials at a rung. It may be a fraction: then the last
    # trial reaches the rung with the probability ``reached - whole``.
    reached, rung, trained, before = float(trials), max(1, epochs // FIRST_RUNG_SHARE), 0.0, 0
    while rung < length:
        trained += reached * (rung - before)
        whole = int(reached)
        passed = sum(max(1, k // 3) / k for k in range(1, whole + 1))
        reached = passed + (reached - whole) * max(1, (whole + 1) // 3) / (whole + 1)
        rung, before = 3 * rung, rung
    return (trained + reached * (length - before)) / (trials * epochs)


# Longer than 30 lines: one literal: the rows of the plan.
def describe_plan(
    config: StudyConfig, data: Dataset, cost: Cost, devices: Sequence[str], now: datetime
) -> Table:
    """Plan as a table of two columns for the terminal.

    Args:
        config: options of the run.
        data: rows of the run.
        cost: work that is left, with measured durations.
        devices: device of each worker.
        now: present time.
    """
    nested = config.protocol == "nested"
    studies = config.outer_folds * config.repeats + (config.final != ENSEMBLE) if nested else 1
    noun = "studies" if nested else "study"
    inner = config.inner_folds if nested else config.outer_folds
    fits = studies * config.trials * inner + studies
    parts = cost.parts(config, len(devices))
    seconds = sum(parts.values())
    end = now + timedelta(seconds=seconds)
    device_counts = ", ".join(f"{count} x {name}" for name, count in Counter(devices).items())
    repeats = f", {config.repeats} repeats" if config.repeats > 1 else ""
    most = "at most " if config.patience else ""
    rows = {
        "task": f"{config.task}, classes {', '.join(data.classes)}",
        "data": f"{data.name}: {len(data)} images of {len(set(data.patients.tolist()))} patients",
        "protocol": f"{config.outer_folds} outer x {config.inner_folds} inner folds{repeats}, "
        f"each patient on one side of a split, search for the best {config.metric}"
        if nested
        else f"NOT NESTED: {config.outer_folds} folds both choose and score; the result is biased",
        "encoder": f"{' or '.join(config.encoders)}, {_describe_networks(config)}",
        "views": _describe_views(config, data),
        "work": f"{studies} {noun} of {config.trials} trials, at most {fits:,} fits "
        f"of up to {config.epochs} epochs; {most}{cost.trials} trials are left",
        "cost": f"an epoch of {inner} folds together takes {cost.epoch_seconds:.2f} s"
        f"{_default(cost)}; pruner: {config.pruner}",
        "devices": device_counts,
        "expected": f"{format_duration(seconds)}, until about {end:%a %H:%M}: "
        + ", ".join(f"{name} {format_duration(part)}" for name, part in parts.items()),
    }
    table = Table(title="Plan", show_header=False, title_justify="left")
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _default(cost: Cost) -> str:
    if cost.default_share == 1:
        return ""
    return f", of the default configuration {cost.default_share * cost.epoch_seconds:.2f} s"


def _describe_views(config: StudyConfig, data: Dataset) -> str:
    views = len(build_views(config, build_ranges(config, data)).numbers)
    if config.trainable_blocks == ALL:
        return "each image is augmented anew each time it is drawn"
    if views == 1:
        return "no image is augmented"
    count = len(config.encoders)
    by = f", by each of {count} encoders" if count > 1 else ""
    return f"{views} an image, {views - 1} of them augmented; {len(data) * views:,} encoded{by}"


def _describe_networks(config: StudyConfig) -> str:
    blocks = config.trainable_blocks
    if not blocks:
        return "frozen (trainable blocks: 0)"
    what = "trained as a whole" if blocks == ALL else "its last blocks trained"
    each = "each inner fold" if config.final == FOLDS else "the refit"
    networks = f"{config.networks} network{'s' if config.networks > 1 else ''} for {each}"
    return f"{what} (trainable blocks: {blocks}); {networks}"


def format_duration(seconds: float) -> str:
    """Duration for people, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
