"""Cache of audits: an audit of the same data by the same code is read and not repeated.

An audit decodes and compares every image, and gives the same result for the same contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from outerfold.storage import names
from outerfold.storage.audit import (
    audit,
    cropped_copies,
    leaking_columns,
    near_duplicates,
    suspected_patients,
)
from outerfold.storage.cache.files import make_cache_folder, read_kept, write_kept
from outerfold.storage.cache.row_store import digest
from outerfold.storage.images import dicom, pixels, rasters, read

AUDITORS = (
    audit,
    cropped_copies,
    dicom,
    leaking_columns,
    names,
    near_duplicates,
    pixels,
    rasters,
    read,
    suspected_patients,
)
"""Modules whose source text is part of an audit's key in the cache."""


def cached_warnings(
    cache: Path, find: Callable[[], tuple[str, ...]], **of: object
) -> tuple[str, ...]:
    """Warnings that ``find`` returns, kept in ``cache`` under everything that they depend on.

    Args:
        cache: folder of the cache.
        find: computes the warnings, if the cache does not hold them.
        of: everything besides the code that the warnings depend on, in JSON's types; the
            fingerprint stands for a data set.

    Raises:
        DataError: ``find`` refuses the data; nothing is kept then.
    """
    path = cache / "audits" / f"{digest({**of, 'code': _code_hash()})[:24]}.json"
    kept = read_kept(path)
    if kept is not None:
        return tuple(kept["warnings"])
    found = find()
    make_cache_folder(path.parent)
    write_kept(path, {"warnings": list(found)})
    return found


def _code_hash() -> str:
    """SHA-256 of the source text of all ``AUDITORS``."""
    texts = (Path(str(module.__file__)).read_bytes() for module in AUDITORS)
    return hashlib.sha256(b"".join(texts)).hexdigest()
