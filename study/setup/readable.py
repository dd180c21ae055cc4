"""What images say of their rows: which cannot be used, and which may be of one patient.

A few images that cannot be decoded are set aside like rows without a label; many are asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from outerfold.storage.audit.audit import find_suspects, find_unreadable
from outerfold.storage.audit.suspected_patients import (
    find_joined,
    join_groups,
    long_chain_question,
)
from outerfold.storage.errors import first_three
from outerfold.storage.images.read import content_hash
from outerfold.storage.readers.read import fingerprint
from outerfold.storage.records import Dataset
from outerfold.storage.set_aside import SetAside, require_few
from outerfold.study.setup.audit_cache import cached_warnings


def keep_readable(data: Dataset, options: Mapping[str, Any], cache: Path | None) -> Dataset:
    """The rows whose images can be decoded; the others join those that were set aside before.

    Args:
        data: n rows whose images exist.
        options: options of the run by name, of which ``set_aside`` and ``strict`` matter.
        cache: folder that keeps what was found, by the contents of the images; None looks anew.

    Raises:
        Question: more rows than a few are set aside, and no option allows it.
        DataError: there are such rows, and ``strict`` refuses each.
    """

    def find() -> tuple[str, ...]:
        return tuple(f"{row}\t{why}" for row, why in sorted(find_unreadable(data).items()))

    of = {"data": data.fingerprint, "what": "unreadable"}
    texts = cached_warnings(cache, find, **of) if cache else find()
    found = dict(text.split("\t", 1) for text in texts)
    if not found:
        return data
    out = [_row(data, int(row), why) for row, why in found.items()]
    together = (*data.set_aside, *out)
    known = [data.classes[label] for label in data.labels]
    require_few(
        together,
        Counter([*known, *(row.label for row in data.set_aside if row.label)]),
        allowed=bool(options.get("set_aside")),
        strict=bool(options.get("strict")),
    )
    gone = {row.id for row in out}
    kept = data.select([name for name in data.ids.tolist() if name not in gone])
    note = f"images that cannot be read were set aside: {first_three(sorted(gone))}"
    kept = replace(kept, set_aside=together, assumptions=(*data.assumptions, note))
    contents = [content_hash(path) for path in kept.features.images]
    return replace(kept, fingerprint=fingerprint(kept, contents))


def settle_images(data: Dataset, options: Mapping[str, Any], cache: Path | None) -> Dataset:
    """The rows that can be used, with patients of near-identical images in one group.

    Args:
        data: n rows whose images exist.
        options: options of the run by name; ``set_aside``, ``strict`` and ``distinct_patients``
            matter.
        cache: folder that keeps what was found, by the contents of the images; None looks anew.

    Raises:
        Question: too many rows are set aside, or too many patients would be one group.
        DataError: there are rows that cannot be used, and ``strict`` refuses each.
    """
    return group_suspects(keep_readable(data, options, cache), options, cache)


def group_suspects(data: Dataset, options: Mapping[str, Any], cache: Path | None) -> Dataset:
    """The rows with the patients of near-identical images in one group, which no split parts.

    Where patients are unknown, such images are together anyway. See ``settle_images``.
    """
    if options.get("distinct_patients") or not data.patients_known:
        return data

    def find() -> tuple[str, ...]:
        return tuple(f"{first}\t{second}" for first, second in find_suspects(data))

    of = {"data": data.fingerprint, "what": "suspects"}
    texts = cached_warnings(cache, find, **of) if cache else find()
    pairs = [(int(first), int(second)) for first, second in (text.split("\t") for text in texts)]
    if not pairs:
        return data
    groups = join_groups(data.groups, pairs)
    question = long_chain_question(find_joined(data.patients, data.groups, groups))
    if question is not None:
        raise question
    shown = first_three(f"{data.ids[first]} ~ {data.ids[second]}" for first, second in pairs)
    note = (
        "patients with near-identical images were grouped, so that no split parts them: "
        f"{shown}; --distinct-patients takes them for different ones"
    )
    grouped = replace(data, groups=groups, assumptions=(*data.assumptions, note))
    contents = [content_hash(path) for path in grouped.features.images]
    return replace(grouped, fingerprint=fingerprint(grouped, contents))


def _row(data: Dataset, row: int, why: str) -> SetAside:
    reason = why.removeprefix(f"{data.features.images[row]}: ")
    return SetAside(str(data.ids[row]), reason, data.classes[data.labels[row]])
