"""Steps of the command `run`: one run, or one for each level of a factor, from data to report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from outerfold.objectives.metrics import METRICS
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.rows.training_rows import Sources
from outerfold.reports.journal_style import with_style
from outerfold.reports.results.level_entries import refuse_without_effect
from outerfold.storage.cores import count_cores
from outerfold.storage.errors import RunFailed
from outerfold.storage.processes import processes_beside
from outerfold.storage.records import FINAL, Dataset, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import NothingFinished, is_finished
from outerfold.storage.trials.journal import open_trials
from outerfold.storage.trials.ownership import become_driver, claim_run
from outerfold.study.config.durations import parse_seconds
from outerfold.study.config.execution import Execution
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges, default_of, describe_ranges
from outerfold.study.driver.call import Call
from outerfold.study.driver.driver import (
    build_schedule,
    carry_out_run,
    measure,
    open_studies,
)
from outerfold.study.driver.extend import find_extended
from outerfold.study.driver.gpu.offer_blocks import offer_blocks
from outerfold.study.driver.gpu.side_by_side import place_beside
from outerfold.study.driver.gpu.train_on import resolve_train_on
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.driver.telling import counting, log_to, telling
from outerfold.study.engines.local import EngineStarter
from outerfold.study.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from outerfold.study.plugins import loaded_plugins
from outerfold.study.schedule.deadline import Deadline
from outerfold.study.schedule.schedule import Schedule
from outerfold.study.setup.batch_size import resolve_batch_size
from outerfold.study.setup.data_source import Source
from outerfold.study.setup.encoder_backend import (
    attach_backend,
    resolve_encoder_backend,
    resolve_encoder_precision,
)
from outerfold.study.setup.lock import lock_run
from outerfold.study.setup.plan import (
    Cost,
    complete_epochs,
    describe_plan,
    end_trials,
    mean_rows,
)
from outerfold.study.setup.provenance import write_devices, write_provenance
from outerfold.study.setup.readable import settle_images
from outerfold.study.setup.represent import (
    audit_run_embeddings,
    build_encoders,
    check_disk_space,
    expect_encoding,
    represent,
    stand_ins,
)
from outerfold.study.setup.run_directory import (
    PreparedRun,
    begin_or_resume,
    default_run,
    mend_folder,
    read_source,
    reopen_damaged,
    repair,
)
from outerfold.study.worker.jobs import Measured
from outerfold.study.worker.session import WorkerContext


def carry_out_command(
    config: StudyConfig,
    source: Source,
    factors: Sequence[str],
    workers: EngineStarter,
    how: Execution,
    call: Call,
) -> tuple[int, Path]:
    """Carry out one run, or one for each level of each factor.

    Args:
        config: options that determine the results.
        source: source of the data.
        factors: factors of an ablation; empty for a single run.
        workers: makes the engine.
        how: options of how the run is carried out.
        call: who asks for it.

    Returns:
        The exit code, and the directory of the run or of all runs of an ablation.

    Raises:
        DataError: the data or options break a rule.
    """
    with telling(call.console, "reading the data", quiet=how.quiet):
        data = read_source(source, config)
    with telling(call.console, f"checking {len(data):,} images", quiet=how.quiet):
        data = settle_images(data, vars(config), cache_folder())
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
        call=call,
    )
    if not factors:
        path = find_extended(path, config, lambda text: _say(call.console, text))
        return study(config, path), path
    from outerfold.study.driver.ablation import ablate  # it imports the plotting packages

    root = path if how.run else path.with_name(f"{path.name}-ablation")
    return ablate(factors, config, data, root, study, call.console), root


def _say(console: Console, text: str) -> None:
    console.print(f"- {text}", soft_wrap=True, markup=False)


def _carry_out_one(
    config: StudyConfig,
    path: Path,
    *,
    data: Dataset,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    call: Call,
) -> int:
    """Carry out one run in one directory, from the audit to the report; return the exit code."""
    folder, console = RunFolder(path), call.console
    with lock_run(folder.path), ExitStack() as logging_to:
        config, encoders = _settle(config, folder, encoders, data, workers, how, console)
        with telling(console, f"checking {len(data):,} images", quiet=how.quiet):
            prepared = begin_or_resume(folder, config, data, cache_folder())
        logging_to.enter_context(log_to(folder.path / "run.log", alone=call.owns_process))
        _print_assumptions(console, prepared)
        try:
            failures = _run_studies(prepared, encoders, workers, how, call)
            with telling(console, "writing the report", quiet=how.quiet):
                run = _write_report(prepared, how.style)
        except KeyboardInterrupt:
            _print_resume_command(call, prepared.folder)
            if not call.owns_process:
                raise  # of a Python program
            return EXIT_INTERRUPTED
        code = _show_results(prepared, run, console, failures)
    _raise_failures(failures, call)
    return code


def _raise_failures(failures: Mapping[str, str], call: Call) -> None:
    """Raise what a command tells by its exit code."""
    if failures and not call.owns_process:
        raise RunFailed("; ".join(f"{study}: {reason}" for study, reason in failures.items()))


def _settle(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    data: Dataset,
    workers: EngineStarter,
    how: Execution,
    console: Console,
) -> tuple[StudyConfig, Mapping[str, Encoder]]:
    """Settle what ``auto`` leaves open, and say it; return options and encoders of the run."""
    device, cache = workers.own, cache_folder()
    with telling(console, "settling how images are encoded and trained on", quiet=how.quiet):
        config, where = resolve_train_on(config, folder, data, encoders, workers)
        config, size = resolve_batch_size(
            config, folder, encoders, images=len(data), device=workers.devices[0]
        )
        config, backend = resolve_encoder_backend(
            config, folder, encoders, cache=cache, device=device
        )
        config, format_ = resolve_encoder_precision(config, folder, encoders, device=device)
    for text in filter(None, (where, size, backend, format_)):
        console.print(f"- {escape(text)}", soft_wrap=True)
    return config, attach_backend(config, encoders, cache)


# Longer than 30 lines: times and provenance are kept however the run ends.
def _run_studies(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    call: Call,
) -> dict[str, str]:
    """Plan, encode and search; return the reasons of failed studies."""
    console, started = call.console, call.started
    config, driver = prepared.config, _claim_trials(prepared, encoders, workers, how, console)
    devices = workers.devices
    maximise = METRICS[config.metric].direction == "maximize"
    progress = StudyProgress(console, trials=config.trials, quiet=how.quiet, maximise=maximise)
    expected: dict[str, float] = {}
    encoding = encoded = 0.0
    begun = time.monotonic()
    try:
        cost = _print_plan(prepared, encoders, workers, how, driver, console)
        devices = workers.devices  # the plan may have settled their number
        expected = cost.parts(config, len(devices)) if cost else {}
        begun = time.monotonic()
        context = _encode(prepared, encoders, workers, how, driver, console)
        encoding, encoded = time.monotonic() - begun, time.monotonic()
        deadline = _make_deadline(prepared, how, cost, started, len(devices))
        with progress:
            return carry_out_run(
                prepared,
                context,
                workers.take,
                progress,
                deadline,
                parse_seconds(how.hung_after, option="hung-after"),
            )
    finally:
        ended = time.monotonic()
        write_provenance(
            prepared.folder,
            devices=devices,
            command=call.words,
            backend=config.encoder_backend,
            precision=config.encoder_precision,
            space=describe_ranges(build_ranges(config, prepared.data)),
            timing={
                "wall_seconds": ended - started,
                "expected_seconds": expected.get("search", 0.0) + expected.get("ends", 0.0),
                "search_seconds": ended - encoded if encoded else 0.0,
                "expected_parts": expected,
                "parts": {
                    "encoding": encoding,
                    **{name: part / len(devices) for name, part in progress.busy.items()},
                },
            },
        )


def _claim_trials(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    console: Console,
) -> str:
    """Claim the trials and refuse what can be refused before any work; return the driver's token.

    A wrong ``--storage`` is refused here, before the images are embedded.
    """

    def say(text: str) -> None:
        console.print(f"- {text}", soft_wrap=True, markup=False)

    mend_folder(prepared.folder, say)
    claim_run(
        prepared.folder, open_trials(prepared.folder, how.storage or None), how.storage or None
    )
    repair(prepared.folder, say, how.storage or None)
    reopen_damaged(prepared, say, how.storage or None)
    for kept in check_disk_space(prepared, encoders, cache=cache_folder(), device=workers.own):
        console.print(f"- {kept}", soft_wrap=True)
    return become_driver(prepared.folder)


def _encode(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    driver: str,
    console: Console,
) -> WorkerContext:
    """Embed the images, audit the embeddings, and return what workers need of the run."""
    write_devices(
        prepared.folder,
        train=workers.devices,
        encode=workers.own,
        backend=prepared.config.encoder_backend,
        precision=prepared.config.encoder_precision,
    )
    with counting(console, "reading images", quiet=how.quiet) as step:
        embeddings = represent(
            prepared,
            encoders,
            cache=cache_folder().absolute(),
            device=workers.own,
            progress=step,
        )
    with telling(console, "looking for copies of images in their embeddings", quiet=how.quiet):
        warnings = audit_run_embeddings(prepared, embeddings, cache_folder())
    _print_warnings(console, warnings)
    return _context(prepared, embeddings, workers, how, driver)


def _context(
    prepared: PreparedRun, embeddings: Sources, workers: EngineStarter, how: Execution, driver: str
) -> WorkerContext:
    return WorkerContext(
        prepared.folder.path,
        embeddings,
        how.storage or None,
        driver,
        encoded_on=workers.own.split(":")[0],
        plugins=tuple(plugin.place for plugin in loaded_plugins()),
    )


def _print_plan(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    driver: str,
    console: Console,
) -> Cost | None:
    """Measure a few images and an epoch, and print the plan before the encoding.

    An epoch is measured on random numbers in the shape of the embeddings.

    Returns:
        The cost, or None if no work is left.
    """
    context = _context(prepared, stand_ins(prepared, encoders), workers, how, driver)
    schedule = build_schedule(prepared, open_studies(prepared, context))
    if schedule.finished:
        return None
    with telling(console, "measuring a few images and epochs for the plan", quiet=how.quiet):
        cache = cache_folder().absolute()
        encoding = expect_encoding(prepared, encoders, cache=cache, device=workers.own)
        measured, beside = _measure_epochs(prepared, context, workers)
    if beside:
        console.print(f"- {beside}", soft_wrap=True)
    cost = _cost(prepared, schedule, measured or Measured(0.0), encoding)
    _tell_plan(prepared, cost, workers, console, measured=measured is not None)
    if measured is not None and cost.trials == len(prepared.studies) * prepared.config.trials:
        _offer_blocks(prepared, encoders, workers, how, cost, console)
    return cost


def _cost(
    prepared: PreparedRun, schedule: Schedule, measured: Measured, encoding_seconds: float
) -> Cost:
    """Cost of the work that is left."""
    return Cost(
        schedule.left,
        schedule.ends,
        measured.epoch_seconds,
        rows_share=mean_rows(prepared.studies) / len(prepared.studies[-1].train),
        defaults=_count_defaults(prepared),
        default_share=measured.default_share,
        core_seconds=measured.core_seconds,
        firsts=schedule.untouched,
        encoding_seconds=encoding_seconds,
    )


def _measure_epochs(
    prepared: PreparedRun, context: WorkerContext, workers: EngineStarter
) -> tuple[Measured | None, str]:
    """Measure an epoch of the last study, with the workers of a GPU side by side if they pay.

    Returns:
        The measurement, None where the machine ended it, and a phrase on the workers.
    """
    name = prepared.studies[-1].name
    measured = measure(context, name, workers.waiting())
    if measured is None or not prepared.config.trainable_blocks:
        return measured, ""
    return place_beside(context, name, workers, measured)


def _offer_blocks(
    prepared: PreparedRun,
    encoders: Mapping[str, Encoder],
    workers: EngineStarter,
    how: Execution,
    cost: Cost,
    console: Console,
) -> None:
    """Say at the begin of a run on a GPU that trained blocks would cost little, if they do."""
    if not workers.own.startswith("cuda"):
        return
    with telling(console, "measuring what trained blocks would cost", quiet=how.quiet):
        offer = offer_blocks(
            prepared.config,
            prepared.data,
            encoders,
            cost,
            device=workers.own,
            workers=len(workers.devices),
        )
    if offer:
        console.print(f"- {offer}", soft_wrap=True)


def _tell_plan(
    prepared: PreparedRun, cost: Cost, workers: EngineStarter, console: Console, *, measured: bool
) -> None:
    config, data = prepared.config, prepared.data
    if measured:
        console.print(describe_plan(config, data, cost, workers.devices, datetime.now()))
    else:
        console.print("- no plan: a worker died while an epoch was measured; the run goes on")
    console.print(f"to watch it: outerfold dashboard {shlex.quote(str(prepared.folder.path))}")


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
    config = prepared.config
    return Deadline(
        at=started + parse_seconds(how.max_time, option="max-time"),
        workers=workers,
        end_trials=end_trials(config) * config.networks * (2 if cost.defaults else 1),
        trial_seconds=cost.epoch_seconds * complete_epochs(config),
        report_seconds=cost.report_seconds,
        clock=time.monotonic,
    )


def _print_assumptions(console: Console, prepared: PreparedRun) -> None:
    for text in prepared.data.assumptions:
        console.print(f"- {escape(text)}")
    _print_warnings(console, prepared.folder.read_audit())


def _print_warnings(console: Console, texts: Iterable[str]) -> None:
    for text in texts:
        console.print(f"- [yellow]warning:[/yellow] {escape(text)}")


def _print_resume_command(call: Call, folder: RunFolder) -> None:
    call.console.print(
        f"interrupted; finished trials are kept in {folder.path}.\nTo continue: {call.again}",
        soft_wrap=True,
    )


def _write_report(prepared: PreparedRun, style: str) -> Run | None:
    """Write the report and the model card; return the run, or None if no fold was finished."""
    with processes_beside(count_cores(), "outerfold.reports.drawing") as beside:
        try:
            run = read_kept_run(prepared.folder)
        except NothingFinished:
            return None
        # These imports take time; made only here, they do not delay the first trial.
        from outerfold.reports.sections.model_card import model_card
        from outerfold.reports.write import write_report

        if run.ships:
            prepared.folder.write_card(model_card(run))
        printed = replace(run, protocol=with_style(run.protocol, style))
        write_report(printed, prepared.folder.report, beside)
    return run


def _show_results(
    prepared: PreparedRun, run: Run | None, console: Console, failures: dict[str, str]
) -> int:
    """Print the results and failures; return the exit code."""
    from outerfold.reports.sections.terminal import closing_table

    if run is not None:
        console.print(closing_table(run))
        console.print(f"report: {prepared.folder.report / 'report.html'}", soft_wrap=True)
    for study, reason in failures.items():
        console.print(f"[red]failed[/red] {study}: {escape(str(reason))}", soft_wrap=True)
    return EXIT_FAILED if failures else 0
