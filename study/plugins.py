"""Plugins: files, or entry points of ``outerfold.plugins``, that add records to a run.

Only a run that names a plugin loads it: before the options are read, and in every worker. Its
identity, from the contents of its file and of the local modules that it imports, belongs to the
run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from outerfold.storage.errors import DataError, first_line, unknown_name
from outerfold.storage.registry import added_by, adding_for, withdraw_all

GROUP = "outerfold.plugins"
"""Group of entry points in which a distribution offers plugins."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that is loaded in this process.

    Attributes:
        place: absolute path of its file, or name of its entry point.
        identity: file name and SHA-256, or entry point and version of its distribution.
    """

    place: str
    identity: str


_loaded: dict[str, Plugin] = {}


def load_plugins(names: Iterable[str]) -> tuple[Plugin, ...]:
    """Load these plugins and no others; what others added in this process is withdrawn.

    A plugin whose contents did not change since it was loaded is not run again.

    Args:
        names: files, which end in .py, or names of entry points.

    Raises:
        DataError: there is no such plugin, it cannot be run, or it adds nothing.
    """
    wanted = tuple(_find(name) for name in names)
    twice = [one.identity for one in wanted if wanted.count(one) > 1]
    if twice:
        raise DataError(f"--plugin names {twice[0]} twice; name it once")
    for place in [place for place, plugin in _loaded.items() if plugin not in wanted]:
        withdraw_all(place)
        del _loaded[place]
    for plugin in wanted:
        if plugin.place not in _loaded:
            _load(plugin)
            _loaded[plugin.place] = plugin
    return wanted


def loaded_plugins() -> tuple[Plugin, ...]:
    """Plugins that are loaded in this process, in the order in which they were."""
    return tuple(_loaded.values())


def identities() -> tuple[str, ...]:
    """Identities of the loaded plugins, which a run keeps."""
    return tuple(plugin.identity for plugin in loaded_plugins())


def require_plugins(kept: Sequence[str], what: str) -> None:
    """Check that the plugins of a run are loaded, unchanged. A run's folder holds none to be run.

    Args:
        kept: identities that the run keeps.
        what: the run, for the message.

    Raises:
        DataError: one is missing, or differs.
    """
    missing = [identity for identity in kept if identity not in identities()]
    if missing:
        found = ", ".join(identities()) or "none"
        raise DataError(
            f"{what} was made with the plugin {missing[0]}, and code is never run from a run's "
            f"folder; add --plugin {missing[0].split(' ')[0]} with the same contents (found "
            f"{found})"
        )


def _find(name: str) -> Plugin:
    if not name.endswith(".py"):
        point = _entry_point(name)
        version = f"{point.dist.name} {point.dist.version}" if point.dist else "no distribution"
        return Plugin(name, f"{name} ({version})")
    path = Path(name).expanduser().resolve()
    digest = hashlib.sha256()
    try:
        for file in sorted({path, *_local_modules(path)}):
            digest.update(file.relative_to(path.parent).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise DataError(f"--plugin {name}: cannot be read ({error.strerror})") from None
    return Plugin(str(path), f"{path.name} sha256:{digest.hexdigest()}")


def _entry_point(name: str) -> EntryPoint:
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        raise DataError(
            f"--plugin: {unknown_name('entry point', name, known)}; the name of a file ends in .py"
        )
    return known[name]


def _local_modules(path: Path) -> set[Path]:
    """Files beside the plugin, or in folders there, that it imports, directly or not."""
    found: set[Path] = set()
    left = [path]
    while left:
        for module in _imported(left.pop()):
            stem = path.parent.joinpath(*module.split("."))
            for file in (stem.with_suffix(".py"), stem / "__init__.py"):
                if file.is_file() and file not in found:
                    found.add(file)
                    left.append(file)
    return found


def _imported(path: Path) -> Iterator[str]:
    """Names of modules in the import statements of a file; none where it is not valid Python."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        names = [alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _load(plugin: Plugin) -> None:
    run = _run_file if plugin.place.endswith(".py") else _run_entry_point
    try:
        with adding_for(plugin.place):
            run(plugin.place)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever foreign code raises is told
        withdraw_all(plugin.place)
        told = first_line(error)
        kind = "" if isinstance(error, DataError) else f"{type(error).__name__}: "
        raise DataError(
            f"--plugin {plugin.place}{_line(error, plugin.place)}: {kind}{told}"
        ) from None
    if not added_by(plugin.place):
        raise DataError(
            f"--plugin {plugin.place}: adds nothing; a plugin adds a record to a registry, such as "
            "METRICS.add(Metric(...))"
        )


def _run_file(place: str) -> None:
    path = Path(place)
    # The name holds a hash of the place, since two plugins may have files of one name.
    name = f"outerfold_plugin_{path.stem}_{hashlib.sha256(place.encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = place
    sys.modules[name] = module  # dataclasses and pickle look a class up in its module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    local = {str(file) for file in _local_modules(path)}
    for known in [n for n, m in sys.modules.items() if getattr(m, "__file__", None) in local]:
        del sys.modules[known]  # they may have changed since an earlier run of this process
    # Compiled from its text, since kept bytecode may be that of a version of the same second.
    exec(compile(path.read_bytes(), place, "exec"), module.__dict__)


def _run_entry_point(name: str) -> None:
    point = _entry_point(name)
    known = sys.modules.get(point.module)
    found = point.load()
    if callable(found):
        found()
    elif known is not None:  # it added its records when it was imported, for an earlier run
        importlib.reload(known)


def _line(error: BaseException, place: str) -> str:
    """Line of a plugin's own file at which an error came up, such as ``, line 3``."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return f", line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == place
    ]
    return f", line {lines[-1]}" if lines else ""
