"""Checkout of an earlier commit, to measure it beside the present code."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.shared.places import ROOT


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
