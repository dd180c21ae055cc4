"""Files that are whole or absent: written aside, flushed to the disk, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from outerfold.storage.records import DataError


def write_bytes(path: Path, contents: bytes) -> Path:
    """Replace ``path`` in one step; a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(contents)
            target.flush()
            os.fsync(target.fileno())
        draft.chmod(0o644)  # mkstemp makes it 0600, and a run is to be shared
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """UTF-8 text, whole or absent."""
    return write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> Path:
    """JSON, whole or absent; NaN is refused, since JSON has none."""
    return write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote; a file that is not JSON raises ``DataError``."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no UTF-8
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
