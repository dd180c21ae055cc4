"""Image files that a sheet names: by path, by name, or by the part of a name that a sheet gives."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from outerfold.storage.errors import first_three
from outerfold.storage.images.read import IMAGE_SUFFIXES, is_image


def plain_path(name: str) -> str:
    """Path that a sheet gives, with ``/``, without ``file://`` and ``./``; empty stays empty.

    Example:
        >>> plain_path(".\\\\left\\\\a%20b.png"), plain_path("file:///d/a%20b.png")
        ('left/a%20b.png', '/d/a b.png')
    """
    text = name.strip().replace("\\", "/")
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    return str(PurePosixPath(text)) if text else ""


def find_files(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths below the root of n named files, and sentences on those that were found otherwise.

    Where no path exists, as in a sheet of another machine, the same number of folders is taken from
    the beginning of each. A bare name is that of the one file below the root that shares the most
    with it (``_KEYS``). A name that fits no file or several stays as it is.

    Args:
        names: n paths as the sheet gives them.
    """
    given = tuple(plain_path(name) for name in names)
    lost = sorted({name for name in given if not (root / name).is_file()})
    if not lost:
        return given, ()
    if len(lost) == len(set(given)) and all("/" in name for name in lost):
        return _without_folders(root, given)
    lost = [name for name in lost if name and "/" not in name]
    found = _by_name(root, lost) if lost else {}
    shown = [f"{name} is {path}" for name, path in found.items() if Path(path).name != name]
    notes = (f"file names were completed: {first_three(shown)}",) if shown else ()
    return tuple(found.get(name, name) for name in given), notes


def _without_folders(root: Path, given: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths without their first folders, as many as it takes until every file exists."""
    parts = [PurePosixPath(name).parts for name in given]
    for fewer in range(1, min(map(len, parts))):
        shorter = tuple("/".join(each[fewer:]) for each in parts)
        if all((root / name).is_file() for name in shorter):
            left = sorted({"/".join(each[:fewer]).replace("//", "/") for each in parts})
            return shorter, (f"paths were read without their folders {first_three(left)}",)
    return given, ()


def _by_name(root: Path, names: Sequence[str]) -> dict[str, str]:
    """The one file below the root that each bare name stands for, where there is just one."""
    files = [path for path in sorted(root.rglob("*")) if is_image(path)]
    found: dict[str, str] = {}
    for key, key_of_file in _KEYS:
        at: dict[str, list[str]] = defaultdict(list)
        for path in files:
            at[key_of_file(path.name)].append(path.relative_to(root).as_posix())
        for name in names:
            fitting = at.get(key(name), []) if key(name) else []
            if fitting and name not in found:
                found[name] = fitting[0] if len(fitting) == 1 else ""
    return {name: path for name, path in found.items() if path}


def _same(name: str) -> str:
    return name


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name


def _number(name: str) -> str:
    """Digits without leading zeros, of a stem that is a number; else empty."""
    stem = _stem(name)
    return stem.lstrip("0") or "0" if stem.isdecimal() else ""


def _folded(name: str) -> str:
    return _stem(name).casefold()


def _first_part(name: str) -> str:
    return re.split(r"[_\-. ]", _folded(name), maxsplit=1)[0]


_KEYS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (_same, _same),
    (_stem, _stem),
    (_folded, _folded),
    (_number, _number),
    (_folded, _first_part),
)
"""What a name in a sheet and that of a file may share, the closest first: all, the stem, the stem
in any case, its number, or the first part of the file's, as in ``20586908_6c61_MG_R_CC.dcm``."""
