"""Images a second of `embed`, and its CPU seconds, against an older commit: paired in one run.

`python -m benchmarks.speed.encoding --page` writes encoding.md. It lays a git worktree of the older
commit and, for each encoder and style, measures both trees in turn, each in a process of its own
with a cache of its own. Each measurement takes two numbers of files; what both take, such as the
start of processes, cancels in their difference. Grey synthetic JPEGs; EfficientNet-B0 has random
weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import BENCHMARKS, ROOT
from benchmarks.shared.speed.card_rows import random_weights
from benchmarks.shared.worktree import BEFORE, ask_child, worktree

PAGE = BENCHMARKS / "speed" / "encoding.md"
CHILD = BENCHMARKS / "shared" / "speed" / "embed_once.py"
ENCODERS = {"bundled:efficientnet_lite0": 3.3, "timm:efficientnet_b0": 2.5}
"""Encoders, and the least ratio of images a second that was set as the target."""
STYLES = ("albumentations", "torchvision")
OVERHEAD = 1.1
"""Largest CPU seconds of `embed` over the sum of its parts alone that was set as the target."""
PICTURES = 3
"""Encodings of an image: itself and two views."""
SMALL_SHARE = 3
"""The smaller number of files is this part of the larger."""


@dataclass(frozen=True)
class Row:
    """Result of one encoder and style; of each pair, then of the parts.

    Attributes:
        encoder, style: what was measured.
        backend: backend of this tree.
        before, now: images a second of each pair, in the older tree and in this one.
        cpu_before, cpu: CPU seconds an image of each pair, in the older tree and in this one.
        parts: CPU seconds an image of all parts alone, measured before and after this tree's
            `embed` of each pair, since the clock of a machine that others share is not steady.
    """

    encoder: str
    style: str
    backend: str
    before: tuple[float, ...]
    now: tuple[float, ...]
    cpu_before: tuple[float, ...]
    cpu: tuple[float, ...]
    parts: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Images a second now over before, of each pair."""
        return [now / before for before, now in zip(self.before, self.now, strict=True)]

    @property
    def overhead(self) -> float:
        """CPU seconds of `embed` over the sum of its parts alone; the median of the pairs."""
        return median(self.cpu) / median(self.parts)


def write_pictures(folder: Path, count: int) -> list[str]:
    """Write grey JPEGs of 320 x 260 pixels, each other than the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for at in range(count):
        coarse = np.random.default_rng(at).integers(0, 256, (13, 16), dtype=np.uint8)
        paths.append(str(folder / f"{at:05d}.jpg"))
        Image.fromarray(coarse).resize((320, 260), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def ask(tree: Path, request: Mapping[str, object], folder: Path) -> dict[str, float]:
    """Measure in a process of its own, with a cache of its own; see ``embed_once``."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        whole = {**request, "cache": f"{place}/kept"}
        # As the command sets it, in both trees.
        return ask_child(CHILD, tree, whole, Path(place), OMP_WAIT_POLICY="PASSIVE")


def slope(
    tree: Path, request: Mapping[str, object], paths: Sequence[str], folder: Path
) -> dict[str, float]:
    """Wall and CPU seconds an image between two numbers of files, without what both take.

    They are NaN where the larger number took no longer, as a few files do on a busy machine.
    """
    few = len(paths) // SMALL_SHARE
    small = ask(tree, {**request, "images": list(paths[:few])}, folder)
    large = ask(tree, {**request, "images": list(paths)}, folder)
    apart = {name: large[name] - small[name] for name in ("wall", "cpu")}
    return {
        **large,
        **{
            name: seconds / (len(paths) - few) if seconds > 0 else float("nan")
            for name, seconds in apart.items()
        },
    }


def sum_of_parts(parts: Mapping[str, float]) -> float:
    """CPU seconds an image of reading, framing, two views and three encodings."""
    views = PICTURES - 1
    return parts["decode"] + parts["frame"] + views * parts["view"] + PICTURES * parts["backend"]


