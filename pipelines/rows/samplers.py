"""Samplers by name; their code is loaded when a fold is resampled, so a list loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outerfold.storage.registry import Registry

_HOME = "outerfold.pipelines.rows.resample"


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A way to balance the classes of one fold's training rows.

    Attributes:
        name: its name in the search space.
        resample: function, or its ``module:name``, from inputs (n, width), labels (n,) and
            ``seed`` to ``Resampled`` rows. The inputs are those of one fold's training rows; they
            have no columns where ``real_rows`` holds.
        real_rows: whether it makes no rows and reads no input, so that it suits inputs that
            cannot be interpolated.
        many: the same from a function that reads inputs (k, width) at positions (k,), for more
            rows than can be held in memory; None reads all of them.
    """

    name: str
    resample: str | Callable[..., Any]
    real_rows: bool
    many: str | Callable[..., Any] | None = None


SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    (
        Sampler(name="none", resample=f"{_HOME}:keep_rows", real_rows=True),
        Sampler(name="weighted", resample=f"{_HOME}:weigh_rows", real_rows=True),
        Sampler(name="over", resample=f"{_HOME}:repeat_rows", real_rows=True),
        Sampler(
            name="smote",
            resample=f"{_HOME}:interpolate_rows",
            real_rows=False,
            many=f"{_HOME}:interpolate_many",
        ),
        Sampler(
            name="smote_tomek",
            resample=f"{_HOME}:interpolate_and_clean",
            real_rows=False,
            many=f"{_HOME}:interpolate_most",
        ),
    ),
)


def real_row_samplers() -> tuple[str, ...]:
    """Names of the samplers that make no rows, which suit inputs that cannot be interpolated."""
    return tuple(name for name, sampler in SAMPLERS.items() if sampler.real_rows)
