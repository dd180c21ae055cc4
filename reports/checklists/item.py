"""One item of a checklist, what a run can say to it, and where that stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outerfold.reports.schema import Results

Said = Callable[[Results], str]
"""What a run knows, told from the contents of ``results.json``; empty for nothing."""

AUTHOR = "Author to complete"


@dataclass(frozen=True)
class Known:
    """An answer that a run can give.

    Attributes:
        say: the answer.
        keys: keys of ``results.json`` that it is from, with dots between their parts. Where one
            is absent, as in runs of earlier versions, the run does not know.
    """

    say: Said
    keys: tuple[str, ...]


def known(*keys: str) -> Callable[[Said], Known]:
    """Decorator that makes an answer of the function below it; see ``Known``."""
    return lambda say: Known(say, keys)


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes:
        number: number of the item in its guideline.
        asked: what it asks for, in our own words.
        known: what a run can say; None where only the author knows.
        paper: key of ``paper.toml`` with the author's own words; empty where the run says all.
    """

    number: str
    asked: str
    known: Known | None = None
    paper: str = ""


@dataclass(frozen=True)
class Checklist:
    """A reporting guideline.

    Attributes:
        name: name of the guideline.
        file: stem of the files that hold it.
        source: its publication.
        note: what a reader must know of the numbers of its items.
        items: its items in their order.
    """

    name: str
    file: str
    source: str
    note: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """What stands beside one item.

    Attributes:
        text: the answer, or that the author must complete it.
        origin: file and keys that it is from; where the author must complete it, where to write it.
        open: whether nothing answers it yet.
    """

    text: str
    origin: str
    open: bool


def answer(item: Item, numbers: Results, paper: Mapping[str, str]) -> Answer:
    """Answer one item from a run and from what its author wrote.

    Args:
        item: the item.
        numbers: contents of ``results.json``.
        paper: contents of ``paper.toml``.
    """
    known = item.known
    said = known.say(numbers) if known and all(_has(numbers, key) for key in known.keys) else ""
    own = paper.get(item.paper, "") if item.paper else ""
    origins = []
    if said and known:
        origins.append(f"results.json: {', '.join(known.keys)}")
    if own:
        origins.append(f"paper.toml: {item.paper}")
    if origins:
        return Answer(" ".join(filter(None, (own, said))), "; ".join(origins), open=False)
    return Answer(f"{AUTHOR}.", f"paper.toml: {item.paper}" if item.paper else "", open=True)


def _has(numbers: Results, key: str) -> bool:
    """Whether the key is there; in a list, in its first entry."""
    found: Any = numbers
    for part in key.split("."):
        found = found[0] if isinstance(found, list) and found else found
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return True
