"""Results of a run directory, with the options that its report states."""

from __future__ import annotations

from collections.abc import Sequence

from outerfold.storage.records import FoldResult, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_run
from outerfold.study.config.option import stated_options
from outerfold.study.config.record import StudyConfig
from outerfold.study.plugins import require_plugins


def read_kept_run(folder: RunFolder, done: Sequence[FoldResult] | None = None) -> Run:
    """Everything that a report needs of a run, finished or not.

    Args:
        folder: directory of the run.
        done: results of its finished studies, where they were read already.

    Raises:
        DataError: the folder is no run directory, no outer fold is finished, or a plugin of the
            run is not loaded.
    """
    require_kept_plugins(folder)
    return read_run(folder, stated_options(StudyConfig), done)


def require_kept_plugins(folder: RunFolder) -> None:
    """Check that the plugins of a run are loaded, unchanged.

    Raises:
        DataError: one is missing, or differs.
    """
    if folder.started():
        require_plugins(folder.read_config().get("plugin", ()), str(folder.path))
