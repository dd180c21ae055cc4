"""Checkout of an earlier commit, to measure it beside the present code, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.shared.places import ROOT

BEFORE = "5960655"
"""The tree before encoding, ends and first minutes were made quicker; it refits five networks."""


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out a commit in a folder of its own, which is removed afterwards."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def own_environment(**settings: str) -> dict[str, str]:
    """Environment of a process that finds the code of its own checkout alone."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **settings}


def ask_child(
    child: Path, tree: Path, request: Mapping[str, object], folder: Path, **settings: str
) -> dict[str, Any]:
    """Answer of a script that measures one checkout in a process of its own.

    Args:
        child: script that is called with a checkout and a JSON file, and prints JSON at its end.
        tree: the checkout.
        request: content of the JSON file.
        folder: folder for that file.
        settings: environment variables of the process.
    """
    file = folder / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(child), str(tree), str(file)],
        cwd=tree,
        env=own_environment(**settings),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
