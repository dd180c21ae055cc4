"""Default configuration of a run: the task's table, with the values that the run itself fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optuna.trial import FixedTrial

from outerfold.objectives.spaces import Choice, Drawn, Range, Ranges, defaults_of, make_space


@dataclass(frozen=True)
class Default:
    """Default configuration of every study of a run: its trial 0.

    Attributes:
        params: all hyper-parameters of the trial, by name; empty if there is no default.
        reason: why there is no default, in words; empty if there is one.
    """

    params: Mapping[str, Drawn] = field(default_factory=dict)
    reason: str = ""


def build_default(task: str, ranges: Ranges) -> Default:
    """Default configuration of a task in a search over ``ranges``.

    A range of one value gives that value. Of several encoders the first is taken, since it is the
    one that the option names first. There is no default if the search cannot draw it.

    Args:
        task: ``dbt`` or ``multimodal``.
        ranges: all ranges of the search.

    Example:
        >>> from outerfold.objectives.spaces import ranges_of
        >>> build_default("dbt", {**ranges_of("dbt"), "dropout": Range(0.4, 0.6)}).reason
        'the search draws dropout from 0.4 to 0.6, and the default configuration has 0.3'
    """
    values = {name: _default_value(task, name, ranges) for name in ranges}
    excluded = {name: value for name, value in values.items() if not ranges[name].holds(value)}
    drawable = {name: _any_value(ranges[name]) for name in excluded}
    trial = FixedTrial({**values, **drawable})
    make_space(task, ranges)(trial)  # which hyper-parameters are drawn depends on the values
    reasons = [
        f"the search draws {name} {ranges[name].words}, and the default configuration has {value}"
        for name, value in excluded.items()
        if name in trial.params
    ]
    return Default({}, "; ".join(reasons)) if reasons else Default(dict(trial.params))


def _default_value(task: str, name: str, ranges: Ranges) -> Drawn:
    searched = ranges[name]
    if searched.fixed is not None:
        return searched.fixed
    choices = searched.values if isinstance(searched, Choice) else ()
    if name == "encoder":
        return choices[0]
    wanted = defaults_of(task)[name]
    return next((value for value in choices if value == wanted), wanted)  # of the choice's own type


def _any_value(searched: Range | Choice) -> Drawn:
    return searched.low if isinstance(searched, Range) else searched.values[0]
