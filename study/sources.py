"""Where a run's images come from: what the user names, the task's public set, or the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.demo import write_demo
from storage.records import DataError

DEMO = "demo"

BANNER = (
    "SYNTHETIC DATA. No --data was given and the task's public data set cannot be had: {reason}\n"
    "What follows runs on procedural phantoms. Its numbers say nothing about any patient."
)


@dataclass(frozen=True)
class Source:
    """A data set to be read.

    Attributes:
        path: its root.
        key: what the configuration keeps: the path, the public set's handle, or ``demo``.
        name: what reports call it, None for the reader's choice.
        banner: a warning no one can miss, or empty.
    """

    path: Path
    key: str
    name: str | None = None
    banner: str = ""


def find_source(task: str, given: str | None, *, cache: Path) -> Source:
    """The data of a run.

    Args:
        given: ``--data``; with it nothing is ever substituted. ``demo`` asks for the phantoms.
        cache: where the demo is written.

    Raises:
        DataError: ``given`` does not exist.
    """
    if given == DEMO:
        return _demo(task, cache, "the demo was asked for with --data demo.")
    if given is not None:
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError(f"--data {given}: no such folder or file; check the path")
        return Source(path, str(path.resolve()))
    from storage.kaggle import find_public_set

    found = find_public_set(task)
    if found.path is not None:
        return Source(found.path, f"kaggle:{found.handle}", found.handle.split("/")[-1])
    return _demo(task, cache, found.reason)


def _demo(task: str, cache: Path, reason: str) -> Source:
    root = cache / f"demo-{task}"
    if not root.exists():
        write_demo(root, task=task)  # type: ignore[arg-type]
    return Source(root, DEMO, f"{task}-demo", BANNER.format(reason=reason))
