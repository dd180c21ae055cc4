"""`outerfold run`: what was typed, workers that load meanwhile, then the run itself."""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.panel import Panel

from outerfold.storage.errors import DataError
from outerfold.study.config.gather import cache_folder, execution, gather_options, study_config
from outerfold.study.engines.choose import starter_of
from outerfold.study.engines.local import local_devices, quiet_optuna
from outerfold.study.setup.data_source import find_source


def run(options: argparse.Namespace) -> int:
    """Search, refit, score once, report; returns the exit code."""
    started = time.monotonic()
    console = Console(highlight=False)
    quiet_optuna()
    merged = gather_options(options)
    factors = merged.pop("ablate", ())
    how = execution(merged)
    if how.max_time and factors:
        raise DataError(
            "--max-time would end the searches that --ablate compares at different trials; leave "
            "one of them out"
        )
    devices = local_devices(how.workers, how.workers_per_gpu)  # refuses before any download,
    study_config(merged, merged.get("data") or "")  # as this does
    source = find_source(merged["task"], merged.get("data"), cache=cache_folder())
    config = study_config(merged, source.key)
    if source.banner:
        console.print(Panel(source.banner, style="bold yellow", title="SYNTHETIC DATA"))
    workers = starter_of(how, devices, lambda text: console.print(text, soft_wrap=True))
    try:
        # Loaded only now: the workers load what they need at the same time.
        from outerfold.study.driver.one_run import carry_out_command

        return carry_out_command(config, source, factors, workers, how, console, started)
    finally:
        workers.close()
