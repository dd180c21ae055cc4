"""Command `outerfold run`: reads the options, starts the workers and carries out the run."""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.panel import Panel

from outerfold.storage.errors import DataError
from outerfold.study.config.gather import (
    build_execution,
    build_shorthand,
    build_study_config,
    cache_folder,
    gather_options,
)
from outerfold.study.engines.choose import make_starter
from outerfold.study.engines.local import local_devices, quiet_optuna
from outerfold.study.setup.data_source import find_source


def run(options: argparse.Namespace) -> int:
    """Search, refit, score once and write the report; return the exit code.

    Raises:
        DataError: the data or options break a rule.
    """
    started = time.monotonic()
    console = Console(highlight=False)
    quiet_optuna()
    merged = gather_options(vars(options))
    factors = build_shorthand(merged).ablate
    how = build_execution(merged)
    if how.max_time and factors:
        raise DataError(
            "--max-time would end the searches that --ablate compares after different numbers of "
            "trials; leave one of them out"
        )
    # These two refuse wrong options before any download.
    devices = local_devices(how.workers, how.workers_per_gpu)
    build_study_config(merged, merged.get("data") or "")
    source = find_source(merged["task"], merged.get("data"), cache=cache_folder())
    config = build_study_config(merged, source.key)
    if source.banner:
        console.print(Panel(source.banner, style="bold yellow", title="SYNTHETIC DATA"))
    workers = make_starter(how, devices, lambda text: console.print(text, soft_wrap=True))
    try:
        # Imported only here, so that the workers import their packages at the same time.
        from outerfold.study.driver.one_run import carry_out_command

        return carry_out_command(config, source, factors, workers, how, console, started)
    finally:
        workers.close()
