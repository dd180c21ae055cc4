"""What a GPU must show: equal values, rates of its parts, and whole studies, in ten minutes.

    python -m benchmarks.speed.gpu                                # all parts on one GPU, 10 minutes
    python -m benchmarks.speed.gpu --only equal rates             # some of them
    python -m benchmarks.speed.gpu --device cpu --only equal rates blocks      # tries their code

The machine needs Python 3.12, torch 2.11, the packages of outerfold and no network. The parts come
in the order of their weight; one that would not end within --minutes is left out and listed. Images
are synthetic, and the encoders of the rates have RANDOM weights, saved to a file and read from
there: speed does not depend on their values, and no other result of these runs has a meaning. The
table of a GPU is appended to ``benchmarks/RESULTS.md``, or written to --out; that of a CPU is only
printed, since it only shows that the code runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.shared.places import RESULTS
from benchmarks.shared.speed import card_rates as rates
from benchmarks.shared.speed import card_studies as studies
from benchmarks.shared.speed.card_rates import FULL, TINY, Row, Sizes
from benchmarks.shared.speed.card_rows import DBT, MULTIMODAL
from benchmarks.shared.speed.card_studies import Run

SIDE_BY_SIDE = 4
"""Workers that train blocks at once."""


@dataclass(frozen=True)
class Card:
    """Device and sizes of the measurements.

    Attributes:
        device: ``cuda`` or ``cpu``.
        sizes: sizes of all loops.
        work: empty folder.
        run: carries out a study.
        workers: processes that train blocks side by side.
    """

    device: str
    sizes: Sizes
    work: Path
    run: Run
    workers: int = SIDE_BY_SIDE


@dataclass(frozen=True)
class Part:
    """Part of the measurements, with the minutes that it takes on an H100 with 16 cores."""

    minutes: float
    measure: Callable[[Card], list[Row]]


def equal(card: Card) -> list[Row]:
    """Equalities of trainings and encodings, and of a study that was killed."""
    found = studies.equal_rows(card.device, card.sizes, card.work)
    return found if card.device == "cpu" else [*found, studies.resumed_row(card.work, card.run)]


def measure_rates(card: Card) -> list[Row]:
    """Rates of encoders, files, heads and blocks."""
    subjects = (DBT, MULTIMODAL) if card.device != "cpu" else (MULTIMODAL,)
    found: list[Row] = []
    for subject in subjects:
        found += rates.encoder_rows(subject, card.device, card.sizes, card.work)
        found += rates.file_rows(subject, card.device, card.sizes, card.work)
    found += rates.head_rows(MULTIMODAL, card.device, card.sizes)
    return found + rates.tail_rows(MULTIMODAL, card.device, card.sizes, card.work)


def blocks(card: Card) -> list[Row]:
    """Blocks trained by workers side by side; the table of rates has one worker alone."""
    return rates.tails_together(MULTIMODAL, card.device, card.sizes, card.work, card.workers)


PARTS: Mapping[str, Part] = {
    "equal": Part(2.0, equal),
    "rates": Part(4.0, measure_rates),
    "demo": Part(1.0, lambda card: studies.demo_rows(card.work, card.run)),
    "blocks": Part(1.0, blocks),
    "dbt": Part(2.0, lambda card: studies.dbt_rows(card.work, card.run, DBT.images)),
}


def measure(card: Card, names: Sequence[str], minutes: float) -> tuple[list[Row], list[str]]:
    """Measure parts in order while time is left; return rows, and the names of those left out.

    Args:
        card: device and sizes.
        names: names of parts.
        minutes: minutes for all of them.
    """
    started, rows, left_out = time.monotonic(), list[Row](), list[str]()
    for name in names:
        if (time.monotonic() - started) / 60 + PARTS[name].minutes > minutes:
            left_out.append(name)
            continue
        found = PARTS[name].measure(card)
        rows += found
        print(
            f"{name}, after {time.monotonic() - started:.0f} s\n{rates.table(found)}\n", flush=True
        )
    return rows, left_out


def section(rows: Sequence[Row], left_out: Sequence[str], device: str, today: date) -> str:
    """Section of the page with the rows of all parts."""
    missing = f"\n\nNot run for lack of time: {', '.join(left_out)}." if left_out else ""
    return (
        f"### {device}, {today.isoformat()}\n\n"
        "Random weights and synthetic images: speeds and equalities only. "
        f"`python -m benchmarks.speed.gpu`, torch {torch.__version__}.\n\n"
        f"{rates.table(rows)}{missing}\n"
    )


def appended(text: str, new: str) -> str:
    """``text`` with ``new`` at the end of its section ``## GPU``, which is added if missing."""
    before, heading, after = text.partition("## GPU\n")
    if not heading:
        return f"{text.rstrip()}\n\n## GPU\n\n{new}"
    own, following, rest = after.partition("\n## ")
    return f"{before}{heading}{own.rstrip()}\n\n{new}{following}{rest}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts (default 10)")
    parser.add_argument(
        "--workers", type=int, default=SIDE_BY_SIDE, help="side by side, for blocks"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="file for the table instead of RESULTS.md")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.speed.gpu was not run: PyTorch found no CUDA device.", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        card = Card(
            options.device,
            FULL if options.device == "cuda" else TINY,
            Path(folder),
            partial(studies.carry_out, device=options.device),
            options.workers,
        )
        rows, left_out = measure(card, options.only, options.minutes)
    text = section(rows, left_out, studies.card_name(options.device), date.today())
    if options.device == "cpu":
        print("TRIED ON A CPU AT A SMALL SIZE: these numbers are no result.\n")
    print(text)
    if options.out:
        options.out.write_text(text)
    elif options.device == "cuda":
        RESULTS.write_text(appended(RESULTS.read_text(), text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
