"""Results of a run directory, with the options that its report states."""

from __future__ import annotations

from outerfold.storage.records import Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_run
from outerfold.study.config.option import stated_options
from outerfold.study.config.record import StudyConfig


def read_kept_run(folder: RunFolder) -> Run:
    """Everything that a report needs of a run, finished or not.

    Raises:
        DataError: the folder is no run directory, or no outer fold is finished.
    """
    return read_run(folder, stated_options(StudyConfig))
