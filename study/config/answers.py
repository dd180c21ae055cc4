"""Answers to what a data set does not say, as a configuration file: a job is never asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from outerfold.storage.cache.files import write_bytes
from outerfold.study.config.execution import Execution
from outerfold.study.config.option import DATA, list_options
from outerfold.study.config.record import DEMO, StudyConfig

FURTHER = ("task", "outer_folds", "inner_folds")
"""Options outside the group of data that an audit takes."""


def write_answers(path: Path, options: Mapping[str, Any], classes: Sequence[str]) -> Path:
    """Write the options of an audit that are given, and the positive class that was found.

    Args:
        path: TOML file to write, which ``run --config`` takes.
        options: options of the audit by name; None stands for one that is not given.
        classes: classes of the data in their order; of two, the last is positive.

    Returns:
        The path.
    """
    names = [
        one.name
        for one in list_options([StudyConfig, Execution])
        if one.option.group == DATA or one.name in FURTHER
    ]
    given = {name: options.get(name) for name in names}
    if len(classes) == 2 and given["data"] != DEMO:
        given["positive"] = classes[-1]
    if given["data"] != DEMO:
        given["data"] = str(Path(str(given["data"])).expanduser().resolve())
    kept = {name: value for name, value in given.items() if value not in (None, "", (), False)}
    return write_bytes(path, tomli_w.dumps(kept).encode())
