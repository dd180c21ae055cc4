"""What was found of data before: an audit of the same data by the same code is read, not repeated.

Every image is decoded and compared by an audit; of the same contents it would say the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from outerfold.storage import names
from outerfold.storage.audit import audit, cropped_copies, leaking_columns, near_duplicates
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.cache.row_store import digest
from outerfold.storage.images import pixels, read

AUDITORS = (audit, cropped_copies, leaking_columns, names, near_duplicates, pixels, read)
"""Modules whose text is part of what an audit is known by."""


def cached_warnings(
    cache: Path, find: Callable[[], tuple[str, ...]], **of: object
) -> tuple[str, ...]:
    """The warnings that ``find`` gives, kept in ``cache`` under all that they depend on.

    Args:
        of: in JSON's types; a data set stands in it by its fingerprint.

    Raises:
        DataError: ``find`` refuses the data; nothing is kept.
    """
    path = cache / "audits" / f"{digest({**of, 'code': _code_hash()})[:24]}.json"
    if path.exists():
        return tuple(read_json(path))
    found = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, list(found))
    return found


def _code_hash() -> str:
    texts = (Path(str(module.__file__)).read_bytes() for module in AUDITORS)
    return hashlib.sha256(b"".join(texts)).hexdigest()
