"""Version of the arithmetic of a run; one version gives the same numbers for the same seed.

Trials of two versions in one journal would mix two searches without any sign of it. So a run keeps
its version and is never continued with another one.
"""

from __future__ import annotations

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.errors import DataError
from outerfold.storage.runs.folder import RunFolder

NUMERICS = 4
"""Current version; add 1 for each change of the results of the same data, options and seed.

1: the arithmetic before runs kept the version.
2: heads that train as a stack take their gradients from autograd, and a stacked layer adds its bias
   within the product. Both round differently: after an epoch a weight differs by at most 2e-6.
3: running statistics of the heads' batch normalisation are corrected for their start; a model is
   the mean of its inner folds' networks; trial 0 of every study is the default configuration.
4: the calibration of the mean of the inner folds' networks is fitted to such a mean.
"""

NUMERICS_FILE = "numerics.json"


def write_numerics(folder: RunFolder) -> None:
    """Write the current version into the directory of a new run."""
    write_json(folder.path / NUMERICS_FILE, {"numerics": NUMERICS})


def read_numerics(folder: RunFolder) -> int:
    """Version with which a run was started; 1 for a run without the file."""
    path = folder.path / NUMERICS_FILE
    return int(read_json(path)["numerics"]) if path.exists() else 1


def refuse_other_numerics(folder: RunFolder) -> None:
    """Refuse to continue a run of another version; such a run can still be read.

    Raises:
        DataError: the run's version is not ``NUMERICS``.
    """
    found = read_numerics(folder)
    if found != NUMERICS:
        raise DataError(
            f"--run {folder.path}: was started by a version of outerfold with other arithmetic "
            f"(numerics {found}, here {NUMERICS}), which gives other numbers for the same seed; "
            "finish it with that version, or give another --run (report, predict and explain can "
            "still read it)"
        )
