"""Creation of a run directory from options and data, and its checks and repair for a resume."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w
from optuna import Study

from outerfold.storage.audit.audit import audit_dataset
from outerfold.storage.cache.files import sweep_drafts
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import FINAL, DataError, Dataset, FoldResult, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.forget import refuse_forgotten
from outerfold.storage.runs.manifest import verify_files
from outerfold.storage.runs.numerics import refuse_other_numerics, write_numerics
from outerfold.storage.runs.results import is_finished, read_checked_result, results_seen
from outerfold.storage.trials.journal import (
    check_trials,
    discard_interrupted,
    load_studies,
    open_trials,
)
from outerfold.storage.trials.mending import remove_lock, repair_journal
from outerfold.study.config.record import ENSEMBLE, StudyConfig
from outerfold.study.config.search_space import build_ranges
from outerfold.study.schedule.patience import count_trials
from outerfold.study.setup.audit_cache import cached_warnings
from outerfold.study.setup.data_source import Source, read_options
from outerfold.study.splits import Splits, split, split_flat

ORPHANS_GONE_SECONDS = 1.5
"""Seconds within which the workers of a killed driver stop."""


@dataclass(frozen=True, eq=False)
class PreparedRun:
    """Run that can start or continue.

    Attributes:
        folder: directory of the run.
        config: options that determine its results.
        data: rows of the run.
        studies: its outer folds, then the study of all rows unless an ensemble ships.
    """

    folder: RunFolder
    config: StudyConfig
    data: Dataset
    studies: tuple[OuterFold, ...]


def default_run(config: StudyConfig, name: str) -> Path:
    """Default directory ``runs/TASK-DATA-HASH``; equal options give the same directory.

    Args:
        config: options of the run.
        name: name of the data.
    """
    digest = hashlib.sha256(tomli_w.dumps(config.naming()).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    prefix = config.task if not slug.startswith(config.task) else ""
    return Path("runs") / "-".join(filter(None, (prefix, slug, digest)))


def read_source(source: Source, config: StudyConfig) -> Dataset:
    """Rows of a run, read from its source with its options.

    Raises:
        DataError: the source breaks a rule.
    """
    return read_dataset(
        source.path,
        task=config.task,
        classes=config.classes,
        positive=config.positive or None,
        columns=config.columns,
        name=source.name,
        options=read_options(vars(config)),
    )


def begin_or_resume(
    folder: RunFolder, config: StudyConfig, data: Dataset, cache: Path | None = None
) -> PreparedRun:
    """Start a run, or resume one that was started with the same options on the same data.

    Args:
        folder: directory of the run.
        config: options of the run.
        data: rows of the run.
        cache: folder that keeps audits; None repeats the audit.

    Raises:
        DataError: the data do not pass the audit or cannot be split, or the run was started with
            other data, other options or another version of the arithmetic.
    """
    if folder.started():
        refuse_other_numerics(folder)
        refuse_forgotten(folder)
        _refuse_changes(folder, config, data)
        _follow(folder, config, data)
        return PreparedRun(folder, config, data, folder.read_splits(data))
    build_ranges(config, data)
    folds = {"outer_folds": config.outer_folds, "inner_folds": config.inner_folds}

    def find() -> tuple[str, ...]:
        found = audit_dataset(data, **folds)
        found.require()
        return found.warnings

    warnings = cached_warnings(cache, find, data=data.fingerprint, **folds) if cache else find()
    return write_run_directory(folder, config, data, make_splits(config, data), warnings)


def write_run_directory(
    folder: RunFolder,
    config: StudyConfig,
    data: Dataset,
    splits: Splits,
    warnings: Sequence[str] = (),
) -> PreparedRun:
    """Write the first files of a run directory; ``warnings`` are those of the audit."""
    studies = splits.outer if config.final == ENSEMBLE else splits.studies
    write_numerics(folder)
    folder.write_dataset(data, warnings)
    folder.write_set_aside(data)
    folder.write_splits(studies, splits.attempts, data.fingerprint)
    folder.write_config(config.to_toml())  # last: its presence shows that all files are there
    return PreparedRun(folder, config, data, studies)


def make_splits(config: StudyConfig, data: Dataset) -> Splits:
    """Folds that the options request.

    Raises:
        DataError: a class has too few patients.
    """
    if config.protocol == "non-nested":
        return split_flat(data, folds=config.outer_folds, seed=config.seed)
    return split(
        data,
        outer_folds=config.outer_folds,
        inner_folds=config.inner_folds,
        repeats=config.repeats,
        seed=config.seed,
    )


def mend_folder(folder: RunFolder, say: Callable[[str], None]) -> None:
    """Remove what a kill left: drafts of files, and a part of the journal's last line.

    It must come before the trials are opened.

    Args:
        folder: directory of the run.
        say: prints a sentence for the user.

    Raises:
        DataError: the journal is damaged elsewhere.
    """
    for path in (folder.path, *(each for each in folder.path.iterdir() if each.is_dir())):
        sweep_drafts(path)
    remove_lock(folder.journal)
    backup = repair_journal(folder.journal)
    if backup is not None:
        say(
            f"the journal's last line was incomplete and was cut off; the original is {backup.name}"
        )


def repair(folder: RunFolder, say: Callable[[str], None], url: str | None = None) -> None:
    """Check the trials of a killed run, and remove those that never ended.

    Args:
        folder: directory of the run.
        say: prints a sentence for the user.
        url: URL of the database that holds the trials; None for the run's journal.

    Raises:
        DataError: a trial is not the one that was kept.
    """
    if url is None and not (folder.journal.exists() and folder.journal.stat().st_size):
        return
    bare = check_trials(folder, url)
    if bare:
        say(f"{bare} trials of an earlier version carry no hash, and were read as they are")
    time.sleep(ORPHANS_GONE_SECONDS)
    for study, count in discard_interrupted(folder, url).items():
        say(f"{study}: {count} interrupted trial(s) will be run again")


def reopen_damaged(
    prepared: PreparedRun, say: Callable[[str], None], url: str | None = None
) -> None:
    """Let each finished study whose files or trials were changed be ended again, from its trials.

    Trials that are missing are run again, with the same results.

    Args:
        prepared: the run.
        say: prints a sentence for the user.
        url: URL of the database that holds the trials; None for the run's journal.
    """
    folder, names = prepared.folder, [fold.name for fold in prepared.studies]
    studies = load_studies(open_trials(folder, url), folder, names, url)
    for name in dict.fromkeys((*names, FINAL)):
        path = folder.study(name)
        if not is_finished(folder, name):
            continue
        try:
            verify_files(path)
            if name in names:
                fold = prepared.studies[names.index(name)]
                result = read_checked_result(folder, fold, prepared.data)
                _require_trials(folder, result, studies.get(name))
        except DataError as error:
            say(f"{error}")
            say(f"{name} is ended again")
            (path / "best.json").unlink()


def _require_trials(folder: RunFolder, result: FoldResult, study: Study | None) -> None:
    """Check that a finished study has the trials from which it chose.

    Raises:
        DataError: it has others.
    """
    found = count_trials(study.get_trials(deepcopy=False)) if study is not None else {}
    if result.trials and dict(result.trials) != found:
        raise DataError(
            f"{folder.path}: {result.name} chose from {sum(result.trials.values())} trials, and "
            f"{sum(found.values())} are kept"
        )


def _refuse_changes(folder: RunFolder, config: StudyConfig, data: Dataset) -> None:
    was = StudyConfig.from_toml(folder.read_config())
    longer = config.trials > was.trials and not results_seen(folder)
    same = replace(config, data=was.data, trials=was.trials if longer else config.trials)
    changes = same.changes_from(was)
    if changes:
        raise DataError(
            f"--run {folder.path}: was started with other options ({'; '.join(changes)}); give "
            "the first options again, or another --run"
        )
    before = folder.read_dataset()
    if before.fingerprint != data.fingerprint:
        raise DataError(
            f"--run {folder.path}: was started on other data ({_describe_changes(before, data)}); "
            "restore them, or give another --run"
        )


def _follow(folder: RunFolder, config: StudyConfig, data: Dataset) -> None:
    """Write down what may change of a run: more trials, and another place of the same data."""
    was = StudyConfig.from_toml(folder.read_config())
    if config.data != was.data:
        folder.move_images(data)
    if config.trials > was.trials and is_finished(folder, FINAL):
        (folder.study(FINAL) / "best.json").unlink()  # its search goes on as well
    if (config.data, config.trials) != (was.data, was.trials):
        folder.write_config(replace(was, data=config.data, trials=config.trials).to_toml())


def _describe_changes(before: Dataset, now: Dataset) -> str:
    was, now_ids = set(before.ids.tolist()), set(now.ids.tolist())
    gone, new = sorted(was - now_ids), sorted(now_ids - was)
    parts = [
        f"{len(names)} images {verb}, such as {names[0]}"
        for verb, names in (("are gone", gone), ("are new", new))
        if names
    ]
    if not parts:
        both = before.select(now.ids.tolist())
        labels = int((both.labels != now.labels).sum())
        patients = int((both.patients != now.patients).sum())
        parts = [
            f"{count} {what} changed"
            for what, count in (("labels", labels), ("patients", patients))
            if count
        ]
    return ", ".join(parts) or "the contents of images or columns changed"
