"""Records by name: what a kind of thing may be, which others may add to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from outerfold.storage.errors import DataError, unknown_name


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str:
        """Name of the record, which is its key."""


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """Records of one kind by name, in the order in which they were added.

    Args:
        what: the kind in words, such as ``metric``, for messages.
        records: records that belong to it from the start.

    Example:
        >>> from types import SimpleNamespace
        >>> shapes = Registry("shape", [SimpleNamespace(name="disk")])
        >>> list(shapes)
        ['disk']
    """

    def __init__(self, what: str, records: Iterable[T] = ()) -> None:
        self.what = what
        self._records: dict[str, T] = {}
        for record in records:
            self.add(record)

    def add(self, record: T) -> T:
        """Add a record, and return it.

        Raises:
            DataError: the name is taken, or is no name that an option can have.
        """
        if not record.name or not set(record.name) <= _ALLOWED:
            raise DataError(
                f"{self.what} {record.name!r}: a name consists of lower-case letters, digits, "
                "hyphens and underscores; choose another name"
            )
        if record.name in self._records:
            raise DataError(
                f"{self.what} {record.name!r} is added twice, or is there already; choose another "
                "name"
            )
        self._records[record.name] = record
        return record

    def named(self, name: str) -> T:
        """The record of this name.

        Raises:
            DataError: there is none; a similar name is suggested.
        """
        if name not in self._records:
            raise DataError(unknown_name(self.what, name, self))
        return self._records[name]

    def discard(self, name: str) -> None:
        """Remove a record; nothing happens where there is none of this name."""
        self._records.pop(name, None)

    def __getitem__(self, name: str) -> T:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
