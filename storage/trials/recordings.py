"""Files with the recordings of trials, kept in a study's folder until the study ends.

A file begins with its format and the SHA-256 of the rest, so that a damaged one is recognised.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from outerfold.storage.cache.files import write_bytes
from outerfold.storage.runs.folder import RunFolder

FOLDER, PREFIX = "recordings", "trial-"
FORMAT = b"outerfold recording 1\n"
"""First line of a file; its number is raised where the contents change."""


def write_recording(folder: RunFolder, study: str, number: int, contents: bytes) -> None:
    """Keep the recording of trial ``number``; a reader finds the whole file or none.

    Raises:
        OSError: the file cannot be written.
    """
    digest = sha256(contents).hexdigest().encode()
    path = folder.study(study) / FOLDER / f"{PREFIX}{number}"
    write_bytes(path, FORMAT + digest + b"\n" + contents)


def read_recording(folder: RunFolder, study: str, number: int) -> bytes | None:
    """Contents of a recording; None if it is missing, damaged or of another format."""
    try:
        found = (folder.study(study) / FOLDER / f"{PREFIX}{number}").read_bytes()
    except OSError:
        return None
    digest, _, contents = found.removeprefix(FORMAT).partition(b"\n")
    intact = found.startswith(FORMAT) and digest == sha256(contents).hexdigest().encode()
    return contents if intact else None


def list_recordings(folder: RunFolder, study: str) -> dict[int, Path]:
    """Files of recordings by number of the trial; drafts that are being written are left out."""
    found = (folder.study(study) / FOLDER).glob(f"{PREFIX}*")
    return {int(path.name.removeprefix(PREFIX)): path for path in found}


def remove_recordings(folder: RunFolder, study: str, numbers: Collection[int]) -> None:
    """Remove the recordings of these trials, where there are any."""
    for number, path in list_recordings(folder, study).items():
        if number in numbers:
            path.unlink(missing_ok=True)


def remove_all_recordings(folder: RunFolder, study: str) -> None:
    """Remove all recordings of a study that has ended, and drafts of killed writers."""
    shutil.rmtree(folder.study(study) / FOLDER, ignore_errors=True)
