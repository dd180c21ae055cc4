"""Building of the records of options from a command line, or a call, and a configuration file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.tasks import TASKS
from outerfold.study.config.encoders import encoder_names, format_weights, weights_by_encoder
from outerfold.study.config.execution import RECORDS, Execution, Shorthand
from outerfold.study.config.option import check_types, options_of
from outerfold.study.config.presets import apply_preset
from outerfold.study.config.record import (
    AUTO,
    DEMO,
    DEMO_ENCODER,
    FOLDS,
    REFIT_NETWORKS,
    TAIL_PRUNER,
    StudyConfig,
)
from outerfold.study.plugins import identities, load_plugins

CACHE_VARIABLE = "OUTERFOLD_CACHE"

Record = TypeVar("Record")


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of images, embeddings and the demo: ``$OUTERFOLD_CACHE``, else ~/.cache/outerfold.

    Raises:
        DataError: the user has no home, and the variable names no folder.
    """
    named = environment.get(CACHE_VARIABLE)
    try:
        return Path(named).expanduser() if named else Path.home() / ".cache" / "outerfold"
    except RuntimeError:  # Python's error for a user without a home
        raise DataError(
            f"the cache has no place, since this user has no home; set {CACHE_VARIABLE} to a folder"
        ) from None


def gather_options(given: Mapping[str, Any], records: Iterable[type] = RECORDS) -> dict[str, Any]:
    """Options by name; those given replace those of the configuration file that ``config`` names.

    The values of a preset stand where neither gives others.

    Args:
        given: options of the command line by name; None stands for an option that is not given.
        records: records of all options.

    Raises:
        DataError: the file cannot be read, has an unknown key or a value of the wrong type, a
            plugin cannot be loaded, no task is given, or the preset does not fit the other options.
    """
    typed = {name: value for name, value in given.items() if value is not None}
    source = typed.pop("config", None)
    table = _read_table(Path(source), records) if source is not None else {}
    merged = {**table, **typed}
    load_plugins(merged.get("plugin", ()))
    if merged.get("task") not in TASKS:
        found = merged.get("task", "nothing")
        raise DataError(f"--task must be one of {list(TASKS)}, found {found}")
    return apply_preset(merged)


def _read_table(path: Path, records: Iterable[type]) -> dict[str, Any]:
    """Options of a configuration file by name."""
    options = [one for record in records for one in options_of(record) if one.option.keyed]
    table = read_toml(path)
    for name in table:
        if name not in (known := [one.name for one in options]):
            raise DataError(f"--config {path}: {unknown_name('key', name, known)}")
    for record in records:
        check_types(table, record)
    paths = [one.name for one in options if one.kind is Path and one.name in table]
    return {**table, **{name: Path(table[name]) for name in paths}}


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a configuration file.

    Raises:
        DataError: the file cannot be read or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"--config {path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8, long numbers, deep nesting
        raise DataError(f"--config {path}: not valid TOML ({error})") from None


def build_execution(merged: Mapping[str, Any]) -> Execution:
    """Options that change no result."""
    return _build(Execution, merged)


def build_shorthand(merged: Mapping[str, Any]) -> Shorthand:
    """Options that stand for others."""
    return _build(Shorthand, merged)


def _build(record: type[Record], merged: Mapping[str, Any]) -> Record:
    names = [one.name for one in options_of(record)]
    return record(**{name: merged[name] for name in names if name in merged})


def build_study_config(
    merged: Mapping[str, Any], data: str, record: type[StudyConfig] = StudyConfig
) -> StudyConfig:
    """Options that determine the results, with the task's defaults for those not given.

    Args:
        merged: options by name, from ``gather_options``.
        data: text that stands for the data's source in the configuration, see ``Source.key``.
        record: record of these options.
    """
    names = [one.name for one in options_of(record)]
    chosen = {name: merged[name] for name in names if name in merged}
    task = merged["task"]
    chosen["data"] = data
    if chosen.pop("plugin", ()):
        chosen["plugin"] = identities()
    chosen.setdefault("epochs", TASKS[task].epochs)
    chosen.setdefault("encoder", DEMO_ENCODER if data == DEMO else TASKS[task].encoder)
    encoders = encoder_names(chosen["encoder"])
    chosen["encoder"] = ",".join(encoders)
    for name in ("encoder_backend", "encoder_precision", "train_on"):
        chosen.setdefault(name, AUTO)
    blocks = chosen.get("trainable_blocks", 0)
    if chosen.get("final", FOLDS) != FOLDS and not blocks:
        chosen.setdefault("networks", REFIT_NETWORKS)
    if blocks:
        chosen.setdefault("pruner", TAIL_PRUNER)
    if "weights" in chosen:
        files = weights_by_encoder(encoders, chosen["weights"])
        chosen["weights"] = format_weights(encoders, files)
    return record.from_toml(chosen)
