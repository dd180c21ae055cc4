"""Source of a run's images: the data that the user names, the task's public set, or the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from outerfold.storage.cache.files import make_cache_folder
from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.datasets.kaggle import TASK_SETS, availability, download_dataset
from outerfold.storage.readers._base import ReadOptions
from outerfold.storage.readers.targets import Task
from outerfold.storage.records import DataError
from outerfold.study.config.record import DEMO

BANNER = (
    "{reason}\nThis run uses synthetic images (phantoms). "
    "Its numbers say nothing about any patient."
)


@dataclass(frozen=True)
class Source:
    """Source of a data set.

    Attributes:
        path: folder or file to read.
        key: text in the configuration: the path, the public set's handle, or ``demo``.
        name: name of the data in reports; None takes the name of the path.
        banner: warning to show in a box; empty for none.
    """

    path: Path
    key: str
    name: str | None = None
    banner: str = ""


def read_options(values: Mapping[str, Any]) -> ReadOptions:
    """Answers to what a source does not say, from options of a run by name."""
    names = {one.name for one in fields(ReadOptions)} & values.keys()
    given = {name: values[name] for name in names if values[name] not in (None, "")}
    return ReadOptions(**given, folds=values.get("outer_folds") or ReadOptions.folds)


def find_source(task: Task, given: str | None, *, cache: Path) -> Source:
    """Source of the data of a run.

    Args:
        task: ``multimodal`` or ``dbt``.
        given: value of ``--data``, which is never replaced by other data; ``demo`` means the
            synthetic images. None takes the public set, or the demo if that is unavailable.
        cache: folder to which the demo is written.

    Raises:
        DataError: ``given`` does not exist, or the download failed.
    """
    if task not in TASK_SETS and given in (None, DEMO):
        raise DataError(
            f"the {task} task has no public set and no demo; name data with --data PATH"
        )
    if given == DEMO:
        return _demo_source(task, cache, "The demo was requested with --data demo.")
    if given is not None:
        named = Path(given).expanduser()
        if not named.exists():
            raise DataError(f"--data {given}: no such folder or file; check the path")
        return Source(named, str(named.resolve()))
    found = availability(task)
    path = download_dataset(task) if found.state == "downloadable" else found.path
    if path is None:
        return _demo_source(
            task,
            cache,
            f"No --data was given, and the task's public data are unavailable: {found.reason}.",
        )
    handle = TASK_SETS[task]
    return Source(path, f"kaggle:{handle}", handle.split("/")[1])


def _demo_source(task: Task, cache: Path, reason: str) -> Source:
    root = cache / f"demo-{task}"
    if not root.exists():
        make_cache_folder(root.parent)
        write_demo(root, task=task)
    return Source(root, DEMO, f"{task}-demo", BANNER.format(reason=reason))
