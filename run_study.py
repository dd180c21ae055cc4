"""Run a study: ``python run_study.py --task multimodal --trials 100``; ``--help`` says the rest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the five folders are import names


def main() -> int:
    """Entry point of the ``outerfold`` command; returns the exit code."""
    from study.cli import main as command

    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
