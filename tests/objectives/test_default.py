"""The default configuration: fixed beforehand, drawable, with what a run fixes taken into it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pytest
from optuna.trial import FixedTrial

from outerfold.objectives.default import Default, build_default
from outerfold.objectives.spaces import (
    Choice,
    Range,
    Ranges,
    default_ranges,
    defaults_of,
    make_space,
    override_ranges,
    ranges_of,
)
from outerfold.pipelines.encoders.divide import Blocks
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline

PIPELINES = {"dbt": DbtPipeline, "multimodal": MultimodalPipeline}


def overridden(task: str, **space: dict[str, object]) -> Ranges:
    return override_ranges(task, space)


@pytest.mark.parametrize("task", PIPELINES)
@pytest.mark.parametrize("blocks", [0, 2, "all"])
def test_every_search_without_overrides_can_draw_its_default(task: str, blocks: Blocks) -> None:
    ranges = default_ranges(task, blocks)
    found = build_default(task, ranges)
    assert found.reason == ""
    assert found.params == {name: defaults_of(task)[name] for name in found.params}
    assert all(ranges[name].holds(value) for name, value in found.params.items())
    left_out = {"augmentation", "token_sampler"}  # no views, no attention
    assert set(ranges) - set(found.params) == left_out & set(ranges)
    trial = FixedTrial(dict(found.params))
    make_space(task, ranges)(trial)
    assert trial.params == found.params


@pytest.mark.parametrize("task", PIPELINES)
def test_the_default_is_that_of_the_pipeline_where_the_pipeline_has_one(task: str) -> None:
    own = {f.name: f.default for f in fields(PIPELINES[task]) if f.default is not MISSING}
    assert {name: defaults_of(task)[name] for name in own if name != "encoder"} == {
        name: value for name, value in own.items() if name != "encoder"
    }


@pytest.mark.parametrize(
    ("space", "name", "value"),
    [
        ({"batch_size": {"values": [32]}}, "batch_size", 32),
        ({"dropout": {"low": 0.5, "high": 0.5}}, "dropout", 0.5),
        ({"dropout": {"low": 0.5, "high": 0.55, "step": 0.1}}, "dropout", 0.5),
        ({"sampler": {"values": ["smote"]}}, "sampler", "smote"),
        ({"augmented_views": {"values": [2]}}, "augmentation", "light"),
        ({"attention": {"values": [True]}}, "token_sampler", "none"),
        ({"focal_gamma": {"values": [2, 0]}}, "focal_gamma", 0),
    ],
)
def test_a_value_that_the_run_fixes_is_the_defaults(
    space: dict[str, Any], name: str, value: object
) -> None:
    found = build_default("dbt", overridden("dbt", **space))
    assert found.reason == ""
    assert found.params[name] == value
    assert type(found.params[name]) is type(value)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (
            {"dropout": {"low": 0.4, "high": 0.6}},
            "the search draws dropout from 0.4 to 0.6, and the default configuration has 0.3",
        ),
        (
            {"dropout": {"low": 0.15, "high": 0.6, "step": 0.1}},
            "the search draws dropout from 0.15 to 0.6 in steps of 0.1, and the default "
            "configuration has 0.3",
        ),
        (
            {"sampler": {"values": ["weighted", "smote"]}},
            "the search draws sampler from weighted, smote, and the default configuration has none",
        ),
    ],
)
def test_a_search_that_cannot_draw_the_default_has_none_and_says_why(
    space: dict[str, Any], reason: str
) -> None:
    assert build_default("dbt", overridden("dbt", **space)) == Default({}, reason)


def test_every_excluded_value_is_told() -> None:
    space: dict[str, Any] = {
        "learning_rate": {"low": 1e-2, "high": 1e-1},
        "batch_size": {"values": [16, 32]},
    }
    reason = build_default("multimodal", overridden("multimodal", **space)).reason
    assert "learning_rate from 0.01 to 0.1, and the default configuration has 0.001" in reason
    assert "batch_size from 16, 32, and the default configuration has 64" in reason


def test_what_the_default_does_not_draw_excludes_nothing() -> None:
    space: dict[str, Any] = {"token_sampler": {"values": ["weighted", "over"]}}
    found = build_default("dbt", overridden("dbt", **space))
    assert found == build_default("dbt", ranges_of("dbt"))


def test_of_several_encoders_the_first_is_the_defaults() -> None:
    ranges = {**ranges_of("dbt"), "encoder": Choice(("timm:b", "timm:a"))}
    assert build_default("dbt", ranges).params["encoder"] == "timm:b"


def test_a_step_divides_a_range_as_the_search_draws_it() -> None:
    stepped = Range(0.0, 3.0, step=0.5)
    assert [stepped.holds(value) for value in (0.0, 1.5, 3.0, 1.6, 3.5, "none")] == [
        *[True] * 3,
        *[False] * 3,
    ]
    assert Range(0.1, 0.7, step=0.2).holds(0.1 + 0.2)  # 0.30000000000000004
