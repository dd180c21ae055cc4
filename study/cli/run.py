"""Command `outerfold run`: reads the options and carries out the run."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from outerfold.storage.trials.database import without_password
from outerfold.study.driver.begin import begin
from outerfold.study.driver.call import Call
from outerfold.study.engines.local import quiet_optuna


def run(options: argparse.Namespace) -> int:
    """Search, refit, score once and write the report; return the exit code.

    Raises:
        DataError: the data or options break a rule.
    """
    started = time.monotonic()
    quiet_optuna()
    words = command_line()
    typed = shlex.join([*_program(sys.argv[0]), *sys.argv[1:]])
    again = without_password(typed)
    if again != typed:
        again += "  (with the password in place of ***)"
    return begin(vars(options), Call(Console(highlight=False), words, again, started)).code


def _program(path: str) -> list[str]:
    """Words that start outerfold as it was started: by its own command, a module, or a script."""
    name = Path(path).name
    if name == "__main__.py":
        return ["python", "-m", "outerfold"]
    return ["python", path] if name.endswith(".py") else [path]


def command_line() -> tuple[str, ...]:
    """Words of the command line as the user typed them, with the program's short name."""
    return (Path(sys.argv[0]).name, *sys.argv[1:])
