"""One measurement of ``embed`` in a process of its own, in this checkout or in an older one.

`python embed_once.py CHECKOUT REQUEST`, where REQUEST is a JSON file: `encoder`, `weights`,
`style`, `images` (paths), `cache`, `kept` (folder of converted encoders) and `what`: `embed` or
`parts`. The last line of the output is the result as JSON. The file imports nothing of the project
by one fixed name, since checkouts before the package had a name hold bare folders.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

VIEWS = (0, 1, 2)
"""The image itself, and a light and a strong view."""
PART_IMAGES = 48
"""Images on which the parts are measured alone."""


def module(*names: str) -> ModuleType:
    """The first module of these names that this checkout has.

    A checkout without the package's folder holds bare folders: the package's name would then find
    the checkout that is installed.
    """
    prefix = "outerfold." if (Path(sys.path[0]) / "outerfold").is_dir() else ""
    for name in names:
        full = prefix + name
        try:
            return import_module(full)
        except ModuleNotFoundError as error:
            if error.name is None or not full.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"none of {names}")


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def build_encoder(request: dict[str, Any]) -> tuple[Any, str]:
    """The encoder with the backend that `auto` chooses, and its name; `former` in an old tree."""
    weights = Path(request["weights"]) if request["weights"] else None
    encoder = module("pipelines.encoders.registry").build(request["encoder"], weights=weights)
    try:
        choose = module("pipelines.encoders.backends.choose")
    except ModuleNotFoundError:
        return encoder, "former"
    kept = Path(request["kept"])
    backend = choose.choose_backend([encoder], cache=kept, device="cpu").backend
    return choose.with_backend(encoder, backend, kept), backend


def features_of(paths: list[str]) -> Any:
    """Rows of these image files, without columns."""
    import numpy as np

    ids = np.array([f"row{at}" for at in range(len(paths))])
    return module("storage.records").Features(ids, np.array(paths), np.zeros((len(paths), 0)))


def measure_embed(request: dict[str, Any]) -> dict[str, Any]:
    """Wall and CPU seconds of `embed` of all images in three views each, tokens kept."""
    encoder, backend = build_encoder(request)
    with suppress(ModuleNotFoundError):  # so that a few images go the way of many
        vars(module("pipelines.images.ahead"))["PROCESSES_FROM"] = 1
    views = module("pipelines.augmentation.views", "pipelines.augment").Views(
        VIEWS, request["style"]
    )
    embed = module("pipelines.images.embed", "pipelines.embeddings").embed
    began, used = time.perf_counter(), cpu_seconds()
    embed(features_of(request["images"]), encoder, cache=Path(request["cache"]), views=views)
    return {
        "backend": backend,
        "wall": time.perf_counter() - began,
        "cpu": cpu_seconds() - used,
    }


def measure_parts(request: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of each part alone, on one thread, for one image.

    `view` is the mean of the two views, and `backend` the encoding of one picture.
    """
    import numpy as np
    import torch

    torch.set_num_threads(1)
    encoder, _ = build_encoder(request)
    read = module("storage.images.read").read_image
    view_of = module("pipelines.augmentation.views", "pipelines.augment").view_of
    paths = request["images"][:PART_IMAGES]
    pixels = [read(path) for path in paths]
    squares = [encoder.framing.square(image, encoder.image_size) for image in pixels]
    batch = np.stack(squares)

    def alone(work: Callable[[], object], count: int) -> float:
        work()  # what is loaded or compiled at the first time
        before = time.process_time()
        work()
        return (time.process_time() - before) / count

    content = "ab" * 32
    return {
        "decode": alone(lambda: [read(path) for path in paths], len(paths)),
        "frame": alone(
            lambda: [encoder.framing.square(one, encoder.image_size) for one in pixels], len(paths)
        ),
        "view": alone(
            lambda: [
                view_of(square, content, view, request["style"])
                for square in squares
                for view in VIEWS[1:]
            ],
            2 * len(paths),
        ),
        "backend": alone(lambda: encoder.encode(batch), len(paths)),
    }


def main(argv: list[str]) -> None:
    checkout, text = argv
    sys.path[0] = checkout  # in place of this file's folder
    request = json.loads(Path(text).read_text(encoding="utf-8"))
    work = {"embed": measure_embed, "parts": measure_parts}[request["what"]]
    print(json.dumps(work(request)))


if __name__ == "__main__":
    main(sys.argv[1:])
