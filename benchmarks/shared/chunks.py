"""Chunks of replicates: run in parallel, kept on disk, reused while the code is unchanged."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

from outerfold.study.engines.local import ONE_THREAD

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Chunk:
    """Replicates ``first`` ... ``first + count - 1`` of one setting.

    Attributes:
        setting: determines every replicate, together with the seed; its ``repr`` names the folder.
        folder: folder of all chunks that the same code made.
    """

    setting: Any
    first: int
    count: int
    seed: int
    folder: Path

    @property
    def context(self) -> Path:
        """File of the chunk; it exists once the chunk is finished."""
        key = hashlib.sha256(repr(self.setting).encode()).hexdigest()[:8]
        return self.folder / key / f"seed{self.seed}-{self.first:05d}+{self.count}.npz"


def chunks_of(setting: Any, replicates: int, *, size: int, seed: int, folder: Path) -> list[Chunk]:
    """Divide all replicates of a setting into chunks of ``size``; the last may be smaller."""
    starts = range(0, replicates, size)
    return [Chunk(setting, at, min(size, replicates - at), seed, folder) for at in starts]


def run_chunks(chunks: Sequence[Chunk], work: Callable[[Chunk], Arrays], workers: int) -> None:
    """Run every chunk that is not on disk yet; print a line of progress when one ends."""
    waiting = [chunk for chunk in chunks if not chunk.context.exists()]
    print(f"{len(chunks) - len(waiting)} of {len(chunks)} chunks are done already", flush=True)
    os.environ.update(ONE_THREAD)  # workers inherit it
    start = time.perf_counter()
    with parallel_config(backend="loky", inner_max_num_threads=1):
        done: Iterable[str] = Parallel(n_jobs=workers, return_as="generator_unordered")(
            delayed(_run)(chunk, work) for chunk in waiting
        )
        for count, name in enumerate(done, 1):
            left = (time.perf_counter() - start) / count * (len(waiting) - count) / 60
            print(f"{count}/{len(waiting)} chunks, {left:.0f} min left, last: {name}", flush=True)


def join_chunks(chunks: Sequence[Chunk]) -> Arrays:
    """Arrays of one setting's finished chunks, joined on their first axis, the replicates."""
    parts = [np.load(chunk.context) for chunk in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}


def source_hash(files: Iterable[Path]) -> str:
    """Hash of the source files; kept chunks are valid only for the same hash."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _run(chunk: Chunk, work: Callable[[Chunk], Arrays]) -> str:
    """Run a chunk and keep it in one file; a killed chunk leaves no file."""
    arrays = work(chunk)
    context = chunk.context
    context.parent.mkdir(parents=True, exist_ok=True)
    draft = context.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(draft, **arrays)
    draft.replace(context)
    return str(chunk.setting.name)
