"""Handle from which training reads frozen representations; it loads neither torch nor an encoder.

It pickles to a path and a name, so a task for a worker process is small whatever the number of
images, and the worker process opens the memory maps itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outerfold.storage.cache.files import write_text
from outerfold.storage.cache.row_store import RowCache, StoredRows, digest
from outerfold.storage.records import DataError


@dataclass(frozen=True)
class EmbeddingTable:
    """Table of the rows of a handle; it is stored as JSON under the hash of its content.

    Attributes:
        pooled, tokens: stores in the cache; ``tokens`` is None without spatial tokens.
        dim: width of a pooled embedding.
        token_dim: width of a spatial token.
        views: largest view number plus 1.
        augmentation: key of the augmentation (``augmentation_key``); empty without augmented views.
        contents: SHA-256 of each row's image file, by id.
    """

    pooled: str
    tokens: str | None
    dim: int
    token_dim: int
    views: int
    augmentation: str
    contents: dict[str, str]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Handle of representations of rows, by id; it opens its memory maps at the first use.

    Attributes:
        cache: folder that ``embed`` was given.
        name: hash of the table of rows in that folder.
    """

    cache: Path
    name: str

    @classmethod
    def load(cls, cache: Path, name: str) -> Embeddings:
        """Return the handle of this name; a process has one handle a name, however often unpickled.

        Raises:
            DataError: the cache has no table of this name.
        """
        handle = _handle(cache, name)
        _ = handle.dim
        return handle

    def __reduce__(self) -> tuple[object, ...]:
        return _handle, (self.cache, self.name)

    def is_there(self) -> bool:
        """Whether this machine can find the table on disk."""
        return _table_path(self.cache, self.name).exists()

    @property
    def dim(self) -> int:
        """Width of a pooled embedding."""
        return self._table.dim

    @property
    def token_dim(self) -> int:
        """Width of a spatial token."""
        return self._table.token_dim

    @property
    def views(self) -> int:
        """Largest view number plus 1; view 0 is the image itself."""
        return self._table.views

    @property
    def stores(self) -> tuple[str, ...]:
        """Stores of the cache that hold the rows, as folders within the cache."""
        return tuple(filter(None, (self._table.pooled, self._table.tokens)))

    def with_tokens(self, store: str, token_dim: int) -> Embeddings:
        """Return a handle of the same rows, view 0 alone, with tokens from another store.

        Args:
            store: name of the store in the same cache.
            token_dim: width of its tokens.
        """
        changed = replace(self._table, tokens=store, token_dim=token_dim, views=1, augmentation="")
        return write_table(self.cache, changed)

    def pooled(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float32]:
        """Read pooled embeddings (n, dim) of the rows ``ids``, in their order.

        Raises:
            DataError: an id, or a view of one, was not embedded.
        """
        rows: NDArray[np.float32] = self.stored(ids, view, tokens=False)[:]
        return rows

    def tokens(self, ids: Sequence[str], view: int = 0) -> NDArray[np.float16]:
        """Read spatial tokens (n, tokens, token_dim) of the rows ``ids``, in their order.

        Raises:
            DataError: an id, or a view of one, was not embedded, or no tokens were kept.
        """
        rows: NDArray[np.float16] = self.stored(ids, view, tokens=True)[:]
        return rows

    def stored(self, ids: Sequence[str], view: int = 0, *, tokens: bool) -> StoredRows:
        """Return the rows of ``tokens`` or of ``pooled`` without reading them from disk yet.

        Raises:
            DataError: an id, or a view of one, was not embedded, or no tokens were kept.
        """
        if tokens and self._table.tokens is None:
            raise DataError("these embeddings hold no spatial tokens; embed with tokens=True")
        store = self._tokens if tokens else self._pooled
        contents = self._table.contents
        strangers = [name for name in ids if name not in contents]
        if strangers:
            raise DataError(
                f"ids {strangers[:3]} were not embedded ({len(strangers)} of {len(ids)}); "
                f"{len(contents)} others were"
            )
        names = [row_name(contents[name], view, self._table.augmentation) for name in ids]
        at = store.positions(names)
        absent = [name for name, position in zip(ids, at, strict=True) if position < 0]
        if absent:
            raise DataError(
                f"view {view} of {absent[:3]} was not embedded ({len(absent)} of {len(ids)} rows); "
                f"the last view that a row has is {self.views - 1}, and 0 is the image itself"
            )
        return store.view(at)

    @cached_property
    def _table(self) -> EmbeddingTable:
        path = _table_path(self.cache, self.name)
        try:
            return EmbeddingTable(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path}: no table of embeddings ({error}); the cache was moved or emptied: "
                f"run the study again to compute it anew"
            ) from None

    @cached_property
    def _pooled(self) -> RowCache:
        return RowCache.reopen(self.cache / self._table.pooled)

    @cached_property
    def _tokens(self) -> RowCache:
        return RowCache.reopen(self.cache / str(self._table.tokens))


@lru_cache(maxsize=64)
def _handle(cache: Path, name: str) -> Embeddings:
    return Embeddings(cache, name)


def _table_path(cache: Path, name: str) -> Path:
    return cache / "tables" / f"{name}.json"


def row_name(content: str, view: int, augmentation: str) -> str:
    """Return the store's name (64 hex digits) of one view of an image.

    View 0 has the image's hash as name, so a change of the augmentation keeps it.

    Args:
        content: SHA-256 of the image file.
        view: number of the view.
        augmentation: key of the augmentation (``augmentation_key``).
    """
    return digest({"of": content, "view": view, "by": augmentation}) if view else content


def write_table(cache: Path, table: EmbeddingTable) -> Embeddings:
    """Write a table under the hash of its content and return its handle."""
    name = digest(asdict(table))[:24]
    path, text = _table_path(cache, name), json.dumps(asdict(table))
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)
    return Embeddings(cache, name)