def measure(
    encoder: str, style: str, *, before: Path, paths: Sequence[str], pairs: int, folder: Path
) -> Row:
    """Measure one encoder and style in both trees, in turn, as often as ``pairs``."""
    lite = encoder.startswith("bundled:")
    weights = "" if lite else str(random_weights(folder / "weights.pt", encoder))
    request = {
        "encoder": encoder,
        "weights": weights,
        "style": style,
        "kept": str(folder / "kept"),
        "what": "embed",
    }

    def parts_alone() -> float:
        return sum_of_parts(ask(ROOT, {**request, "what": "parts", "images": list(paths)}, folder))

    each, parts = [], []
    for _ in range(pairs):
        old = slope(before, request, paths, folder)
        parts.append(parts_alone())
        each.append((old, slope(ROOT, request, paths, folder)))
        parts.append(parts_alone())
    row = Row(
        encoder,
        style,
        str(each[-1][1]["backend"]),
        tuple(1 / old["wall"] for old, _ in each),
        tuple(1 / new["wall"] for _, new in each),
        tuple(old["cpu"] for old, _ in each),
        tuple(new["cpu"] for _, new in each),
        tuple(parts),
    )
    print(cells(row), flush=True)
    return row


def cells(row: Row) -> list[str]:
    """Cells of the table for one row."""
    return [
        row.encoder,
        row.style,
        row.backend,
        f"{median(row.before):.1f}",
        f"{median(row.now):.1f}",
        f"{median(row.ratios):.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})",
        f"{ENCODERS[row.encoder]:g}",
        f"{1000 * median(row.cpu_before):.1f}",
        f"{1000 * median(row.cpu):.1f}",
        f"{1000 * median(row.parts):.1f}",
        f"{row.overhead:.2f}",
    ]


def page(rows: Sequence[Row], *, files: int, pairs: int, cores: int, before: str) -> str:
    """The page: what was measured, the table, and which targets were met."""
    header = [
        "encoder",
        "style",
        "backend",
        "before, images/s",
        "now, images/s",
        "ratio (all pairs)",
        "target",
        "CPU ms before",
        "CPU ms now",
        "parts alone",
        "over parts",
    ]
    missed = [
        f"{row.encoder} with {row.style}"
        for row in rows
        if not (median(row.ratios) >= ENCODERS[row.encoder] and row.overhead <= OVERHEAD)
    ]
    verdict = f"Missed by: {', '.join(missed)}." if missed else "All targets were met."
    return f"""# How quickly are images encoded, against an earlier version?

`python -m benchmarks.speed.encoding --files {files} --pairs {pairs} --page`, on {cores} cores.

Each image is read, framed, and encoded with two augmented views; tokens are kept. Commit {before}
and this tree were measured in turn, each time in a new process with an empty cache. Seconds are the
difference between {files:,} and {files // SMALL_SHARE:,} files, so the start of processes is apart.
The ratio is the median over {pairs} pairs, with the smallest and largest. CPU seconds of `embed`
may be at most {OVERHEAD} times those of reading, framing, views and backend alone. Grey synthetic
JPEGs of 320 x 260 pixels; the weights of EfficientNet-B0 are random.

{markdown(header, [cells(row) for row in rows])}

{verdict}
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES))
    parser.add_argument("--page", action="store_true", help="write encoding.md, not only print")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_pictures(folder / "images", options.files)
        with worktree(options.before) as before:
            rows = [
                measure(
                    encoder, style, before=before, paths=paths, pairs=options.pairs, folder=folder
                )
                for encoder in options.encoders
                for style in options.styles
            ]
    about = {"files": options.files, "pairs": options.pairs, "before": options.before}
    text = page(rows, **about, cores=len(os.sched_getaffinity(0)))
    print(text)
    if options.page:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
