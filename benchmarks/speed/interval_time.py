"""Time and memory of a large study's intervals: `python -m benchmarks.speed.interval_time`."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from outerfold.reports.intervals.overall import corrected_t, overall, patient_bootstrap, per_class
from outerfold.storage.records import Predictions


def predictions(images: int, patients: int, classes: int) -> Predictions:
    """Random predictions in five folds, with a fixed seed."""
    rng = np.random.default_rng(0)
    patient = np.concatenate([np.arange(patients), rng.integers(0, patients, images - patients)])
    labels = rng.integers(0, classes, patients)[patient]
    logits = rng.normal(size=(images, classes)) + np.eye(classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        np.char.add("i", np.arange(images).astype(str)),
        np.char.add("P", patient.astype(str)),
        np.char.add("outer-", (patient % 5).astype(str)),
        np.zeros(images, dtype=np.int64),
        labels,
        p,
        p.argmax(axis=1),
        tuple("abcd"[:classes]),
    )


def timed(name: str, work: Callable[[], object]) -> None:
    """Print seconds of one call, and peak memory of a second call that is traced."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"{name:20s} {seconds:6.2f} s {peak:8.0f} MB")


def main() -> None:
    rows = predictions(20_000, 8_000, 4)
    print("20,000 predictions of 8,000 patients, 4 classes")
    timed("overall", lambda: overall(rows, tuned=True))
    timed("per class", lambda: per_class(rows, tuned=True))
    timed("corrected t", lambda: corrected_t(rows))
    timed("patient bootstrap", lambda: patient_bootstrap(rows))


if __name__ == "__main__":
    main()
