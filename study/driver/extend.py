"""More trials for a run: it goes on while no test result was seen, and else a new run begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from outerfold.storage.errors import DataError
from outerfold.storage.runs.extensions import Extension, read_extension, write_extension
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import results_seen
from outerfold.storage.trials.ownership import JOURNAL, kept_storage
from outerfold.study.config.record import AUTO, StudyConfig
from outerfold.study.setup.lock import lock_run

COPIED = (
    "dataset.json",
    "splits.json",
    "numerics.json",
    "encoder.json",
    "set_aside.csv",
    "trials.journal",
)
"""Files with which a run begins that takes over the trials of another."""
SETTLED = ("encoder_backend", "train_on", "batch_size", "data")
"""Options whose values a run settles itself, or that may change with the place of the data."""


def find_extended(path: Path, config: StudyConfig, say: Callable[[str], None]) -> Path:
    """Folder in which a command goes on that asks for more trials than its run had.

    It is the run's own folder, unless an outer fold was scored. Then it is a folder beside it,
    which begins with the trials of the run; the run stays as it is.

    Args:
        path: folder that the command names.
        config: options of the command.
        say: prints a sentence for the user.

    Raises:
        DataError: the trials are in a database.
    """
    folder = RunFolder(path)
    if not folder.started():
        return path
    was = StudyConfig.from_toml(folder.read_config())
    if config.trials <= was.trials or _differs(config, was) or not results_seen(folder):
        return path
    target = RunFolder(path.with_name(f"{path.name}-{config.trials}-trials"))
    if target.started():
        say(f"going on in {target.path}, which began with the trials of {path.name}")
        return target.path
    if kept_storage(folder) != JOURNAL:
        raise DataError(
            f"--run {path}: outer folds were scored with {was.trials} trials, and its trials are "
            "in a database, from which no other run can begin; give another --run for "
            f"--trials {config.trials}"
        )
    with lock_run(path):
        _begin(folder, target, replace(was, trials=config.trials), was.trials)
    say(
        f"{path}: outer folds were scored with {was.trials} trials, so more trials begin a new run "
        f"from them, {target.path}; its report says that results were seen before"
    )
    return target.path


def _differs(config: StudyConfig, was: StudyConfig) -> bool:
    """Whether options besides the trials differ, which is refused elsewhere."""
    for field in fields(config):
        if field.name in SETTLED or field.name == "trials":
            continue
        now = getattr(config, field.name)
        if now not in (getattr(was, field.name), AUTO):
            return True
    return False


def _begin(folder: RunFolder, target: RunFolder, config: StudyConfig, trials: int) -> None:
    """Make the new run beside the old one, whole or not at all."""
    draft = RunFolder(target.path.with_name(f".{target.path.name}.draft"))
    shutil.rmtree(draft.path, ignore_errors=True)
    draft.path.mkdir()
    for name in COPIED:
        if (folder.path / name).exists():
            shutil.copyfile(folder.path / name, draft.path / name)
    before = read_extension(folder)
    write_extension(
        draft,
        Extension(
            times=1 + (before.times if before else 0),
            trials=(*(before.trials if before else ()), trials),
            of=folder.name,
        ),
    )
    draft.write_config(config.to_toml())
    draft.path.rename(target.path)
