"""Time of the audit's search for near-duplicate images.

    python -m benchmarks.leaks.lookalike_search

Synthetic scans of one organ (the same outline, different speckle) are written to a temporary
folder; one in a hundred is written again as a recompressed or mirrored copy. For each number of
images, a new process then decodes the images, hashes them and finds pairs, as the audit does. Its
time is wall time, and its memory is the peak of the process minus the memory after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 128
EVERY = 100
"""One in this many images has a copy."""
KIB = 1 if sys.platform == "darwin" else 1024


def scan(rng: np.random.Generator) -> np.ndarray:
    """Grey image (SIDE, SIDE): a bright half disc on black, with structure at three scales."""
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(0, 2, SIDE))
    breast = np.clip((1.6 - np.hypot(across, down)) * 6, 0, 1)
    texture = np.zeros((SIDE, SIDE))
    for cells, weight in ((6, 40.0), (20, 25.0), (64, 15.0)):
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        texture += weight * np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.asarray(np.clip((110 + texture) * breast, 0, 255), dtype=np.uint8)


def write(folder: Path, count: int) -> list[str]:
    """Write ``count`` JPEG files and return their paths; the last 1 % are copies of the first."""
    rng = np.random.default_rng(count)
    copies = count // EVERY
    paths = [str(folder / f"{i:06d}.jpg") for i in range(count)]
    for i, path in enumerate(paths[: count - copies]):
        pixels = scan(rng)
        Image.fromarray(pixels).save(path, quality=90)
        if i < copies:
            copied = pixels[:, ::-1] if i % 2 else pixels
            Image.fromarray(np.ascontiguousarray(copied)).save(paths[-1 - i], quality=50)
    return paths


def measure(folder: Path) -> dict[str, float]:
    """Seconds and MiB of one search; it needs a new process, because a peak never falls."""
    import imagehash  # noqa: F401 - loaded before the clock starts
    import joblib  # noqa: F401
    import scipy.ndimage  # noqa: F401

    from outerfold.storage.audit.near_duplicates import compute_signatures, find_pairs

    images = [str(path) for path in sorted(folder.glob("*.jpg"))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    signatures = compute_signatures(images)
    signed = time.perf_counter()
    pairs = find_pairs(signatures)
    found = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "hash": signed - start,
        "search": found - signed,
        "cpu": used.ru_utime + used.ru_stime,
        "pairs": len(pairs),
        "mib": (used.ru_maxrss - before) * KIB / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 20_000])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder)))
        return
    print(" images   copies  found    hash s  search s   total s     cpu s  peak MiB")
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), count)
            command = [
                sys.executable,
                "-m",
                "benchmarks.leaks.lookalike_search",
                "--folder",
                folder,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        one = json.loads(done.stdout)
        print(
            f"{count:7d} {count // EVERY:8d} {one['pairs']:6.0f} {one['hash']:9.1f} "
            f"{one['search']:9.1f} {one['hash'] + one['search']:9.1f} {one['cpu']:9.1f} "
            f"{one['mib']:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
