"""Public data set of each task on Kaggle, from the local cache or by download."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from outerfold.storage.images.read import is_image
from outerfold.storage.network import VARIABLE, offline_reason
from outerfold.storage.readers.mini_ddsm import find_sheets
from outerfold.storage.readers.targets import Task
from outerfold.storage.records import DataError

TASK_SETS: dict[Task, str] = {
    "dbt": "gabrielcarvalho11/breast-cancer-screening-dbt/versions/1",
    "multimodal": "cheddad/miniddsm/versions/1",
}
"""Kaggle handle and version of each task's set; later versions on Kaggle change no study."""

HOST = ("www.kaggle.com", 443)
PATIENCE = 3.0
"""Seconds to wait for Kaggle's first answer; kagglehub itself waits and retries far longer."""
MAX_DEPTH = 3
"""Depth of the folders below an archive's root that are searched for the data root."""


@dataclass(frozen=True)
class Availability:
    """Availability of a task's Kaggle set.

    Attributes:
        state: ``local`` (in kagglehub's cache), ``downloadable``, or ``unavailable``.
        path: the data root if the state is ``local``, else None.
        reason: one sentence for the user.
    """

    state: Literal["local", "downloadable", "unavailable"]
    path: Path | None
    reason: str


def availability(task: Task) -> Availability:
    """Availability of the task's set, found within a few seconds, also without a network.

    Raises:
        DataError: the set is in the cache but holds no data root.
    """
    handle = TASK_SETS[task]
    folder = cached_folder(task)
    if folder is not None:
        root = data_root(folder)
        return Availability("local", root, f"Kaggle set {handle} is in the local cache at {root}")
    failure = _connection_failure()
    if failure is not None:
        return Availability(
            "unavailable",
            None,
            f"Kaggle set {handle} is not in the local cache ({_cache_path(handle)}), "
            f"and Kaggle cannot be reached: {failure}",
        )
    return Availability("downloadable", None, f"Kaggle set {handle} can be downloaded")


def find_or_download(task: Task) -> Path | None:
    """Data root of the task's set, downloaded if necessary; None if the set is unavailable.

    ``availability`` gives the reason for None.

    Raises:
        DataError: Kaggle refused the download, or the download broke off.
    """
    found = availability(task)
    return download_dataset(task) if found.state == "downloadable" else found.path


def download_dataset(task: Task) -> Path:
    """Download the task's set into kagglehub's cache and return its data root.

    Raises:
        DataError: Kaggle refused (sign-in, unknown version) or the download broke off; the
            message holds Kaggle's.
    """
    import kagglehub
    import requests
    from kagglehub import exceptions as kaggle

    refused = (kaggle.UnauthenticatedError, kaggle.CredentialError, kaggle.NotFoundError)
    broken = (kaggle.BackendError, kaggle.DataCorruptionError, requests.RequestException, OSError)
    handle = TASK_SETS[task]
    try:
        folder = kagglehub.dataset_download(handle)
    except (*refused, *broken, ValueError) as error:
        raise DataError(
            f"Kaggle set {handle} could not be downloaded ({error}); try again, download it by "
            "hand and pass --data FOLDER, or run the demo"
        ) from error
    return data_root(Path(folder))


def cached_folder(task: Task) -> Path | None:
    """Folder of the complete local copy of the task's set in kagglehub's cache; None if absent."""
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_dataset_handle

    folder = Cache().load_from_cache(parse_dataset_handle(TASK_SETS[task]))
    return None if folder is None else Path(folder)


def data_root(folder: Path) -> Path:
    """Folder in ``folder`` that a reader can read: it holds a Mini-DDSM sheet or class folders.

    Archives put it inside up to three other folders. Of several, the one inside the fewest is
    taken, and of these the first by name (JPEG before PNG).

    Raises:
        DataError: there is no such folder.
    """
    levels = list(_levels(folder))
    for level in levels:
        for candidate in level:
            if find_sheets(candidate):
                return candidate
    for level in levels:
        for candidate in level:
            if _holds_classes(candidate):
                return candidate
    raise DataError(f"{folder}: holds neither a Mini-DDSM sheet nor class folders with images")


def _levels(folder: Path) -> Iterator[list[Path]]:
    level = [folder]
    for _ in range(MAX_DEPTH + 1):
        yield level
        level = sorted(sub for parent in level for sub in parent.iterdir() if sub.is_dir())


def _holds_classes(folder: Path) -> bool:
    """Whether at least two folders in ``folder`` directly hold images."""
    subs = [sub for sub in folder.iterdir() if sub.is_dir()]
    return sum(any(is_image(path) for path in sub.iterdir()) for sub in subs) >= 2


def _cache_path(handle: str) -> Path:
    from kagglehub.cache import get_cached_path
    from kagglehub.handle import parse_dataset_handle

    return Path(get_cached_path(parse_dataset_handle(handle)))


def _connection_failure() -> str | None:
    """Reason why Kaggle does not answer; None if it answers.

    If the environment names a proxy, the proxy is asked instead of Kaggle. Offline, nothing is.
    """
    if os.environ.get(VARIABLE):
        return offline_reason()
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    parts = urlsplit(proxy) if proxy else None
    host = (parts.hostname or HOST[0], parts.port or 443) if parts else HOST
    outcome: list[str | None] = []
    probe = threading.Thread(target=lambda: outcome.append(_try_connection(host)), daemon=True)
    probe.start()
    probe.join(PATIENCE)  # socket timeouts do not cover a name server that does not answer
    return outcome[0] if outcome else f"no answer from {host[0]} within {PATIENCE:.0f} s"


def _try_connection(host: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(host, timeout=PATIENCE).close()
    except OSError as error:
        return f"{host[0]}: {error}"
    return None
