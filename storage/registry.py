"""Records by name: what a kind of thing may be, which others may add to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, TypeVar

from outerfold.storage.errors import DataError, unknown_name


def load_part(part: Any) -> Any:
    """The thing that a record names as ``module:name``; anything else is returned as it is.

    Example:
        >>> load_part("math:sqrt")(9.0)
        3.0
    """
    if not isinstance(part, str):
        return part
    module, name = part.split(":")
    return getattr(import_module(module), name)


@contextmanager
def adding_for(owner: str) -> Iterator[None]:
    """Let records be added, in the name of a plugin."""
    global _adding
    before, _adding = _adding, owner
    try:
        yield
    finally:
        _adding = before


def withdraw_all(owner: str) -> None:
    """Remove the records that a plugin added to any registry."""
    for registry in _registries:
        registry.withdraw(owner)


def added_by(owner: str) -> list[str]:
    """What a plugin added to all registries, such as ``metric log_loss``."""
    return [f"{each.what} {name}" for each in _registries for name in each.added_by(owner)]


def anything_added() -> bool:
    """Whether a plugin added a record to any registry of this process."""
    return any(each.is_extended for each in _registries)


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str:
        """Name of the record, which is its key."""


T = TypeVar("T", bound=Named)
_registries: list[Registry[Any]] = []
_adding: str | None = None


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
        self._records: dict[str, T] = {record.name: record for record in records}
        self._owners: dict[str, str] = {}
        _registries.append(self)

    def add(self, record: T) -> T:
        """Add a record of a plugin, and return it.

        Raises:
            DataError: the name is taken, or is no name that an option can have; or no plugin is
                being loaded, so that worker processes would not know the record.
        """
        if _adding is None:
            raise DataError(
                f"{self.what} {record.name!r} is added outside a plugin, such as in a notebook, "
                "and worker processes cannot read it there; write it to a file and name that "
                "with --plugin FILE.py"
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]+", record.name):
            raise DataError(
                f"{self.what} {record.name!r}: a name consists of letters, digits, hyphens and "
                "underscores; choose another name"
            )
        if record.name in self._records:
            raise DataError(
                f"{self.what} {record.name!r} is added twice, or is there already; choose another "
                "name"
            )
        self._records[record.name] = record
        self._owners[record.name] = _adding
        return record

    def named(self, name: str) -> T:
        """The record of this name.

        Raises:
            DataError: there is none; a similar name is suggested.
        """
        if name not in self._records:
            raise DataError(unknown_name(self.what, name, self))
        return self._records[name]

    def added_by(self, owner: str) -> list[str]:
        """Names of the records that a plugin added."""
        return [name for name, by in self._owners.items() if by == owner]

    def is_added(self, name: str) -> bool:
        """Whether a plugin added the record of this name."""
        return name in self._owners

    @property
    def is_extended(self) -> bool:
        """Whether a plugin added a record."""
        return bool(self._owners)

    def withdraw(self, owner: str) -> None:
        """Remove the records that a plugin added."""
        for name in self.added_by(owner):
            del self._records[name], self._owners[name]

    def __getitem__(self, name: str) -> T:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)
