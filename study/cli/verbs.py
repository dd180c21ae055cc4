"""Verbs besides `run`: report, compare, explain, audit, predict, dashboard, doctor, data.

What loads torch, Optuna or the dashboard is imported by the verbs that use it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outerfold.reports.journal_style import with_style
from outerfold.reports.render.word_template import read_template
from outerfold.reports.results.level_entries import refuse_without_effect
from outerfold.reports.results.predictions import unique_rows
from outerfold.reports.results.questions import OF_REPORT, refuse_questions
from outerfold.reports.sections.comparison import compare_runs as paired
from outerfold.reports.sections.terminal import closing_table, comparison_lines
from outerfold.reports.write import SUBMISSION
from outerfold.reports.write_comparison import write_comparisons
from outerfold.storage.audit.audit import audit_dataset as find_faults
from outerfold.storage.cache.inventory import Store
from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.datasets.kaggle import availability, find_or_download
from outerfold.storage.images.pixels import limit_pixels
from outerfold.storage.images.read import require_readable
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import FINAL, DataError, Dataset, FloatArray, IntArray, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.paper import read_paper
from outerfold.storage.runs.results import is_finished
from outerfold.storage.words.csv_tables import csv_text
from outerfold.study.cli.private import share
from outerfold.study.cli.rewrite import kept_style, rewrite_report
from outerfold.study.config.answers import write_answers
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.kept_run import read_kept_run, require_kept_plugins
from outerfold.study.config.option import check_values
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.telling import stepping, telling
from outerfold.study.exit_codes import EXIT_FAILED, EXIT_USAGE
from outerfold.study.setup.data_source import find_source, read_options
from outerfold.study.setup.lock import lock_run
from outerfold.study.setup.readable import settle_images
from outerfold.study.splits import patients_by_class

FOLLOW_SECONDS = 3.0
"""Seconds between two looks of ``status --follow``."""
MOST_CASES = 6
"""Largest number of cases in a row of a figure; more would be too small to see."""


def report(options: argparse.Namespace) -> int:
    """Write a run's report again from the files of the run; return the exit code."""
    console, folder = Console(highlight=False), RunFolder(options.run)
    folder.read_config()
    if options.pictures and options.pseudonymise is None:
        raise DataError("--pictures has no effect without --pseudonymise DIR; leave it out")
    if options.docx_template and options.pseudonymise is not None:
        raise DataError("--docx-template has no effect with --pseudonymise; leave it out")
    template = read_template(options.docx_template) if options.docx_template else b""
    options.style = options.style or kept_style(folder)
    run = _change_level(read_kept_run(folder), options)
    quiet = bool(options.quiet)
    if options.pseudonymise is not None:
        copying = telling(console, "writing the copy to share", quiet=quiet)
        with lock_run(folder.path), copying:
            page = share(run, folder, options.pseudonymise, pictures=options.pictures)
        console.print(f"copy to share: {page}", soft_wrap=True)
        return 0
    paper = read_paper(folder.path)
    steps = stepping(console, "writing the report", quiet=quiet)
    with lock_run(folder.path), steps as step:
        rewrite_report(run, folder, paper, step, template)
    console.print(closing_table(run))
    console.print(f"report: {folder.report / 'report.html'}", soft_wrap=True)
    console.print(f"for a submission: {folder.report / SUBMISSION}", soft_wrap=True)
    return 0


def _change_level(run: Run, options: argparse.Namespace) -> Run:
    """The run with the level, aggregation and style that the user typed, and the questions."""
    typed = {name: getattr(options, name) for name in OF_REPORT}
    given = {name: value for name, value in typed.items() if value not in (None, "", ())}
    protocol = with_style({**run.protocol, **given}, options.style)
    refuse_questions(protocol, run.classes)
    rows = unique_rows(run)
    patients = [] if rows is None else rows.patients.tolist()
    refuse_without_effect(protocol, run.classes, patients, sides=bool(run.sides))
    return replace(run, protocol=protocol)


