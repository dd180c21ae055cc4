"""What a command asks of its process: an end by SIGTERM, output of any names, errors in words."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FAULT = (
    "outerfold: this is a fault of outerfold and not of your data; please report the lines below, "
    "the command and what `outerfold --version` prints. What was finished is kept"
)
"""Sentence before the traceback of an error that nobody foresaw."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free space there, and give the same command again: what was "
    "finished is kept",
    errno.EDQUOT: "your quota of the disk is used up; free space there, and give the same command "
    "again: what was finished is kept",
    errno.EACCES: "permission denied; change its permissions, or name another place",
    errno.EPERM: "permission denied; change its permissions, or name another place",
    errno.EROFS: "the disk can only be read; name another place",
    errno.ENOENT: "no such file or folder; it may have been removed while the command ran",
    errno.ENOTDIR: "a file stands where a folder must be; name another place",
    errno.EISDIR: "a folder stands where a file must be; name another place",
    errno.EEXIST: "a file stands where a folder must be; name another place",
    errno.ENAMETOOLONG: "the name is too long for this disk; name a shorter path",
    errno.EMFILE: "too many files are open; raise the limit with `ulimit -n 4096`",
    errno.EIO: "the disk did not answer; check it, and give the same command again",
}


def describe_os_error(error: OSError) -> str:
    """One sentence on an error of the operating system: which file, what happened, what to do."""
    place = f"{error.filename}: " if error.filename else ""
    said = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; check it, and try again")
    return place + said


def write_any_name() -> None:
    """Let output show escapes in place of letters that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` on SIGTERM, for example at a cluster's time limit."""
    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
