"""The command ``outerfold``, ``python -m outerfold`` and ``run_study.py``: ``--help`` says more."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Carry out what was typed; returns the exit code."""
    # Threads that spin while they wait slow each other down on a busy machine: two torch threads
    # encoded 9-11 images/s instead of 4-6 beside other work. OpenMP reads it when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from outerfold.study.cli.main import main as command

    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