def compare(options: argparse.Namespace) -> int:
    """Print the paired difference of two finished runs for each metric; return the exit code."""
    console = Console(highlight=False)
    one, other = RunFolder(options.run_a), RunFolder(options.run_b)
    if one.path.resolve() == other.path.resolve():
        raise DataError(f"compare needs two runs: {one.path} was given twice")
    found = paired(read_kept_run(one), read_kept_run(other))
    for part in comparison_lines(found):
        console.print(part)
    if options.to is not None:
        console.print(f"comparison: {write_comparisons([found], options.to)}", soft_wrap=True)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Write the page that explains the outer models of a finished run; return the exit code."""
    from outerfold.reports.explain.write import write_inside
    from outerfold.study.engines.local import local_devices
    from outerfold.study.explain.explain import explain_run

    console, folder = Console(highlight=False), RunFolder(options.run)
    folder.read_config()
    if not 1 <= options.cases <= MOST_CASES:
        raise DataError(
            f"--cases must be a whole number from 1 to {MOST_CASES}, found {options.cases}"
        )
    inside = explain_run(
        folder,
        cases=options.cases,
        device=options.device or local_devices(1)[0],
        cache=cache_folder(),
        say=lambda text: console.print(f"- {text}", soft_wrap=True),
    )
    with lock_run(folder.path):
        protocol = with_style(inside.run.protocol, kept_style(folder))
        inside = replace(inside, run=replace(inside.run, protocol=protocol))
        written = write_inside(inside, folder.report, cases=options.cases)
    console.print(f"looking inside: {written[-1]}", soft_wrap=True)
    return 0


def audit(options: argparse.Namespace) -> int:
    """Check data without any training; return the exit code, which is 2 if there are errors."""
    console = Console(highlight=False)
    data = _read_audited(options)
    console.print(
        f"{escape(data.name)}: {len(data)} images of {len(set(data.patients.tolist()))} patients"
    )
    for name, count in patients_by_class(data).items():
        images = int((data.labels == data.classes.index(name)).sum())
        console.print(f"- {escape(name)}: {images} images of {count} patients")
    for text in data.assumptions:
        console.print(f"- {escape(text)}", soft_wrap=True)
    found = find_faults(data, outer_folds=options.outer_folds, inner_folds=options.inner_folds)
    for text in found.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)
    for text in found.errors:
        console.print(f"[red]error:[/red] {escape(text)}", soft_wrap=True)
    console.print(f"{len(found.errors)} errors, {len(found.warnings)} warnings")
    if options.to is not None and not found.errors:
        write_answers(options.to, vars(options), data.classes)
        console.print(f"answers: {escape(str(options.to))}, for run --config", soft_wrap=True)
    return EXIT_USAGE if found.errors else 0


def _read_audited(options: argparse.Namespace) -> Dataset:
    check_values(vars(options), StudyConfig)
    limit_pixels(options.max_pixels)
    source = find_source(options.task, options.data, cache=cache_folder())
    data = read_dataset(
        source.path,
        task=options.task,
        classes=options.classes or (),
        positive=options.positive,
        columns=options.columns,
        name=source.name,
        options=read_options(vars(options)),
    )
    return settle_images(data, vars(options), cache_folder())


def predict(options: argparse.Namespace) -> int:
    """Predict images with the shipped model; return the exit code.

    Standard output gets one CSV line for each image: its path, probabilities and predicted class.
    """
    from outerfold.pipelines.saved.predictor import name_columns, new_features, read_shipped_model

    require_kept_plugins(RunFolder(options.run))
    limit_pixels(options.max_pixels)
    shipped = read_shipped_model(RunFolder(options.run))
    for path in options.images:
        require_readable(path)
    features = new_features(shipped, options.images, options.columns)
    known = [column.name for column in shipped.columns]
    given = name_columns(known, options.columns)
    missing = [name for name in known if name not in given]
    if missing:
        names = ", ".join(missing)
        print(f"outerfold: counted as missing: {names}", file=sys.stderr)  # noqa: T201
    if shipped.synthetic:
        print("outerfold: SYNTHETIC: this model was trained on synthetic images", file=sys.stderr)  # noqa: T201
    probabilities, decided = shipped.score(
        features,
        cache_folder(),
        lambda text: print(f"outerfold: {text}", file=sys.stderr),  # noqa: T201
    )
    sys.stdout.write(_prediction_text(options.images, probabilities, decided, shipped.classes))
    return 0


def _prediction_text(
    images: Sequence[Path], probabilities: FloatArray, decided: IntArray, classes: Sequence[str]
) -> str:
    """CSV text with one row for each of n images, from probabilities (n, classes)."""
    header = ["image", *(f"p_{name}" for name in classes), "predicted"]
    rows = (
        [str(path), *(f"{p:.6f}" for p in row), classes[chosen]]
        for path, row, chosen in zip(images, probabilities, decided, strict=True)
    )
    return csv_text(header, rows)


def dashboard(options: argparse.Namespace) -> int:
    """Serve optuna-dashboard on this machine only, until Ctrl-C; return the exit code."""
    from contextlib import ExitStack

    from outerfold.storage.trials.journal import check_trials, open_trials
    from outerfold.study.engines.local import quiet_optuna
    from outerfold.study.watch.dashboard import open_dashboard
    from outerfold.study.watch.mirror import open_mirror

    quiet_optuna()

    folder = RunFolder(options.run)
    folder.read_config()
    url = options.storage
    if url is None and not folder.journal.exists():
        raise DataError(
            f"{folder.journal}: there are no trials yet; start the run, or name its --storage"
        )
    changes = options.allow_changes
    with ExitStack() as stack:
        if changes:
            stack.enter_context(lock_run(folder.path))
        check_trials(folder, url)
        if changes:
            server = open_dashboard(open_trials(folder, url), options.port, allow_changes=True)
        else:
            server = open_mirror(folder, url, options.port, stack)
        print(f"http://127.0.0.1:{options.port} (Ctrl-C ends it)", flush=True)  # noqa: T201
        server.serve_forever()
    return 0


def status(options: argparse.Namespace) -> int:
    """Show how far a run is; return the exit code. Nothing is written into its folder."""
    import time
    from datetime import datetime

    from rich.live import Live

    from outerfold.study.engines.local import quiet_optuna
    from outerfold.study.watch.status import describe, read_state, state_table

    console, folder = Console(highlight=False), RunFolder(options.run)
    quiet_optuna()
    state = read_state(folder, options.storage)
    if not options.follow:
        console.print(state_table(state, datetime.now()))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            if console.is_terminal:
                live.update(state_table(state, datetime.now()), refresh=True)
            else:
                console.print(describe(state, datetime.now()), soft_wrap=True)
            if state.finished:
                return 0
            time.sleep(FOLLOW_SECONDS)
            state = read_state(folder, options.storage)


def doctor(options: argparse.Namespace) -> int:
    """Repair what a crash left, and check all that a run keeps; return the exit code.

    It is 1 where something is damaged that could not be repaired.
    """
    from outerfold.study.setup.run_directory import mend_folder, repair
    from outerfold.study.verify.cache_tables import check_tables
    from outerfold.study.verify.check import carry_out
    from outerfold.study.verify.verify_run import check_kept

    console, folder, mended = Console(highlight=False), RunFolder(options.run), list[str]()
    folder.read_config()

    def mend() -> tuple[str, list[str]]:
        mend_folder(folder, mended.append)
        repair(folder, mended.append)
        return "the trials are whole", []

    with lock_run(folder.path):
        checks = [carry_out("journal", mend), *check_kept(folder), check_tables(folder)]
    damaged = list(dict.fromkeys(text for check in checks for text in check.findings))
    for text in (*mended, *(f"damaged: {text}" for text in damaged)):
        console.print(escape(text), soft_wrap=True)
    if damaged:
        console.print(_WAY_ON, soft_wrap=True)
        return EXIT_FAILED
    if not mended:
        console.print("nothing to repair")
    studies = [fold.name for fold in folder.read_splits(folder.read_dataset())]
    done = [name for name in studies if is_finished(folder, name)]
    advice = "" if is_finished(folder, FINAL) else "; give the run's command again to continue"
    console.print(f"{len(done)} of {len(studies)} studies are finished{advice}")
    return 0


_WAY_ON = (
    "Where no other way is named: the run's command, given again, ends studies whose files are "
    "damaged anew from their trials; restore other files from a copy, or give another --run"
)


def verify(options: argparse.Namespace) -> int:
    """Check a run or a table of predictions; return the exit code, 1 where a check fails."""
    from outerfold.study.verify import verify_run, verify_table

    console, is_table = Console(highlight=False), options.run.is_file()
    if not options.run.exists():
        raise DataError(
            f"{options.run}: does not exist; give a run directory, or a CSV file of predictions"
        )
    if options.positive is not None and not is_table:
        raise DataError("--positive has no effect on a run, which keeps its own; leave it out")
    with telling(console, "computing the numbers again"):
        if is_table:
            checks = verify_table.verify_table(options.run, options.positive)
            silent = verify_table.NOT_SHOWN
        else:
            checks = verify_run.verify_run(RunFolder(options.run))
            silent = verify_run.NOT_CHECKED
    for check in checks:
        mark = "[green]holds[/green]" if check.holds else "[red]DOES NOT HOLD[/red]"
        console.print(f"{mark} {check.name}", soft_wrap=True)
        for line in check.lines():
            console.print(f"  {escape(line)}", soft_wrap=True)
    console.print("not shown by this:")
    for line in silent:
        console.print(f"- {escape(line)}", soft_wrap=True)
    broken = sum(not check.holds for check in checks)
    console.print(f"{len(checks) - broken} of {len(checks)} checks hold")
    return EXIT_FAILED if broken else 0


def data(options: argparse.Namespace) -> int:
    """Write the demo, or download the task's public data set; return the exit code."""
    if options.what == "demo":
        root = options.to or Path(f"demo-{options.task}")
        write_demo(root, task=options.task, seed=options.seed, patients=options.patients)
        print(root)  # noqa: T201
        return 0
    path = find_or_download(options.task)
    if path is None:
        raise DataError(availability(options.task).reason)
    print(path)  # noqa: T201
    return 0


