"""Run a study: ``python run_study.py --task multimodal --trials 100``; ``--help`` says the rest."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the five folders are import names


def main() -> int:
    """Entry point of the ``outerfold`` command; returns the exit code."""
    # Threads that spin while they wait slow each other down on a busy machine: two torch threads
    # encoded 9-11 images/s instead of 4-6 beside other work. OpenMP reads it when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from study.cli.main import main as command

    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
