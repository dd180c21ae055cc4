"""Choice of a run's engine by its options."""

from __future__ import annotations

from collections.abc import Callable

from outerfold.storage.cores import count_cores
from outerfold.storage.errors import DataError
from outerfold.study.config.execution import Execution
from outerfold.study.engines.local import Engine, EngineStarter, LocalEngine


def make_starter(how: Execution, devices: list[str], say: Callable[[str], None]) -> EngineStarter:
    """Starter of engines with the workers of this machine, or with those of a cluster.

    Args:
        how: options of how the run is carried out.
        devices: device tokens of this machine.
        say: prints a sentence for the user, for example that a worker is awaited.

    Raises:
        DataError: the cluster does not answer, or the package of the engine is not installed.
    """
    if how.engine == "dask":
        return EngineStarter(_make_dask_engine(how, say), devices[0])

    if devices[0].startswith("cpu"):
        return EngineStarter(_make_local_engine(devices), devices[0])
    cores = ["cpu"] * (how.workers or count_cores())
    gpus = list(dict.fromkeys(devices))
    free = not (how.workers or how.workers_per_gpu)
    return EngineStarter(
        _make_local_engine(devices),
        devices[0],
        _make_local_engine(cores),
        (lambda count: _make_local_engine(gpus * count)()) if free else None,
    )


def _make_local_engine(devices: list[str]) -> Callable[[], Engine]:
    def make() -> Engine:
        engine = LocalEngine(devices)
        engine.warm()
        return engine

    return make


def _make_dask_engine(how: Execution, say: Callable[[str], None]) -> Callable[[], Engine]:
    try:
        from outerfold.study.engines.dask import (
            DaskEngine,  # an optional package that is slow to load
        )
    except ModuleNotFoundError as error:
        raise DataError(
            f"--engine dask needs the package {error.name}; install it with: "
            "pip install 'outerfold[dask]'"
        ) from None
    return lambda: DaskEngine(how.engine_address, how.workers, say)
