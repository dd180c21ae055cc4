"""SHA-256 of each file of a finished study, so that a file that was changed is not trusted.

``manifest.json`` lies beside the files and holds its own hash. Studies that ended before it existed
have none, and their files are read as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from outerfold.storage.cache.files import read_hashed, write_hashed
from outerfold.storage.errors import DataError

MANIFEST = "manifest.json"
MARK = "manifest"
"""Entry of ``best.json`` that says that the study has a manifest."""


def write_manifest(path: Path, coming: Mapping[str, bytes]) -> None:
    """Write the manifest of all files in a study's folder.

    Args:
        path: folder of the study.
        coming: contents by name of files that are written next, after the manifest.
    """
    there = {
        file.name: file.read_bytes()
        for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".md"
    }
    there.pop(MANIFEST, None)
    hashes = {name: sha256(data).hexdigest() for name, data in {**there, **coming}.items()}
    write_hashed(path / MANIFEST, dict(sorted(hashes.items())))


def verify_files(path: Path, *names: str) -> None:
    """Check files of a study's folder against its manifest, if it has one.

    Args:
        path: folder of the study.
        names: names of the files; none for all that the manifest lists.

    Raises:
        DataError: a file is missing or is not the one that was written.
    """
    if not (path / MANIFEST).exists():
        return
    hashes = read_hashes(path)
    for name in names or tuple(hashes):
        if name not in hashes:
            continue
        file = path / name
        try:
            found = sha256(file.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise DataError(f"{file}: the file is missing; {_remedy(path)}") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror}); {_remedy(path)}") from None
        if found != hashes[name]:
            raise DataError(
                f"{file}: is not the file that was written (its SHA-256 differs from the one in "
                f"{MANIFEST}; a spreadsheet that saves a table is enough); {_remedy(path)}"
            )


def read_hashes(path: Path) -> dict[str, str]:
    """SHA-256 by name of the files in a study's folder.

    Raises:
        DataError: the manifest cannot be read, or is not the one that was written.
    """
    kept = read_hashed(path / MANIFEST, _remedy(path))
    if not all(isinstance(each, str) for each in kept.values()):
        raise DataError(f"{path / MANIFEST}: is no list of SHA-256; {_remedy(path)}")
    return kept


def require_manifest(path: Path, best: Mapping[str, object]) -> None:
    """Refuse a study whose ``best.json`` says that it has a manifest, and which has none.

    Raises:
        DataError: the manifest is missing.
    """
    if best.get(MARK) and not (path / MANIFEST).exists():
        raise DataError(f"{path / MANIFEST}: the file is missing; {_remedy(path)}")


def _remedy(path: Path) -> str:
    return (
        f"restore it from a copy, or give the run's command again, which ends {path.name} anew "
        "from its trials"
    )
