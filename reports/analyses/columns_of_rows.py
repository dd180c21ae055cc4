"""Values of a column of the data for rows of predictions: by image, by patient or by breast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.names import match_name, same_names
from outerfold.storage.readers.columns import parse_column
from outerfold.storage.records import Column, Dataset, FloatArray, StrArray

MOST_LEVELS = 8
"""Most subgroups of a column; one with more values is a name or a number, not a group."""


@dataclass(frozen=True)
class Ask:
    """One column of ``--subgroups``, such as ``age:50|70``.

    Attributes:
        name: the column.
        cuts: limits of the ranges of a numeric column, rising; where it is empty, each of a few
            values is a subgroup, and many are divided at their median.
    """

    name: str
    cuts: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Ask:
        """Read ``NAME`` or ``NAME:CUT|CUT``.

        Raises:
            DataError: a limit is no number, or the limits do not rise.
        """
        name, colon, limits = text.partition(":")
        try:
            cuts = tuple(float(part) for part in limits.split("|")) if colon else ()
        except ValueError:
            cuts = (0.0, 0.0)
        if list(cuts) != sorted(set(cuts)) or not np.isfinite(cuts).all() or not name.strip():
            raise DataError(
                f"--subgroups {text}: needs a column, and after a colon its limits in rising "
                "order with | between them, such as age:50|70"
            )
        return cls(name.strip(), cuts)


def model_column(data: Dataset, name: str, option: str) -> int | None:
    """Position among the models' columns of the one that is called ``name``; None if none is.

    Raises:
        DataError: several are called so, and none is spelt exactly so.
    """
    names = [column.name for column in data.features.columns]
    if name not in names and len(same_names(data.facts, name)) > 1:
        return None  # the model's is one of several, of which the exact name chooses
    found = match_name(names, name, option)
    return None if found is None else names.index(found)


def image_column(data: Dataset, name: str, option: str) -> tuple[Column, FloatArray]:
    """A column of the data and its value (n,) for each image; NaN where it is missing.

    Columns that no model read are found, too.

    Raises:
        DataError: there is no such column, and a similar name is suggested, or several are called
            so.
    """
    at = model_column(data, name, option)
    if at is not None:
        return data.features.columns[at], data.features.tabular[:, at]
    texts = text_column(data, name, option)
    column, values, _ = parse_column(name, texts.tolist())
    return column, values


def text_column(data: Dataset, name: str, option: str) -> StrArray:
    """Texts (n,) of a column of the data, as they stand in its source.

    Raises:
        DataError: there is no such column, and a similar name is suggested, or several are called
            so.
    """
    known = list(data.facts)
    if len(data.sides) and not same_names(known, "side"):
        known.append("side")
    found = match_name(known, name, option)
    if found is None:
        if not data.facts:
            raise DataError(
                f"{option} {name}: this run kept no columns besides those of its models, as its "
                "data have none or an earlier version made it; start a new run of data with the "
                "column"
            )
        raise DataError(f"{option}: {unknown_name('column', name, known)}")
    return data.facts.get(found, data.sides)


def groups_of(data: Dataset, ask: Ask) -> tuple[StrArray, list[str]]:
    """Subgroup (n,) of each image, empty where its value is missing, and their names in order.

    Raises:
        DataError: there is no such column, limits are named for one without numbers, or it has
            fewer than two or too many values.
    """
    column, values = image_column(data, ask.name, "--subgroups")
    if ask.cuts and column.kind != "numeric":
        raise DataError(
            f"--subgroups {ask.name}: {ask.name} holds no numbers, so it has no limits; leave out "
            "what stands after the colon"
        )
    known = np.unique(values[np.isfinite(values)])
    if column.kind != "numeric":
        names, codes = list(column.levels), values
    elif not ask.cuts and len(known) <= MOST_LEVELS:
        names = [f"{value:g}" for value in known]
        codes = np.searchsorted(known, values).astype(np.float64)
    else:
        names, codes = _ranges(values, ask.cuts or (float(np.nanmedian(values)),))
    places = np.where(np.isnan(values), len(names), codes).astype(np.int64)
    groups = np.array([*names, ""], dtype=np.str_)[places]
    there = [name for name in names if (groups == name).any()]
    if not 2 <= len(there) <= MOST_LEVELS:
        raise DataError(
            f"--subgroups {ask.name}: subgroups need 2 to {MOST_LEVELS} values, found {len(there)}"
            "; give limits for numbers, such as age:50|70, or leave the column out"
        )
    return groups, there


def _ranges(values: FloatArray, cuts: tuple[float, ...]) -> tuple[list[str], FloatArray]:
    """Names of the ranges between limits, and the range (n,) of each value."""
    ends = [f"{cut:g}" for cut in cuts]
    middle = [f"{low} to <{high}" for low, high in pairwise(ends)]
    codes = np.searchsorted(cuts, values, "right").astype(np.float64)
    return [f"<{ends[0]}", *middle, f"≥{ends[-1]}"], codes


def by_unit(groups: Mapping[str, str], units: Mapping[str, list[str]]) -> dict[str, str] | None:
    """Subgroup of each unit; None where a unit has images of several subgroups.

    Args:
        groups: subgroup of each image by id.
        units: ids of the images of each patient or breast.
    """
    found = {}
    for unit, images in units.items():
        own = {groups[image] for image in images} - {""}
        if len(own) > 1:
            return None
        found[unit] = next(iter(own), "")
    return found
