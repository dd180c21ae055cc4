"""Computation of frozen image representations: ``embed`` adds those that the cache lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from outerfold.pipelines.augmentation.views import STYLES, Views, augmentation_key
from outerfold.pipelines.encoders._base import (
    UNNAMED_BATCH,
    Encoded,
    Encoder,
    device_kind,
    recipe,
)
from outerfold.pipelines.images.ahead import Ahead
from outerfold.pipelines.images.decoded import (
    CHUNK,
    keep_squares,
    make_views,
    open_squares,
    square_key,
)
from outerfold.pipelines.images.devices import encode_batches, encoding_devices
from outerfold.pipelines.images.embeddings import Embeddings, EmbeddingTable, row_name, write_table
from outerfold.storage.cache.row_store import RowCache, Writer
from outerfold.storage.cores import count_cores
from outerfold.storage.images.read import content_hash
from outerfold.storage.records import DataError, Features

AT_ONCE = 64
"""Number of images whose views are one task, and that are given at once to an encoder with a named
backend, which divides them itself; more where its batches are larger."""

__all__ = ["Embeddings", "count_missing", "embed", "embedded_squares"]

Progress = Callable[[int, int], None]
"""Function of (steps done, steps in all)."""


class _Job(NamedTuple):
    name: str  # name of the row in the stores
    content: str  # SHA-256 of the image file
    view: int


# Longer than 30 lines: half of it is keyword arguments, one a line.
def embed(
    features: Features,
    encoder: Encoder,
    *,
    cache: Path,
    views: int | Mapping[str, int] | Views = 1,
    tokens: bool = True,
    device: str | Sequence[str] = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Embed every row that the cache lacks; after a kill, a new call continues the work.

    Args:
        features: rows; only ids and image files matter.
        encoder: encoder from ``outerfold.pipelines.encoders.registry.build``.
        cache: folder for all stores; studies and processes may share it.
        views: number of views of each row with view 0 counted, either one number or a number by id
            (1 where absent), made by the first of ``STYLES``; or ``Views``, which name the views
            and their style.
        tokens: whether to keep the spatial tokens too.
        device: device of the encoder, with which all GPUs of its model share the work, or the
            devices that share it; values of different kinds of device are stored separately.
        threads: number of the encoder's threads and of the workers that read images and make views,
            all cores when None; torch's number of threads is restored afterwards.
        progress: function called with (steps done, steps in all); a step is an image decoded or a
            view encoded. It is not called when nothing is missing.

    Raises:
        DataError: an image cannot be read, or an embedding is not finite.
        ValueError: a row with less than one view.
    """
    devices = encoding_devices(encoder, device) if isinstance(device, str) else tuple(device)
    threads = threads or count_cores()
    style = views.style if isinstance(views, Views) else STYLES[0]
    wanted = _view_numbers(features, views)
    most = 1 + max((max(numbers) for numbers in wanted.values()), default=0)
    contents = _hash_images(features, threads)
    augmentation = augmentation_key(style) if most > 1 else ""
    jobs = _list_jobs(contents, wanted, augmentation)
    pooled, grid = _open_stores(cache, encoder, devices[0])
    names = [job.name for job in jobs]
    stores = tuple(store.mended(names) for store in ((pooled, grid) if tokens else (pooled,)))
    if _missing_jobs(stores, jobs):
        paths = dict(zip(contents.values(), features.images.tolist(), strict=True))
        work = _Work(encoder, devices, stores, paths, cache, style, threads, progress)
        with _torch_threads(threads):
            work.run(jobs)
    table = EmbeddingTable(
        pooled=pooled.folder.relative_to(cache).as_posix(),
        tokens=grid.folder.relative_to(cache).as_posix() if tokens else None,
        dim=encoder.dim,
        token_dim=encoder.token_dim,
        views=most,
        augmentation=augmentation,
        contents=contents,
    )
    return write_table(cache, table)


def count_missing(
    features: Features,
    encoder: Encoder,
    *,
    cache: Path,
    views: Views,
    device: str,
    tokens: bool = True,
) -> int:
    """Number of views that ``embed`` would have to encode."""
    contents = _hash_images(features, count_cores())
    augmentation = augmentation_key(views.style) if max(views.numbers) else ""
    jobs = _list_jobs(contents, _view_numbers(features, views), augmentation)
    stores = _open_stores(cache, encoder, device)
    return len(_missing_jobs(stores if tokens else stores[:1], jobs))


