"""Contents of a run's files, without the parts that differ between two runs of the same code."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import optuna
import torch
from docx import Document
from optuna.storages.journal import JournalFileBackend
from PIL import Image

LEFT_OUT = ("timing", "provenance", "numerics")
"""Keys of JSON files with the duration of a run and the software and machine that made it."""
NOT_COMPARED = (
    "run.log",
    ".lock",
    "driver",
    "storage.json",
    "devices.json",
    "provenance.json",
    "numerics.json",
)
"""Files with the time of a run and the process that made it."""
TIMES = re.compile(
    r"\d+(\.\d+)? ?(s|min|h|seconds|minutes|hours)\b"  # durations
    r"|until about \w{3} \d\d:\d\d|[\d.]+ GiB of it new; [\d.]+ GiB are free"  # the plan
    r"|fits of up to \d+ epochs; \d+"  # what is left of a run that was killed
    r"|[0-9a-f]{40}(-dirty)?|[0-9a-f]{7,12}(-dirty)?\b"  # commits
)
"""Parts of texts that differ between two runs of the same code."""


def read_contents(path: Path, root: str) -> Any:
    """Contents of one file, as values that are equal if the contents are the same.

    Args:
        root: folder of the version's runs, with which paths in texts begin.

    Returns:
        Text, a nested list or dictionary, or a hash of pixels.
    """
    reader = READERS.get(path.suffix, _text)
    return reader(path, root)


def is_compared(path: Path) -> bool:
    """Whether a file of a run must have the same contents in both versions."""
    return path.name not in NOT_COMPARED and not path.name.endswith(".backup")


def _text(path: Path, root: str) -> str:
    return path.read_text(encoding="utf-8", errors="replace").replace(root, "ROOT")


def _page(path: Path, root: str) -> str:
    return TIMES.sub("TIME", PROVENANCE.sub("", _text(path, root)))


def _json(path: Path, root: str) -> Any:
    return _without(json.loads(_text(path, root)))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in LEFT_OUT}
    return [_without(each) for each in value] if isinstance(value, list) else value


def _csv(path: Path, root: str) -> list[list[str]]:
    return list(csv.reader(StringIO(_text(path, root))))


def _journal(path: Path, root: str) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    found = {}
    for name in sorted(optuna.get_all_study_names(storage=storage)):
        study = optuna.load_study(study_name=name, storage=storage)
        found[name] = [
            [
                trial.number,
                trial.state.name,
                trial.params,
                trial.values,
                trial.user_attrs,
                trial.intermediate_values,
                {k: str(v) for k, v in trial.distributions.items()},
            ]
            for trial in study.get_trials()
        ]
    return found


def _tensors(path: Path, root: str) -> Any:
    return _hashed(torch.load(path, map_location="cpu", weights_only=True))


def _hashed(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [list(value.shape), str(value.dtype), _digest(value.numpy().tobytes())]
    if isinstance(value, dict):
        return {str(name): _hashed(each) for name, each in value.items()}
    return [_hashed(each) for each in value] if isinstance(value, (list, tuple)) else value


def _picture(path: Path, root: str) -> Any:
    return _pixels(path.read_bytes())


def _pixels(data: bytes) -> list[Any]:
    with Image.open(BytesIO(data)) as image:
        pixels = np.asarray(image)
    return [list(pixels.shape), _digest(pixels.tobytes())]


def _document(path: Path, root: str) -> Any:
    document = Document(str(path))
    words = [TIMES.sub("TIME", each.text.replace(root, "ROOT")) for each in document.paragraphs]
    cells = [[[cell.text for cell in row.cells] for row in table.rows] for table in document.tables]
    with ZipFile(path) as parts:
        media = [name for name in parts.namelist() if name.startswith("word/media/")]
        pictures = [_pixels(parts.read(name)) for name in sorted(media)]
    return {"words": words, "cells": cells, "pictures": pictures}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PROVENANCE = re.compile(r'<h2 id="provenance">.*?</dl>', re.DOTALL)
"""Provenance section of a page."""

READERS: dict[str, Callable[[Path, str], Any]] = {
    ".json": _json,
    ".csv": _csv,
    ".journal": _journal,
    ".pt": _tensors,
    ".jpg": _picture,
    ".png": _picture,
    ".docx": _document,
    ".html": _page,
    ".md": _page,
    ".txt": _page,
}
"""Readers by the ending of a file's name; any other file is compared as text."""


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield each place where two values differ, as a JSON path with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}, key=str):
            if name not in old or name not in new:
                yield f"{where}.{name}: only in the {'new' if name in new else 'old'} version"
            else:
                yield from differences(old[name], new[name], f"{where}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{where}[{at}]")
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        lines = old.splitlines(), new.splitlines()
        if len(lines[0]) != len(lines[1]):
            yield f"{where}: {len(lines[0])} lines, now {len(lines[1])}"
        yield from (
            f"{where}:{at}: {_short(a)} -> {_short(b)}"
            for at, (a, b) in enumerate(zip(*lines, strict=False), 1)
            if a != b
        )
    elif not _equal(old, new):
        yield f"{where}: {_short(old)} -> {_short(new)}"


def _equal(old: Any, new: Any) -> bool:
    both_nan = isinstance(old, float) and isinstance(new, float) and old != old and new != new
    return both_nan or (type(old) is type(new) and old == new)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
