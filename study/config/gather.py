"""Building of `StudyConfig` and `Execution` from the command line and a configuration file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from outerfold.storage.errors import DataError, unknown_name
from outerfold.study.config.encoders import encoder_names, format_weights, weights_by_encoder
from outerfold.study.config.presets import apply_preset
from outerfold.study.config.record import (
    AUTO,
    DEMO,
    DEMO_ENCODER,
    ENCODERS,
    EPOCHS,
    FOLDS,
    REFIT_NETWORKS,
    TAIL_PRUNER,
    TASKS,
    Execution,
    StudyConfig,
    check_types,
    read_toml,
)

CACHE_VARIABLE = "OUTERFOLD_CACHE"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of images, embeddings and the demo: ``$OUTERFOLD_CACHE``, else ~/.cache/outerfold."""
    named = environment.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "outerfold"


def gather_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options by name; those of the command line replace those of the ``--config`` file.

    The values of a preset stand where neither gives others.

    Raises:
        DataError: the file cannot be read, has an unknown key or a value of the wrong type, no
            task is given, or the preset does not fit the other options.
    """
    typed = {k: v for k, v in vars(options).items() if v is not None and k != "config"}
    names = [f.name for f in (*fields(StudyConfig), *fields(Execution))]
    known = ["preset", *(name for name in names if name != "ablated")]  # only --ablate sets it
    table = read_toml(options.config) if options.config else {}
    for name in table:
        if name not in known:
            raise DataError(f"--config {options.config}: {unknown_name('key', name, known)}")
    for record in (StudyConfig, Execution):
        check_types(table, record)
    if "run" in table:
        table["run"] = Path(table["run"])
    merged = {**table, **typed}
    if merged.get("task") not in TASKS:
        found = merged.get("task", "nothing")
        raise DataError(f"--task must be one of {list(TASKS)}, found {found}")
    return apply_preset(merged)


def build_execution(merged: Mapping[str, Any]) -> Execution:
    """Options that change no result."""
    names = [f.name for f in fields(Execution)]
    return Execution(**{name: merged[name] for name in names if name in merged})


def build_study_config(merged: Mapping[str, Any], data: str) -> StudyConfig:
    """Options that determine the results, with the task's defaults for those not given.

    Args:
        merged: options by name, from ``gather_options``.
        data: text that stands for the data's source in the configuration, see ``Source.key``.
    """
    names = [f.name for f in fields(StudyConfig)]
    chosen = {name: merged[name] for name in names if name in merged}
    task = merged["task"]
    chosen["data"] = data
    chosen.setdefault("epochs", EPOCHS[task])
    chosen.setdefault("encoder", DEMO_ENCODER if data == DEMO else ENCODERS[task])
    encoders = encoder_names(chosen["encoder"])
    chosen["encoder"] = ",".join(encoders)
    chosen.setdefault("encoder_backend", AUTO)
    blocks = chosen.get("trainable_blocks", 0)
    if chosen.get("final", FOLDS) != FOLDS and not blocks:
        chosen.setdefault("networks", REFIT_NETWORKS)
    if blocks:
        chosen.setdefault("pruner", TAIL_PRUNER)
    if "weights" in chosen:
        files = weights_by_encoder(encoders, chosen["weights"])
        chosen["weights"] = format_weights(encoders, files)
    return StudyConfig.from_toml(chosen)
