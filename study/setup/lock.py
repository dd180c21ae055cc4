"""Lock of a run directory, so that only one process at a time works on a run."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from outerfold.storage.records import DataError


def lock_run(path: Path) -> FileLock:
    """Make and lock a run directory; it is locked as long as the returned lock exists.

    Raises:
        DataError: the directory cannot be written, another process works on it, or it holds a
            symbolic link, by which a run of others could have files written elsewhere.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"--run {path}: another process is working on this run; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise DataError(
            f"--run {path}: cannot be written ({error.strerror}); name another folder with --run"
        ) from None
    for held in (*path.glob("*"), *path.glob("*/*")):
        if held.is_symlink():
            lock.release()
            raise DataError(
                f"{held}: is a symbolic link, and what is written there would lie elsewhere; put "
                "the files themselves in its place"
            )
    return lock
