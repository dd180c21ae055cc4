"""One run, or one a level of each factor: from the data to the report."""

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
from outerfold.reports.results.level_entries import refuse_inert
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_run
from outerfold.storage.trials.journal import open_trials
from outerfold.storage.trials.ownership import become_driver, claim_run
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import Execution, StudyConfig
from outerfold.study.driver.driver import carry_out_run, measure, open_studies, schedule_of
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
    """One run, or one a level of each factor; returns the exit code."""
    data = read_source(source, config)
    levels = {"level": config.level, "aggregate": config.aggregate}
    refuse_inert(levels, data.classes, data.patients.tolist(), sides=len(data.sides) > 0)
    path = (how.run or default_run(config, data.name)).resolve()
    encoders = build_encoders(config)
    study = partial(
        _study,
        data=data,
        encoders=encoders,
        workers=workers,
        how=how,
        console=console,
        started=started,
    )
    if not factors:
        return study(config, path)
    from outerfold.study.driver.ablation import ablate  # with all that draws

    root = path if how.run else path.with_name(f"{path.name}-ablation")
    return ablate(factors, config, data, root, study, console)


def _study(
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
    """One run in one directory, from the audit to the report; returns the exit code."""
    folder = RunFolder(path)
    with lock_run(folder.path):
        device = workers.own
        config, why = resolve_batch_size(config, folder, encoders, images=len(data), device=device)
        if why:
            console.print(f"- {why}")
        prepared = begin_or_resume(folder, config, data, cache_folder())
        _log_to(folder)
        _say_assumptions(console, prepared)
        try:
            failures = _work(prepared, encoders, workers, how, console, started)
        except KeyboardInterrupt:
            _say_resume(console, folder)
            return EXIT_INTERRUPTED
        return _write_and_tell(prepared, console, failures)


def _work(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    console: Console,
    started: float,
) -> dict[str, str]:
    devices = workers.devices
    # A bad --storage is refused before the long part.
    claim_run(
        prepared.folder, open_trials(prepared.folder, how.storage or None), how.storage or None
    )
    repair(prepared.folder, lambda text: console.print(text), how.storage or None)
    for kept in check_disk_space(prepared, encoders, cache=cache_folder(), device=workers.own):
        console.print(f"- {kept}", soft_wrap=True)
    embeddings = _represent(prepared, encoders, workers.own, None if how.quiet else console)
    _say_warnings(console, audit_run_embeddings(prepared, embeddings, cache_folder()))
    context = WorkerContext(
        prepared.folder.path,
        embeddings,
        how.storage or None,
        become_driver(prepared.folder),
        encoded_on=workers.own.split(":")[0],
    )
    maximise = METRICS[prepared.config.metric].direction == "maximize"
    trials = prepared.config.trials
    expected, planned = 0.0, time.monotonic()
    try:
        cost = _plan(prepared, context, workers, console)
        expected = cost.seconds(prepared.config, len(devices)) if cost else 0.0
        planned = time.monotonic()
        deadline = _deadline(prepared, how, cost, started, len(devices))
        with StudyProgress(console, trials=trials, quiet=how.quiet, maximise=maximise) as progress:
            return carry_out_run(prepared, context, workers.take, progress, deadline)
    except WorkerLost as error:
        return {"workers": f"died again and again; {error}"}
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


def _represent(
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


def _plan(
    prepared: PreparedRun, context: WorkerContext, workers: EngineStarter, console: Console
) -> Cost | None:
    schedule = schedule_of(prepared, open_studies(prepared, context))
    if schedule.finished:
        return None
    fold = prepared.studies[-1]
    measured = measure(context, fold.name, workers.waiting(), time.monotonic)
    share = mean_rows(prepared.studies) / len(fold.train)
    cost = Cost(schedule.left, schedule.ends, *measured, rows_share=share)
    console.print(
        describe_plan(prepared.config, prepared.data, cost, workers.devices, datetime.now())
    )
    console.print(f"watch it: outerfold dashboard {shlex.quote(str(prepared.folder.path))}")
    return cost


def _deadline(
    prepared: PreparedRun, how: Execution, cost: Cost | None, started: float, workers: int
) -> Deadline | None:
    if not how.max_time or cost is None:
        return None
    return Deadline(
        at=started + parse_seconds(how.max_time, option="max-time"),
        workers=workers,
        networks=prepared.config.networks,
        trial_seconds=cost.epoch_seconds * complete_epochs(prepared.config),
        report_seconds=REPORT_SECONDS,
        clock=time.monotonic,
    )


def _say_assumptions(console: Console, prepared: PreparedRun) -> None:
    for text in prepared.data.assumptions:
        console.print(f"- {text}")
    _say_warnings(console, prepared.folder.read_audit())


def _say_warnings(console: Console, texts: Iterable[str]) -> None:
    for text in texts:
        console.print(f"- [yellow]warning:[/yellow] {text}")


def _say_resume(console: Console, folder: RunFolder) -> None:
    command = shlex.join(["python", *command_line()])
    console.print(
        f"interrupted; finished trials are kept in {folder.path}.\nTo go on: {command}",
        soft_wrap=True,
    )


def _write_and_tell(prepared: PreparedRun, console: Console, failures: dict[str, str]) -> int:
    # What draws and writes is loaded only now: the first trial need not wait for it.
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
