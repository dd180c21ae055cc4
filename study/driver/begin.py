"""Beginning of a run: from options to the engine; what is slow to load is loaded beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.panel import Panel

from outerfold.storage.cache.files import share_cache
from outerfold.storage.errors import DataError
from outerfold.storage.images.pixels import limit_pixels
from outerfold.storage.network import go_offline
from outerfold.study.config.gather import (
    build_execution,
    build_shorthand,
    build_study_config,
    cache_folder,
    gather_options,
)
from outerfold.study.driver.call import Call
from outerfold.study.engines.choose import make_starter
from outerfold.study.engines.local import local_devices
from outerfold.study.setup.data_source import find_source


@dataclass(frozen=True)
class Begun:
    """What became of a call.

    Attributes:
        code: exit code of the command line.
        path: directory of the run, or of all runs of an ablation.
        storage: URL of the database of its trials; empty for the run's journal.
    """

    code: int
    path: Path
    storage: str


def begin(given: Mapping[str, Any], call: Call) -> Begun:
    """Search, refit, score once and write the report.

    Args:
        given: options by name; None stands for one that is not given.
        call: who asks for it.

    Raises:
        DataError: the data or options break a rule.
    """
    merged = gather_options(given)
    factors = build_shorthand(merged).ablate
    how = build_execution(merged)
    if how.offline:
        go_offline()
    limit_pixels(how.max_pixels)
    if how.cache_shared:
        share_cache()
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
    console = call.console
    if source.banner:
        console.print(Panel(source.banner, style="bold yellow", title="SYNTHETIC DATA"))
    workers = make_starter(how, devices, lambda text: console.print(text, soft_wrap=True))
    try:
        # Imported only here, so that the workers import their packages at the same time.
        from outerfold.study.driver.one_run import carry_out_command

        code, path = carry_out_command(config, source, factors, workers, how, call)
        return Begun(code, path, how.storage)
    finally:
        workers.close()
