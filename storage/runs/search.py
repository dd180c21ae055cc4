"""Trials of a run's searches, as a report reads them: ``search.json`` in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from outerfold.storage.cache.files import read_hashed, write_hashed
from outerfold.storage.records import DataError, Search, TrialRow
from outerfold.storage.runs.folder import RunFolder

FILE = "search.json"


def write_search(folder: RunFolder, searches: Mapping[str, Search]) -> None:
    """Write the searches of a run by name of the study."""
    studies = {name: asdict(search) for name, search in searches.items()}
    write_hashed(folder.path / FILE, {"studies": studies})


def read_search(folder: RunFolder) -> dict[str, Search]:
    """Searches of a run by name of the study; empty where an earlier version made the run.

    Raises:
        DataError: the file is no list of searches, or is not the one that was written.
    """
    path = folder.path / FILE
    if not path.exists():
        return {}
    kept = read_hashed(path)
    try:
        return {
            name: Search(
                tuple(TrialRow(**trial) for trial in one["trials"]), dict(one["importance"])
            )
            for name, one in kept["studies"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path}: is no list of searches ({error}); give the run's command again, which writes "
            "it anew"
        ) from None
