"""Embeddings for a worker on another machine, which may not see the driver's cache."""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import lru_cache

from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.pipelines.rows.training_rows import SourcesByEncoder
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import StudyConfig
from outerfold.study.plugins import load_plugins
from outerfold.study.setup.encoder_backend import attach_backend
from outerfold.study.setup.represent import build_encoders, embed_rows
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker.session import WorkerContext


@lru_cache(maxsize=1)
def with_local_embeddings(context: WorkerContext) -> WorkerContext:
    """The context with embeddings that this machine can read.

    If the driver's cache is not on a shared path, the worker computes the same table from the
    same images into its own cache. The name of a table depends on everything that it was made of,
    so another name means other images, other weights or another kind of device.

    Raises:
        DataError: the images or the encoder are unavailable here, or differ from the driver's.
    """
    wanted = _list_tables(context)
    if all(table.is_there() for table in wanted):
        return context
    host, cache = socket.gethostname(), wanted[0].cache
    prepared = _open_run(context)
    config = prepared.config
    try:
        built = embed_rows(
            prepared,
            attach_backend(config, build_encoders(config), cache_folder()),
            cache=cache_folder(),
            device=context.encoded_on,
            progress=lambda done, total: None,
        )
    except DataError as error:
        raise DataError(
            f"the worker on {host} does not see the cache {cache} and cannot make its own: "
            f"{error}; put OUTERFOLD_CACHE on a path that every worker shares"
        ) from None
    own = replace(context, embeddings=built)
    if [table.name for table in _list_tables(own)] != [table.name for table in wanted]:
        raise DataError(
            f"the worker on {host} does not see the cache {cache} of the driver and made other "
            "embeddings, since its images or its encoder differ; put OUTERFOLD_CACHE on a path "
            "that every worker shares"
        )
    return own


def _open_run(context: WorkerContext) -> PreparedRun:
    """The run, with its plugins loaded here."""
    load_plugins(context.plugins)
    folder = RunFolder(context.run)
    config = StudyConfig.from_toml(folder.read_config())
    data = folder.read_dataset()
    return PreparedRun(folder, config, data, folder.read_splits(data))


def _list_tables(context: WorkerContext) -> list[Embeddings]:
    sources = context.embeddings
    each = [s for _, s in sources.sources] if isinstance(sources, SourcesByEncoder) else [sources]
    return [source for source in each if isinstance(source, Embeddings)]