def embedded_squares(
    features: Features, frozen: Embeddings, encoder: Encoder, *, progress: Progress | None = None
) -> Embeddings:
    """Return a handle of the same rows with decoded 8-bit images (n, s, s, 3) in place of tokens.

    Args:
        features: rows; only ids and image files matter.
        frozen: embeddings of these rows by ``encoder``.
        encoder: encoder whose image size and framing the images get.
        progress: function called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
    """
    threads, cache = count_cores(), frozen.cache
    contents = _hash_images(features, threads)
    paths = dict(zip(contents.values(), features.images.tolist(), strict=True))
    store, done = open_squares(cache, encoder.image_size, encoder.framing), 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(paths))

    with Ahead(threads) as ahead:
        squares = keep_squares(store, paths, encoder.framing, ahead=ahead, done=step)
    return frozen.with_tokens(squares.folder.relative_to(cache).as_posix(), 3)


@dataclass(frozen=True, eq=False)
class _Work:
    """Work of one call on the missing rows: decode, augment, encode, append."""

    encoder: Encoder
    devices: tuple[str, ...]
    stores: tuple[RowCache, ...]  # pooled, then tokens where they are kept
    paths: dict[str, str]  # image file by content
    cache: Path
    style: str
    threads: int
    progress: Progress | None

    def run(self, jobs: Sequence[_Job]) -> None:
        """Compute and store the rows of ``jobs`` that are missing; a lock admits one process."""
        side, framing = self.encoder.image_size, self.encoder.framing
        with ExitStack() as stack:
            writers = [stack.enter_context(store.writing()) for store in self.stores]
            missing = _missing_jobs([writer.store for writer in writers], jobs)
            step = self._make_step(missing)
            needed = {job.content: self.paths[job.content] for job in missing}
            ahead = stack.enter_context(Ahead(self.threads))
            store = open_squares(self.cache, side, framing)
            squares = keep_squares(store, needed, framing, ahead=ahead, done=step)
            self._embed_jobs(missing, squares, writers, ahead, step)

    def _make_step(self, missing: Sequence[_Job]) -> Callable[[int], None]:
        """Return a function that reports a number of finished steps to ``progress``."""
        store = open_squares(self.cache, self.encoder.image_size, self.encoder.framing)
        undecoded = store.missing(list({job.content for job in missing}))
        total, done = len(missing) + len(undecoded), 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            if self.progress is not None:
                self.progress(done, total)

        return step

    def _embed_jobs(
        self,
        missing: Sequence[_Job],
        squares: RowCache,
        writers: Sequence[Writer],
        ahead: Ahead,
        step: Callable[[int], None],
    ) -> None:
        """Encode and store jobs, in commits of ``CHUNK`` rows."""
        chunks = _divide(missing, CHUNK)
        batches = [batch for chunk in chunks for batch in _divide(chunk, self._batch_size())]
        views = partial(make_views, folder=squares.folder, rows=len(squares), style=self.style)
        tasks = [_divide(batch, AT_ONCE) for batch in batches]
        wanted = ([(job.content, job.view) for job in task] for each in tasks for task in each)
        count = sum(job.view > 0 for job in missing)  # the image itself takes no work
        made = ahead.map(views, wanted, images=count)
        joined = (np.concatenate(list(islice(made, len(each)))) for each in tasks)
        images = joined if self.encoder.backend else map(_padded, joined)
        found = encode_batches(self.encoder, self.devices, images)
        names: list[str] = []
        parts: list[tuple[NDArray[np.float32], NDArray[np.float16]]] = []
        for batch, encoded in zip(batches, found, strict=True):
            parts.append(self._take_rows(batch, encoded))
            names.extend(job.name for job in batch)
            step(len(batch))
            if len(names) >= CHUNK or batch is batches[-1]:
                _store_rows(
                    writers, names, [np.concatenate(each) for each in zip(*parts, strict=True)]
                )
                names, parts = [], []

    def _batch_size(self) -> int:
        """Number of images that are encoded in one call."""
        if not self.encoder.backend:
            return UNNAMED_BATCH
        return max(AT_ONCE, self.encoder.batch(device_kind(self.encoder, self.devices[0])))

    def _take_rows(
        self, batch: Sequence[_Job], encoded: Encoded
    ) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
        """Values of a batch's images, without those of padding."""
        pooled, tokens = encoded.pooled[: len(batch)], encoded.tokens[: len(batch)]
        sound = np.isfinite(pooled).all(axis=1) & np.isfinite(tokens).all(axis=(1, 2))
        if not sound.all():
            bad = self.paths[batch[int(np.argmin(sound))].content]
            raise DataError(
                f"{bad}: {self.encoder.name} gives values for this image that are not finite"
            )
        return pooled, tokens


