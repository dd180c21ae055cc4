"""One nested study in a process of its own, in this checkout or in an older one.

`python study_once.py CHECKOUT REQUEST`, where REQUEST is a JSON file: `data`, `cache`, `run`,
`patients`, `workers`, `seed`, `models` (how they are made) and `options` of the benchmark of
throughput. The last line of the output is the result as JSON: `wall` and `cpu` seconds, `trials`,
`epochs` and `scores` of the outer folds.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

NOW = (
    "benchmarks.speed.throughput",
    "benchmarks.shared.own_study",
    "benchmarks.shared.small_studies",
)
THEN = ("benchmarks.throughput", "benchmarks.own_study", "benchmarks.small_studies")
"""Modules of the study in this checkout, and in one whose benchmarks lay in one folder."""


def carry_out(request: dict[str, Any], checkout: Path) -> dict[str, Any]:
    """Carry out the study of a request."""
    names = NOW if (checkout / "benchmarks" / "shared").is_dir() else THEN
    throughput, study, small = map(import_module, names)
    config = throughput.study_config(Namespace(**request["options"]), request["seed"])
    pool = small.pathology_pool(Path(request["data"]), Path(request["cache"]))
    draw = getattr(small, "draw_patients", None) or small.drawn
    data = draw(pool.data, request["patients"], request["seed"])[0]
    mine = small.Pool(data, pool.embeddings, pool.encoder)
    found: dict[str, Any] = study.whole_study(
        Path(request["run"]), mine, replace(config, **request["models"]), request["workers"]
    )
    return {name: found[name] for name in ("wall", "cpu", "trials", "epochs", "scores")}


def main(argv: list[str]) -> None:
    checkout, text = argv
    sys.path[0] = checkout  # in place of this file's folder
    request = json.loads(Path(text).read_text(encoding="utf-8"))
    print(json.dumps(carry_out(request, Path(checkout))))


if __name__ == "__main__":
    main(sys.argv[1:])
