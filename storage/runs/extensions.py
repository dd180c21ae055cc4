"""Note of a run that took over the trials of another one after test results were seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from outerfold.storage.cache.files import read_hashed, write_hashed
from outerfold.storage.errors import DataError
from outerfold.storage.runs.folder import RunFolder

FILE = "extended.json"


@dataclass(frozen=True)
class Extension:
    """Earlier searches of a run.

    Attributes:
        times: how often the search was extended after results were seen.
        trials: trials of each study when results were seen, for each time.
        of: name of the run whose trials were taken over.
    """

    times: int
    trials: tuple[int, ...]
    of: str


def write_extension(folder: RunFolder, found: Extension) -> None:
    """Write the note into a run directory."""
    write_hashed(folder.path / FILE, asdict(found))


def read_extension(folder: RunFolder) -> Extension | None:
    """Note of a run; None where its search was not extended.

    Raises:
        DataError: the file was changed.
    """
    path = folder.path / FILE
    if not path.exists():
        return None
    kept = read_hashed(path)
    try:
        return Extension(int(kept["times"]), tuple(map(int, kept["trials"])), str(kept["of"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: does not say how a search was extended ({error}); restore it from a copy"
        ) from None