def _store_rows(
    writers: Sequence[Writer], names: Sequence[str], rows: Sequence[NDArray[Any]]
) -> None:
    """Append to each store the rows that it lacks; tokens have no store where none are kept."""
    for writer, values in zip(writers, rows, strict=False):
        new = np.flatnonzero(writer.store.positions(names) < 0)
        if len(new):
            writer.append([names[i] for i in new.tolist()], values[new])


def _divide(jobs: Sequence[_Job], size: int) -> list[Sequence[_Job]]:
    """Jobs in parts of at most ``size``, in their order."""
    return [jobs[at : at + size] for at in range(0, len(jobs), size)]


def _padded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad images with black ones to the batch of an encoder without a named backend."""
    full = np.zeros((UNNAMED_BATCH, *images.shape[1:]), np.uint8)
    full[: len(images)] = images
    return full


def _missing_jobs(stores: Sequence[RowCache], jobs: Sequence[_Job]) -> list[_Job]:
    """Jobs whose row at least one store lacks, in their order."""
    names = [job.name for job in jobs]
    absent = np.any([store.positions(names) < 0 for store in stores], axis=0)
    return [jobs[i] for i in np.flatnonzero(absent).tolist()]


def _open_stores(cache: Path, encoder: Encoder, device: str) -> tuple[RowCache, RowCache]:
    kind = device_kind(encoder, device)
    key = {
        **recipe(encoder),
        "squares": square_key(encoder.image_size, encoder.framing),
        "device": kind,
        "batch": encoder.batch(kind),
    }
    grid = (encoder.tokens, encoder.token_dim)
    return (
        RowCache.open(cache / "pooled", key, (encoder.dim,), np.float32),
        RowCache.open(cache / "tokens", key, grid, np.float16),
    )


def _hash_images(features: Features, threads: int) -> dict[str, str]:
    """Compute the SHA-256 of each row's image file, by id."""
    with ThreadPoolExecutor(threads) as pool:
        hashes = list(pool.map(content_hash, features.images.tolist()))
    return dict(zip(features.ids.tolist(), hashes, strict=True))


def _view_numbers(
    features: Features, views: int | Mapping[str, int] | Views
) -> dict[str, tuple[int, ...]]:
    """View numbers of each row, by id."""
    ids = features.ids.tolist()
    if isinstance(views, Views):
        return dict.fromkeys(ids, views.numbers)
    if isinstance(views, int):
        counts = dict.fromkeys(ids, views)
    else:
        features.positions(list(views))
        counts = {name: views.get(name, 1) for name in ids}
    low = [name for name, count in counts.items() if count < 1]
    if low:
        raise ValueError(
            f"every row has at least view 0: the number of views of {low[:3]} must be 1 or more"
        )
    return {name: tuple(range(count)) for name, count in counts.items()}


def _list_jobs(
    contents: Mapping[str, str], wanted: Mapping[str, tuple[int, ...]], augmentation: str
) -> list[_Job]:
    """List every view of every row once, first view 0 of all rows."""
    jobs: dict[str, _Job] = {}
    for view in sorted({view for numbers in wanted.values() for view in numbers}):
        for name, content in contents.items():
            if view in wanted[name]:
                job = _Job(row_name(content, view, augmentation), content, view)
                jobs.setdefault(job.name, job)
    return list(jobs.values())


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
