"""Which workers a run has, by its options."""

from __future__ import annotations

from collections.abc import Callable

from outerfold.storage.errors import DataError
from outerfold.study.config.record import Execution
from outerfold.study.engines.local import Engine, EngineStarter, LocalEngine


def starter_of(how: Execution, devices: list[str], say: Callable[[str], None]) -> EngineStarter:
    """This machine's workers, or those of a cluster.

    Args:
        devices: of this machine.
        say: is told what is waited for.

    Raises:
        DataError: the cluster does not answer, or the package to ask it is missing.
    """
    if how.engine == "dask":
        return EngineStarter(_cluster(how, say), devices[0])

    def make() -> Engine:
        engine = LocalEngine(devices)
        engine.warm()
        return engine

    return EngineStarter(make, devices[0])


def _cluster(how: Execution, say: Callable[[str], None]) -> Callable[[], Engine]:
    try:
        from outerfold.study.engines.dask import DaskEngine  # an extra, and slow to load
    except ModuleNotFoundError as error:
        raise DataError(
            f"--engine dask needs the package {error.name}; pip install 'outerfold[dask]'"
        ) from None
    return lambda: DaskEngine(how.engine_address, how.workers, say)
