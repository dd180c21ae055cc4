"""Files written in one step: a draft beside the file is flushed to disk and then renamed.

A reader therefore finds a whole file or none.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from outerfold.storage.records import DataError

HASH = "sha256"
"""Entry of a kept file with the SHA-256 of the others."""
NO_HASH = "0" * 64
SHARED_VARIABLE = "OUTERFOLD_CACHE_SHARED"
"""Environment variable that hands ``--cache-shared`` to all processes that write the cache."""
_DRAFT = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Name of a draft: that of its file between a dot and eight letters of ``tempfile``."""


def write_bytes(path: Path, contents: bytes) -> Path:
    """Replace ``path`` in one step and return it; a crash leaves the old file or the new one.

    Missing folders are made. ``OSError`` is raised where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(contents)
            target.flush()
            os.fsync(target.fileno())
        draft.chmod(0o644)  # mkstemp sets 0600, but others must be able to read a run
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return path


def make_cache_folder(folder: Path) -> Path:
    """Make a folder of the cache and return it; only its owner may look into it.

    With ``share_cache`` it is as open as the user's umask lets it be. Folders that are there keep
    their permissions.
    """
    if folder.exists():
        return folder
    mode = 0o777 if os.environ.get(SHARED_VARIABLE) else 0o700
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            one.mkdir(mode, exist_ok=True)
    return folder


def share_cache() -> None:
    """Let this process and those that it starts make folders of the cache that others can read."""
    os.environ[SHARED_VARIABLE] = "1"


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk; without it a power loss may undo a renaming."""
    with suppress(OSError):  # some file systems of networks cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep_drafts(folder: Path) -> int:
    """Remove drafts that killed writers left in a folder; return their number.

    No process may be writing there.
    """
    drafts = [path for path in folder.glob(".*") if _DRAFT.fullmatch(path.name) and path.is_file()]
    for path in drafts:
        path.unlink(missing_ok=True)
    return len(drafts)


def write_text(path: Path, text: str) -> Path:
    """Replace ``path`` by ``text`` in UTF-8, in one step, and return it."""
    return write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> Path:
    """Replace ``path`` by ``content`` as JSON, in one step, and return it.

    Raises:
        ValueError: ``content`` holds NaN or an infinity, which JSON cannot express.
    """
    return write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """Bytes that ``write_json`` writes for ``content``."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path, remedy: str = "") -> Any:
    """Content that ``write_json`` wrote.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read; empty for nothing.

    Raises:
        DataError: the file cannot be read or is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        told = f"; {remedy}" if remedy else ""
        raise DataError(f"{path}: cannot be read as JSON ({error}){told}") from None


def write_hashed(path: Path, content: dict[str, Any]) -> Path:
    """Replace ``path`` by ``content`` as JSON with the SHA-256 of its bytes, for ``read_hashed``.

    The hash is that of the file with zeros in its place, so no reader has to encode JSON.
    """
    blank = json_bytes({**content, HASH: NO_HASH})
    return write_bytes(path, _put_hash(blank, NO_HASH, sha256(blank).hexdigest()))


def read_hashed(path: Path, remedy: str = "") -> dict[str, Any]:
    """Content that ``write_hashed`` wrote; a file of an earlier version without hash is accepted.

    Args:
        path: the file.
        remedy: what the user can do where it is not the one that was written; empty for a copy.

    Raises:
        DataError: the file cannot be read, or is not the one that was written.
    """
    content = read_json(path, remedy)
    remedy = remedy or "restore the file from a copy, or give another --run"
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no entries; {remedy}")
    found = content.pop(HASH, NO_HASH)
    if found != NO_HASH:
        blank = _put_hash(path.read_bytes(), str(found), NO_HASH)
        if sha256(blank).hexdigest() != found:
            raise DataError(
                f"{path}: is not the file that was written (its SHA-256 differs from the one in "
                f"it); {remedy}"
            )
    return content


def _put_hash(data: bytes, old: str, new: str) -> bytes:
    return new.encode().join(data.rsplit(old.encode(), 1))


def write_kept(path: Path, content: dict[str, Any]) -> Path:
    """Replace ``path`` by ``content`` as JSON with its SHA-256, for ``read_kept``."""
    return write_json(path, {**content, HASH: _hash_json(content)})


def read_kept(path: Path) -> dict[str, Any] | None:
    """Content that ``write_kept`` wrote; None where the file is absent or was damaged.

    A cache holds nothing that cannot be computed anew, so a damaged file is one that is absent.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = content.pop(HASH) == _hash_json(content)
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return content if whole else None


def _hash_json(content: dict[str, Any]) -> str:
    return sha256(json_bytes(content)).hexdigest()