def cache(options: argparse.Namespace) -> int:
    """List the tables of the cache, or remove those that no named run reads; return the exit code.

    Raises:
        DataError: a removal without a run, or a folder that is no run.
    """
    from outerfold.storage.cache.inventory import list_stores, recorded_stores, remove_stores

    console, folder = Console(highlight=False), cache_folder()
    kept = recorded_stores(options.runs, folder)
    if options.remove and not options.runs:
        raise DataError("--remove needs the run directories whose tables stay, such as runs/*")
    if not options.remove:
        console.print(_cache_table(folder, list_stores(folder), kept if options.runs else None))
        return 0
    removed, busy = remove_stores(folder, kept)
    for store in busy:
        console.print(f"in use, so it stays: {store.name}, {store.what}", soft_wrap=True)
    size = sum(store.bytes for store in removed) / 2**20
    console.print(f"removed {len(removed)} tables, {size:,.1f} MiB", soft_wrap=True)
    return 0


def _cache_table(folder: Path, stores: Sequence[Store], kept: set[str] | None) -> Table:
    """Table of the stores of the cache; ``kept`` names those that a named run reads."""
    table = Table(title=f"{folder}: {sum(s.bytes for s in stores) / 2**20:,.1f} MiB")
    marked = [] if kept is None else ["Kept"]
    for name in ("Table", "What", "Rows", "MiB", "Last use", *marked):
        table.add_column(name)
    for store in stores:
        mark = [] if kept is None else ["yes" if store.name in kept else "no"]
        cells = (f"{store.rows:,}", f"{store.bytes / 2**20:,.1f}", f"{store.used:%Y-%m-%d}")
        table.add_row(store.name, store.what, *cells, *mark)
    return table
