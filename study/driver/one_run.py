"""Steps of the command `run`: one run, or one for each level of a factor, from data to report."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from outerfold.objectives.metrics import METRICS
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.rows.training_rows import Sources
from outerfold.reports.results.level_entries import refuse_without_effect
from outerfold.storage.records import FINAL, DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished, read_run
from outerfold.storage.trials.journal import open_trials
from outerfold.storage.trials.ownership import become_driver, claim_run
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import Execution, StudyConfig
from outerfold.study.config.search_space import build_ranges, default_of
from outerfold.study.driver.driver import build_schedule, carry_out_run, measure, open_studies
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.local import EngineStarter, WorkerLost
from outerfold.study.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from outerfold.study.schedule.deadline import Deadline
from outerfold.study.setup.batch_size import resolve_batch_size
from outerfold.study.setup.data_source import Source
from outerfold.study.setup.lock import lock_run
from outerfold.study.setup.plan import (
    REPORT_SECONDS,
    Cost,
    complete_epochs,
    describe_plan,
    mean_rows,
)
from outerfold.study.setup.provenance import command_line, write_provenance
from outerfold.study.setup.represent import (
    audit_run_embeddings,
    build_encoders,
    check_disk_space,
    represent,
)
from outerfold.study.setup.run_directory import (
    PreparedRun,
    begin_or_resume,
    default_run,
    read_source,
    repair,
)
from outerfold.study.worker.session import WorkerContext


def carry_out_command(
    config: StudyConfig,
    source: Source,
    factors: Sequence[str],
    workers: EngineStarter,
    how: Execution,
    console: Console,
    started: float,
) -> int:
    """Carry out one run, or one for each level of each factor; return the exit code.

    Args:
        config: options that determine the results.
        source: source of the data.
        factors: factors of an ablation; empty for a single run.
        workers: makes the engine.
        how: options of how the run is carried out.
        console: terminal.
        started: time at which the command started, by ``time.monotonic``.

    Raises:
        DataError: the data or options break a rule.
    """
    data = read_source(source, config)
    levels = {"level": config.level, "aggregate": config.aggregate}
    refuse_without_effect(levels, data.classes, data.patients.tolist(), sides=len(data.sides) > 0)
    path = (how.run or default_run(config, data.name)).resolve()
    encoders = build_encoders(config)
    study = partial(
        _carry_out_one,
        data=data,
        encoders=encoders,
        workers=workers,
        how=how,
        console=console,
        started=started,
    )
    if not factors:
        return study(config, path)
    from outerfold.study.driver.ablation import ablate  # it imports the plotting packages

    root = path if how.run else path.with_name(f"{path.name}-ablation")
    return ablate(factors, config, data, root, study, console)


def _carry_out_one(
    config: StudyConfig,
    path: Path,
    *,
    data: Dataset,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    console: Console,
    started: float,
) -> int:
    """Carry out one run in one directory, from the audit to the report; return the exit code."""
    folder = RunFolder(path)
    with lock_run(folder.path):
        device = workers.own
        config, note = resolve_batch_size(config, folder, encoders, images=len(data), device=device)
        if note:
            console.print(f"- {note}")
        prepared = begin_or_resume(folder, config, data, cache_folder())
        _log_to(folder)
        _print_assumptions(console, prepared)
        try:
            failures = _run_studies(prepared, encoders, workers, how, console, started)
        except KeyboardInterrupt:
            _print_resume_command(console, folder)
            return EXIT_INTERRUPTED
        return _report_run(prepared, console, failures)


# Longer than 30 lines: times and provenance are kept however the search ends.
def _run_studies(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    console: Console,
    started: float,
) -> dict[str, str]:
    context = _prepare_workers(prepared, encoders, workers, how, console)
    devices, trials = workers.devices, prepared.config.trials
    maximise = METRICS[prepared.config.metric].direction == "maximize"
    expected, planned = 0.0, time.monotonic()
    try:
        cost = _print_plan(prepared, context, workers, console)
        expected = cost.seconds(prepared.config, len(devices)) if cost else 0.0
        planned = time.monotonic()
        deadline = _make_deadline(prepared, how, cost, started, len(devices))
        with StudyProgress(console, trials=trials, quiet=how.quiet, maximise=maximise) as progress:
            return carry_out_run(prepared, context, workers.take, progress, deadline)
    except WorkerLost as error:
        return {"workers": f"died repeatedly during the same job; {error}"}
    finally:
        write_provenance(
            prepared.folder,
            devices=devices,
            command=command_line(),
            timing={
                "wall_seconds": time.monotonic() - started,
                "expected_seconds": expected,
                "search_seconds": time.monotonic() - planned,
            },
        )


def _prepare_workers(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    console: Console,
) -> WorkerContext:
    """Claim the trials, embed the images, and return what workers need of the run."""
    # A wrong --storage is refused here, before the images are embedded.
    claim_run(
        prepared.folder, open_trials(prepared.folder, how.storage or None), how.storage or None
    )
    repair(prepared.folder, lambda text: console.print(text), how.storage or None)
    for kept in check_disk_space(prepared, encoders, cache=cache_folder(), device=workers.own):
        console.print(f"- {kept}", soft_wrap=True)
    embeddings = _embed_images(prepared, encoders, workers.own, None if how.quiet else console)
    _print_warnings(console, audit_run_embeddings(prepared, embeddings, cache_folder()))
    return WorkerContext(
        prepared.folder.path,
        embeddings,
        how.storage or None,
        become_driver(prepared.folder),
        encoded_on=workers.own.split(":")[0],
    )


def _embed_images(
    prepared: PreparedRun, encoders: Mapping[str, Encoder], device: str, console: Console | None
) -> Sources:
    columns = (
        TextColumn("reading images"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True, disable=console is None) as bar:
        task = bar.add_task("", total=None)
        return represent(
            prepared,
            encoders,
            cache=cache_folder().absolute(),
            device=device,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _print_plan(
    prepared: PreparedRun, context: WorkerContext, workers: EngineStarter, console: Console
) -> Cost | None:
    """Measure an epoch and print the plan; return the cost, or None if no work is left."""
    schedule = build_schedule(prepared, open_studies(prepared, context))
    if schedule.finished:
        return None
    fold = prepared.studies[-1]
    measured = measure(context, fold.name, workers.waiting(), time.monotonic)
    share = mean_rows(prepared.studies) / len(fold.train)
    defaults = _count_defaults(prepared)
    cost = Cost(schedule.left, schedule.ends, *measured, rows_share=share, defaults=defaults)
    console.print(
        describe_plan(prepared.config, prepared.data, cost, workers.devices, datetime.now())
    )
    console.print(f"to watch it: outerfold dashboard {shlex.quote(str(prepared.folder.path))}")
    return cost


def _count_defaults(prepared: PreparedRun) -> int:
    """Number of outer folds left that may have to refit the default configuration."""
    config = prepared.config
    if not default_of(config, build_ranges(config, prepared.data)).params:
        return 0
    outer = [fold.name for fold in prepared.studies if fold.name != FINAL]
    return sum(not is_finished(prepared.folder, name) for name in outer)


def _make_deadline(
    prepared: PreparedRun, how: Execution, cost: Cost | None, started: float, workers: int
) -> Deadline | None:
    if not how.max_time or cost is None:
        return None
    return Deadline(
        at=started + parse_seconds(how.max_time, option="max-time"),
        workers=workers,
        networks=prepared.config.networks * (2 if cost.defaults else 1),
        trial_seconds=cost.epoch_seconds * complete_epochs(prepared.config),
        report_seconds=REPORT_SECONDS,
        clock=time.monotonic,
    )


def _print_assumptions(console: Console, prepared: PreparedRun) -> None:
    for text in prepared.data.assumptions:
        console.print(f"- {text}")
    _print_warnings(console, prepared.folder.read_audit())


def _print_warnings(console: Console, texts: Iterable[str]) -> None:
    for text in texts:
        console.print(f"- [yellow]warning:[/yellow] {text}")


def _print_resume_command(console: Console, folder: RunFolder) -> None:
    command = shlex.join(["python", *command_line()])
    console.print(
        f"interrupted; finished trials are kept in {folder.path}.\nTo continue: {command}",
        soft_wrap=True,
    )


def _report_run(prepared: PreparedRun, console: Console, failures: dict[str, str]) -> int:
    """Write the report, print the results and failures; return the exit code."""
    # These imports take time; made only here, they do not delay the first trial.
    from outerfold.reports.sections.model_card import model_card
    from outerfold.reports.sections.terminal import closing_table
    from outerfold.reports.write import write_report

    try:
        finished_run = read_run(prepared.folder)
    except DataError:
        finished_run = None
    if finished_run is not None:
        if finished_run.ships:
            prepared.folder.write_card(model_card(finished_run))
        write_report(finished_run, prepared.folder.report)
        console.print(closing_table(finished_run))
        console.print(f"report: {prepared.folder.report / 'report.html'}", soft_wrap=True)
    for study, reason in failures.items():
        console.print(f"[red]failed[/red] {study}: {reason}", soft_wrap=True)
    return EXIT_FAILED if failures else 0


def _log_to(folder: RunFolder) -> None:
    handler = logging.FileHandler(folder.path / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("outerfold")
    log.setLevel(logging.INFO)
    log.handlers = [handler]
    log.propagate = False
