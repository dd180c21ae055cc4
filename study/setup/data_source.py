"""Where a run's images come from: what the user names, the task's public set, or the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.datasets.kaggle import TASK_SETS, availability, download_dataset
from outerfold.storage.readers.targets import Task
from outerfold.storage.records import DataError
from outerfold.study.config.record import DEMO

BANNER = (
    "{reason}\nWhat follows runs on procedural phantoms. Its numbers say nothing about any patient."
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


def find_source(task: Task, given: str | None, *, cache: Path) -> Source:
    """The data of a run.

    Args:
        given: ``--data``; with it nothing is ever substituted. ``demo`` asks for the phantoms.
        cache: where the demo is written.

    Raises:
        DataError: ``given`` does not exist.
    """
    if given == DEMO:
        return _demo(task, cache, "The demo was asked for with --data demo.")
    if given is not None:
        named = Path(given).expanduser()
        if not named.exists():
            raise DataError(f"--data {given}: no such folder or file; check the path")
        return Source(named, str(named.resolve()))
    found = availability(task)
    path = download_dataset(task) if found.state == "downloadable" else found.path
    if path is None:
        return _demo(
            task,
            cache,
            f"No --data was given, and the task's public data cannot be had: {found.reason}.",
        )
    handle = TASK_SETS[task]
    return Source(path, f"kaggle:{handle}", handle.split("/")[1])


def _demo(task: Task, cache: Path, reason: str) -> Source:
    root = cache / f"demo-{task}"
    if not root.exists():
        write_demo(root, task=task)
    return Source(root, DEMO, f"{task}-demo", BANNER.format(reason=reason))
