"""Run a study: ``python run_study.py --task multimodal --trials 100``; ``--help`` says the rest."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # workers inherit it: outerfold/ is there

if __name__ == "__main__":
    from outerfold.__main__ import main

    sys.exit(main())
