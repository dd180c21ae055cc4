"""Honest hyper-parameter studies of medical-image classifiers: the one name of all that is here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outerfold.reports.intervals.overall import corrected_t as corrected_t
    from outerfold.reports.intervals.overall import overall as overall
    from outerfold.reports.intervals.overall import paired_difference as paired_difference
    from outerfold.reports.intervals.overall import per_class as per_class
    from outerfold.reports.schema import read_results as read_results
    from outerfold.storage.datasets.demo import write_demo as write_demo
    from outerfold.storage.errors import DataError as DataError
    from outerfold.storage.errors import LeakError as LeakError
    from outerfold.storage.errors import RunFailed as RunFailed
    from outerfold.storage.records import Dataset as Dataset
    from outerfold.storage.records import Features as Features
    from outerfold.storage.records import Predictions as Predictions
    from outerfold.study.door.result import RunResult as RunResult
    from outerfold.study.door.result import load as load
    from outerfold.study.door.start import run as run
    from outerfold.study.splits import split as split

FOLDERS = ("study", "reports", "objectives", "pipelines", "storage")
"""The stack: a folder imports from folders to its right alone (``docs/architecture.md``)."""

_HOMES = {
    "run": "outerfold.study.door.start",
    "load": "outerfold.study.door.result",
    "RunResult": "outerfold.study.door.result",
    "read_results": "outerfold.reports.schema",
    "write_demo": "outerfold.storage.datasets.demo",
    "DataError": "outerfold.storage.errors",
    "LeakError": "outerfold.storage.errors",
    "RunFailed": "outerfold.storage.errors",
    "Dataset": "outerfold.storage.records",
    "Features": "outerfold.storage.records",
    "Predictions": "outerfold.storage.records",
    "split": "outerfold.study.splits",
    "overall": "outerfold.reports.intervals.overall",
    "per_class": "outerfold.reports.intervals.overall",
    "paired_difference": "outerfold.reports.intervals.overall",
    "corrected_t": "outerfold.reports.intervals.overall",
}
"""Public names by the module that defines them; loaded when they are asked for."""

__all__ = [*_HOMES]

# In a checkout the five folders stand beside this one; in the wheel they are inside it.
_checkout = Path(__file__).resolve().parents[1]
if all((_checkout / folder / "__init__.py").is_file() for folder in FOLDERS):
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of this module, public ones that are not loaded yet among them."""
    return sorted({*globals(), *_HOMES})
