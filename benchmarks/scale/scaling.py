"""Growth of time and memory with images and with trials: `python -m benchmarks.scale.scaling`.

Every stage runs in a new process (`benchmarks.scale.scaling_stages`). Times are CPU seconds, since
they do not depend on other work of the machine. Memory is anonymous memory, that is without mapped
files. An exponent is the slope of a line through the logarithms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from benchmarks.shared.places import ROOT
from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.storage.readers.read import read_sheet_only
from outerfold.storage.trials.journal import open_journal
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.session import Session, WorkerContext

PARTS = {
    "read": ("read", "audit"),
    "split": ("split", "lay_out"),
    "cache": ("cache",),
    "trial": ("open", "prepare", "epoch"),
    "smote": ("prepare", "epoch"),
    "report": ("read_run", "report"),
}
"""Parts that each stage's process measures."""
EPOCHS, KEPT = 20, 5
"""Epochs per trial in the journals that are opened, and real trials whose lines are copied."""

Found = dict[int, dict[str, float]]


def stage(name: str, images: int, folder: Path) -> dict[str, float]:
    """Run one stage in a new process."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.scale.scaling_stages",
        name,
        str(images),
        str(folder),
    ]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def print_stages(found: dict[str, Found]) -> None:
    """Print one line per part: CPU seconds and MB by number of images, with exponents."""
    for name, parts in PARTS.items():
        sizes = sorted(found.get(name, {}))
        for part in parts if sizes else ():
            cpu = [found[name][n][f"{part}_cpu"] for n in sizes]
            held = [found[name][n][f"{part}_anon_mb"] for n in sizes]
            last = exponent(sizes[-2:], cpu[-2:]) if len(sizes) > 1 else float("nan")
            print(
                f"| {name}: {part} | "
                + " | ".join(f"{s:.2f} s, {m:.0f} MB" for s, m in zip(cpu, held, strict=True))
                + f" | {exponent(sizes, cpu) if len(sizes) > 1 else float('nan'):.2f} | "
                f"{last:.2f} |"
            )


def journals(run: Path, counts: Sequence[int]) -> None:
    """Print the seconds to open a journal, and to ask and tell one trial, by number of trials.

    Args:
        run: a run directory that `split` and `cache` have written.
    """
    print("| trials | lines | MB | open | suggest and tell, sampler `TPE` |\n|---|---|---|---|---|")
    name = (run.parent / "embeddings").read_text()
    context = WorkerContext(run, Embeddings.load(run.parent / "cache", name))
    for count in counts:
        lines = _write_journal(context, count)
        size = (run / "trials.journal").stat().st_size / 1e6
        before = time.process_time()
        open_journal(run / "trials.journal").get_all_studies()
        opened = time.process_time() - before
        asked = _one_trial(Session(context), count)
        print(f"| {count} | {lines} | {size:.1f} | {opened:.2f} s | {asked * 1e3:.0f} ms |")


def _write_journal(context: WorkerContext, count: int) -> int:
    """Write a journal of ``count`` trials of one study; return its number of lines.

    The lines are copies of the lines of real trials.
    """
    journal = context.run / "trials.journal"
    _replace(journal, "")
    session = Session(context)
    study = optuna.create_study(study_name="final", storage=session.trials, direction="maximize")
    for _ in range(KEPT):
        trial = study.ask()
        session.space(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(float(np.sin(epoch + trial.number)), epoch)
        trial.set_user_attr("fold_scores", [0.5, 0.6, 0.7, 0.8])
        study.tell(trial, float(np.sin(trial.number)))
    head, *body = journal.read_text().splitlines()
    entries = [json.loads(line) for line in body]
    each = [[e for e in entries if e.get("trial_id", i) == i] for i in range(KEPT)]
    starts = [e for e in entries if "trial_id" not in e]
    lines = [head]
    for number in range(count):
        own = [{**e, "trial_id": number} for e in each[number % KEPT] if "trial_id" in e]
        lines += [json.dumps(e, separators=(",", ":")) for e in (starts[number % KEPT], *own)]
    _replace(journal, "\n".join(lines) + "\n")
    return len(lines)


def _replace(journal: Path, text: str) -> None:
    """Replace the journal by a new file, since an open journal is recognised by its file."""
    aside = journal.with_name("aside")
    aside.write_text(text)
    aside.replace(journal)


def _one_trial(session: Session, number: int) -> float:
    study = session.study("final", number)
    before = time.process_time()
    trial = study.ask()
    session.space(trial)
    study.tell(trial, 0.5)
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--trials", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--stages", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sheet", type=Path, help="folder of Mini-DDSM's sheet, also read")
    parser.add_argument("--out", type=Path, default=Path("runs") / "scaling", help="work folder")
    chosen = parser.parse_args()
    quiet_optuna()
    found: dict[str, Found] = {name: {} for name in chosen.stages}
    for images in chosen.images:
        folder = (chosen.out / str(images)).resolve()
        for name in chosen.stages:
            known = folder / f"{name}.json"
            if not known.exists():
                if name in ("read", "split", "cache"):
                    for left in {"read": ["images"], "split": ["run"], "cache": ["cache"]}[name]:
                        shutil.rmtree(folder / left, ignore_errors=True)
                told = stage(name, images, folder)
                known.write_text(json.dumps(told))
            found[name][images] = json.loads(known.read_text())
    print("| stage | " + " | ".join(f"{n:,}" for n in chosen.images) + " | exponent | of last |")
    print("|---" * (len(chosen.images) + 3) + "|")
    print_stages(found)
    if chosen.trials:
        journals((chosen.out / str(chosen.images[0])).resolve() / "run", chosen.trials)
    if chosen.sheet:
        before = time.process_time()
        data = read_sheet_only(chosen.sheet)
        print(f"sheet of {len(data):,} rows: {time.process_time() - before:.2f} s")


if __name__ == "__main__":
    main()
