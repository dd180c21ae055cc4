"""A run from a Python program, with the options of a configuration file."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.trials.database import without_password
from outerfold.study.config.execution import RECORDS
from outerfold.study.config.option import check_types, options_of
from outerfold.study.door.result import RunResult, load
from outerfold.study.driver.begin import begin
from outerfold.study.driver.call import Call
from outerfold.study.driver.telling import LogLines
from outerfold.study.engines.local import quiet_optuna

LINE = 200
"""Width of a line of the log, in characters."""


def run(
    *,
    task: str | None = None,
    data: str | PathLike[str] | None = None,
    **options: Any,
) -> RunResult:
    """Search, refit, score once and write the report, as the command ``outerfold run`` does.

    What the command prints goes to the logger ``outerfold``, at level INFO. Signals, and the
    handlers of loggers, stay as they are. Ctrl-C raises ``KeyboardInterrupt`` after the worker
    processes were ended; the same call then goes on.

    Args:
        task: ``dbt`` or ``multimodal``; must be given, here or in ``config``.
        data: folder or manifest; None for the task's public set, else the demo.
        options: keys of a configuration file (``docs/options.md``), with the same defaults.
            ``config`` names such a file, whose values those given here replace. None stands for
            an option that is not given.

    Returns:
        What ``load`` returns for the run's directory.

    Raises:
        DataError: the data or options break a rule.
        RunFailed: a study failed.
    """
    started = time.monotonic()
    named = {"task": task, "data": data, **options}
    given = _read_options({name: value for name, value in named.items() if value is not None})
    console = Console(
        file=LogLines(logging.getLogger("outerfold")),  # type: ignore[arg-type]
        force_terminal=False,
        force_jupyter=False,
        highlight=False,
        width=LINE,
        color_system=None,
    )
    words = without_password(describe_call(given))
    call = Call(console, (words,), words, started, owns_process=False)
    with _optuna_as_it_was():
        begun = begin(given, call)
    return load(begun.path, storage=begun.storage)


def describe_call(options: Mapping[str, Any]) -> str:
    """The call that gives these options, as Python text."""
    given = ", ".join(f"{name}={_text(value)}" for name, value in options.items())
    return f"outerfold.run({given})"


def _text(value: object) -> str:
    return repr(str(value) if isinstance(value, Path) else value)


def _read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with paths of the right type; refused are those that a file may not have, either."""
    if "ablate" in options:
        raise DataError(
            "ablate: outerfold.run makes one run; compare levels with `outerfold run --ablate`"
        )
    every = [one for record in RECORDS for one in options_of(record)]
    known = {one.name: one.kind for one in every if one.option.keyed or one.name == "config"}
    for name in options:
        if name not in known:
            raise DataError(f"outerfold.run: {unknown_name('option', name, known)}")
    texts = {
        name: os.fspath(value) if isinstance(value, PathLike) else value
        for name, value in options.items()
    }
    for record in RECORDS:
        check_types(texts, record)
    return {
        name: Path(value).expanduser() if known[name] is Path else value
        for name, value in texts.items()
    }


@contextmanager
def _optuna_as_it_was() -> Iterator[None]:
    """Keep Optuna quiet, and restore its verbosity and the filters of warnings afterwards."""
    verbosity = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        quiet_optuna()
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)
