"""Verbs that protect patients: a copy of a report to share, and the removal of a patient."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from outerfold.reports.journal_style import with_style
from outerfold.reports.pseudonyms import KEY, write_pseudonymised
from outerfold.reports.render.html import INSIDE
from outerfold.storage.errors import DataError
from outerfold.storage.records import Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.forget import forget_patient
from outerfold.storage.runs.paper import read_paper
from outerfold.storage.runs.results import NothingFinished
from outerfold.study.cli.rewrite import kept_style, rewrite_report
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.driver.telling import stepping
from outerfold.study.setup.lock import lock_run


def share(run: Run, folder: RunFolder, to: Path, *, pictures: bool) -> Path:
    """Write a copy of the report under running numbers; return its page.

    Args:
        run: the run.
        folder: its directory, which keeps the table of the numbers.
        to: new folder of the copy.
        pictures: whether the pages of ``outerfold explain`` are copied too.

    Raises:
        DataError: the folder is not empty, or there are no such pages.
    """
    if folder.path.resolve() in (to.resolve(), *to.resolve().parents):
        raise DataError(f"--pseudonymise {to}: lies within the run, whose files name the patients")
    written = write_pseudonymised(
        run,
        to,
        key=folder.path / KEY,
        chance=random.SystemRandom(),
        pictures=folder.report if pictures else None,
    )
    return next(path for path in written if path.name == "report.html")


def forget(options: argparse.Namespace) -> int:
    """Remove a patient from a run, its report and the cache; return the exit code."""
    from outerfold.study.verify.erase_images import erase_images

    console, folder = Console(highlight=False), RunFolder(options.run)
    folder.read_config()
    paper = read_paper(folder.path)  # a faulty one is refused before anything is removed
    with lock_run(folder.path):
        data = folder.read_dataset()
        own = data.patients == options.patient
        images = data.features.images[own].tolist()
        found = forget_patient(folder, options.patient, datetime.now(UTC).date().isoformat())
        erased = erase_images(
            cache_folder(), data.ids[own].tolist(), images, set(data.ids.tolist())
        )
        _write_report_anew(folder, paper, console)
    console.print(escape(found.describe()), soft_wrap=True)
    console.print(
        f"{erased} rows of the cache were erased. Not touched: the image files themselves, copies "
        "of this folder, and trials in a database, which hold no names. A model that trained on "
        "the patient keeps what it learnt; delete the folders of these studies, or the run, if "
        "that must go too.",
        soft_wrap=True,
    )
    return 0


def _write_report_anew(folder: RunFolder, paper: Mapping[str, str], console: Console) -> None:
    for pattern in ("*_Inside_*", "inside.json", INSIDE):
        for path in folder.report.glob(pattern):
            path.unlink()
    try:
        run = read_kept_run(folder)
    except NothingFinished:
        return
    run = replace(run, protocol=with_style(run.protocol, kept_style(folder)))
    with stepping(console, "writing the report anew") as step:
        rewrite_report(run, folder, paper, step)
