"""Ablation (`--ablate`): one run for each level of a factor, on the same folds, and a comparison.

A factor is a search range with a list of values; its levels are these values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from outerfold.objectives.spaces import Choice, Ranges, defaults_of
from outerfold.reports.sections.comparison import compare_runs
from outerfold.reports.sections.terminal import comparison_lines
from outerfold.reports.write_comparison import write_comparisons
from outerfold.storage.errors import DataError, unknown_name
from outerfold.storage.records import Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges, default_of, needs_tokens

FactorLevel = bool | int | float | str


def factor_levels(config: StudyConfig, data: Dataset, factor: str) -> tuple[FactorLevel, ...]:
    """All levels of a factor that the search may draw; the first one is the reference.

    Raises:
        DataError: the factor does not exist, or has fewer than two levels.
    """
    ranges = build_ranges(config, data)
    if factor == "encoder" and factor not in ranges:
        raise DataError(
            f"--ablate encoder: only {list(config.encoders)} can be drawn, and a comparison needs "
            "two levels; name several with --encoder A,B"
        )
    if factor not in ranges:
        raise DataError(f"--ablate: {unknown_name('factor', factor, list(ranges))}")
    chosen = ranges[factor]
    if not isinstance(chosen, Choice):
        raise DataError(
            f"--ablate {factor}: {factor} is a range without levels; list some with "
            f"[space.{factor}] values = [...] in --config"
        )
    held = [ranges[name] for name in _linked_factors(config, ranges, factor)]
    found = tuple(
        level
        for level in chosen.values
        if all(isinstance(other, Choice) and level in other.values for other in held)
    )
    if len(found) < 2:
        raise DataError(
            f"--ablate {factor}: only {list(found)} can be drawn, and a comparison needs two levels"
        )
    return found


def with_level(config: StudyConfig, data: Dataset, factor: str, level: FactorLevel) -> StudyConfig:
    """The same options with one factor fixed at one level.

    They name the factor in ``ablated`` if the default configuration has another value of it.
    """
    if factor == "encoder":
        ablated = None if level == config.encoders[0] else factor
        return replace(config.with_encoder(str(level)), ablated=ablated)
    names = _linked_factors(config, build_ranges(config, data), factor)
    space = {**config.space, **{name: {"values": [level]} for name in names}}
    held = replace(config, space=space)
    default = default_of(held, build_ranges(held, data)).params
    moved = factor in default and level != defaults_of(config.task)[factor]
    return replace(held, ablated=factor if moved else None)


def ablate(
    factors: Sequence[str],
    config: StudyConfig,
    data: Dataset,
    root: Path,
    study: Callable[[StudyConfig, Path], int],
    console: Console,
) -> int:
    """Run every level of every factor, then compare each level with the factor's first one.

    Args:
        factors: names of the factors.
        config: options that all runs share.
        data: rows of the runs.
        root: folder of the runs and of the comparison.
        study: carries out one configuration in one run directory; returns the exit code.
        console: terminal.

    Returns:
        The exit code: that of the first run that did not succeed, else 0.

    Raises:
        DataError: the factors cannot be compared.
    """
    _refuse_factors(factors, config, root)
    plan = {factor: factor_levels(config, data, factor) for factor in factors}
    for factor, found in plan.items():
        for level in found:
            console.rule(f"{factor} = {level_text(level)}")
            code = study(with_level(config, data, factor, level), root / folder_name(factor, level))
            if code:
                return code
    comparisons = []
    for factor, (first, *others) in plan.items():
        reference = read_kept_run(RunFolder(root / folder_name(factor, first)))
        for level in others:
            run = read_kept_run(RunFolder(root / folder_name(factor, level)))
            names = f"{factor} {level_text(level)}", f"{factor} {level_text(first)}"
            comparisons.append(compare_runs(run, reference, names))
    for comparison in comparisons:
        for part in comparison_lines(comparison):
            console.print(part)
    console.print(f"comparison: {write_comparisons(comparisons, root)}", soft_wrap=True)
    return 0


def folder_name(factor: str, level: FactorLevel) -> str:
    """Folder name of a level, such as ``attention-off`` or ``sampler-smote_tomek``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{factor}-{level_text(level)}")


def level_text(level: FactorLevel) -> str:
    """Text of a level in tables; a truth value is ``on`` or ``off``."""
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else str(level)


def _refuse_factors(factors: Sequence[str], config: StudyConfig, root: Path) -> None:
    if config.protocol != "nested":
        raise DataError("--ablate compares honest estimates; leave out --protocol non-nested")
    if len(set(factors)) != len(factors):
        raise DataError(f"--ablate names a factor twice: {list(factors)}; name each factor once")
    if RunFolder(root).started():
        raise DataError(f"--run {root}: holds a single run; name another folder for --ablate")


def _linked_factors(config: StudyConfig, ranges: Ranges, factor: str) -> tuple[str, ...]:
    """The factor, with the range that replaces it where attention reads tokens, if there is one."""
    replaced = factor == "sampler" and needs_tokens(config, ranges)
    return (factor, "token_sampler") if replaced else (factor,)
