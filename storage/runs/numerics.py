"""The version of the arithmetic that made a run: the same seed gives the same numbers within one.

A trial that other arithmetic made beside the kept ones would mix two searches in one journal, and
nothing would show it. So a run keeps the number, and goes on under no other.
"""

from __future__ import annotations

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.errors import DataError
from outerfold.storage.runs.folder import RunFolder

NUMERICS = 1
"""To be raised by each change of what the same data, options and seed give.

1: as it was before runs kept the number.
"""

NUMERICS_FILE = "numerics.json"


def write_numerics(folder: RunFolder) -> None:
    """Keep the number in the directory of a run that begins."""
    write_json(folder.path / NUMERICS_FILE, {"numerics": NUMERICS})


def numerics_of(folder: RunFolder) -> int:
    """The number that a run was begun with; a run without the file counts as 1."""
    path = folder.path / NUMERICS_FILE
    return int(read_json(path)["numerics"]) if path.exists() else 1


def refuse_other_numerics(folder: RunFolder) -> None:
    """Refuse to add to a run that other arithmetic began; reading it is always possible.

    Raises:
        DataError: the run's number is not ``NUMERICS``.
    """
    found = numerics_of(folder)
    if found != NUMERICS:
        raise DataError(
            f"--run {folder.path}: was begun by a version of outerfold with other arithmetic "
            f"(numerics {found}, here {NUMERICS}), which gives other numbers for the same seed; "
            "finish it with that version, or give another --run (report, predict and explain read "
            "it as it is)"
        )
