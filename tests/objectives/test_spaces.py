"""What is searched: every point is a pipeline, the winner is rebuilt, bad ranges are refused."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial, TrialState

from outerfold.objectives.spaces import (
    LIMITS,
    Choice,
    Range,
    Ranges,
    default_ranges,
    make_space,
    override_ranges,
    ranges_of,
)
from outerfold.pipelines._base import Pipeline
from outerfold.pipelines.rows.samplers import SAMPLERS, real_row_samplers
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.storage.records import DataError
from tests.pipelines.rows.fold_factories import prepared

TASKS = {"dbt": DbtPipeline, "multimodal": MultimodalPipeline}


def drawn(ranges: Ranges, task: str, number: int) -> list[tuple[dict[str, Any], Pipeline]]:
    """Random points: what the trial holds and the pipeline it became."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = []
    for _ in range(number):
        trial = study.ask()
        pipeline = make_space(task, ranges)(trial)
        points.append((trial.params, pipeline))
    return points


def inside(value: object, of: Range | Choice) -> bool:
    if isinstance(of, Choice):
        return value in of.values
    assert isinstance(value, float)
    return of.low <= value <= of.high


@pytest.mark.parametrize("task", TASKS)
def test_every_point_builds_a_pipeline_of_the_task_from_values_within_the_ranges(task: str) -> None:
    for params, pipeline in drawn(ranges_of(task), task, 200):
        assert isinstance(pipeline, TASKS[task])
        assert all(inside(value, ranges_of(task)[name]) for name, value in params.items())
        unsearched = {"encoder"} if params["augmented_views"] else {"encoder", "augmentation"}
        for field in fields(pipeline):
            if field.name in unsearched:
                continue
            name = "token_sampler" if field.name not in params else field.name
            assert getattr(pipeline, field.name) == params[name]


@pytest.mark.parametrize("task", TASKS)
def test_every_point_can_be_trained(task: str) -> None:
    rows = {tokens: prepared(task, tokens=tokens, patients=24) for tokens in (False, True)}
    seen = set()
    for _, pipeline in drawn(ranges_of(task), task, 10):
        seen.add(pipeline.tokens)
        training = pipeline.start(rows[pipeline.tokens], budget=5, seed=1, device="cpu")
        (epoch,) = islice(training, 1)
        assert np.isfinite(epoch.fit_loss).all()
    assert seen == ({False, True} if task == "dbt" else {False})


@pytest.mark.parametrize("task", TASKS)
def test_a_fixed_trial_of_the_winners_parameters_rebuilds_the_winner(task: str) -> None:
    for params, pipeline in drawn(ranges_of(task), task, 50):
        assert make_space(task, ranges_of(task))(FixedTrial(params)) == pipeline


@pytest.mark.parametrize("task", TASKS)
def test_no_parameter_of_a_pipeline_is_left_out_of_the_search(task: str) -> None:
    ranges = {**ranges_of(task), "encoder": Choice(("timm:a", "timm:b"))}
    varied = {f.name for f in fields(TASKS[task])}
    for name in varied:
        values = {getattr(p, name) for _, p in drawn(ranges, task, 60)}
        assert len(values) > 1, name


def test_attention_over_tokens_draws_from_the_samplers_that_make_no_rows() -> None:
    points = [pipeline for _, pipeline in drawn(ranges_of("dbt"), "dbt", 200)]
    attended = {p.sampler for p in points if p.tokens}  # type: ignore[attr-defined]
    pooled = {p.sampler for p in points if not p.tokens}  # type: ignore[attr-defined]
    assert attended == set(real_row_samplers())
    assert pooled == set(SAMPLERS)


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_lie_within_the_limits_and_none_is_always_among_the_samplers(
    task: str,
) -> None:
    for name, (least, most) in LIMITS.items():
        default = default_ranges(task, "all")[name]
        ends = (default.low, default.high) if isinstance(default, Range) else default.values
        assert all(least <= float(end) <= most for end in ends), name
    samplers = ranges_of(task)["sampler"]
    assert isinstance(samplers, Choice)
    assert "none" in samplers.values


# -- overrides -------------------------------------------------------------------------------


def of_toml(text: str, task: str = "dbt") -> Ranges:
    return override_ranges(task, tomllib.loads(text)["space"])


def test_an_override_replaces_one_range_and_leaves_the_others() -> None:
    ranges = of_toml("[space.dropout]\nlow = 0\nhigh = 0.2\n")
    assert ranges["dropout"] == Range(0.0, 0.2)
    assert {name: r for name, r in ranges.items() if name != "dropout"} == {
        name: r for name, r in ranges_of("dbt").items() if name != "dropout"
    }
    assert ranges_of("dbt")["dropout"] != ranges["dropout"]


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("dropout = {low = 0.1, high = 0.5, step = 0.1}", "dropout", Range(0.1, 0.5, step=0.1)),
        (
            "learning_rate = {low = 1e-5, high = 1, log = true}",
            "learning_rate",
            Range(1e-5, 1.0, log=True),
        ),
        ("focal_gamma = {values = [0, 2]}", "focal_gamma", Choice((0, 2))),
        ("sampler = {values = ['none']}", "sampler", Choice(("none",))),
        ("attention = {values = [false]}", "attention", Choice((False,))),
        ("batch_size = {values = [16, 256]}", "batch_size", Choice((16, 256))),
        ("dropout = {low = 0.3, high = 0.3}", "dropout", Range(0.3, 0.3)),
    ],
)
def test_overrides_are_read_as_a_configuration_file_spells_them(
    text: str, name: str, wanted: Range | Choice
) -> None:
    ranges = of_toml(f"[space]\n{text}")
    assert ranges[name] == wanted
    for params, _ in drawn(ranges, "dbt", 20):
        if name in params:  # dbt draws no `sampler` with attention
            assert params[name] in wanted.values if isinstance(wanted, Choice) else True
            assert isinstance(wanted, Choice) or wanted.low <= params[name] <= wanted.high


def test_a_search_over_an_override_draws_and_rebuilds_within_it() -> None:
    ranges = of_toml(
        "[space]\ndropout = {values = [0.25]}\nlearning_rate = {low = 0.5, high = 0.75}", "dbt"
    )
    for params, pipeline in drawn(ranges, "dbt", 20):
        assert isinstance(pipeline, DbtPipeline)
        assert pipeline.dropout == 0.25
        assert 0.5 <= pipeline.learning_rate <= 0.75
        assert make_space("dbt", ranges)(FixedTrial(params)) == pipeline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "droput = {low = 0, high = 1}",
            r"\[space\]: unknown hyper-parameter 'droput'; did you mean 'dropout'\?",
        ),
        (
            "zzz = {low = 0, high = 1}",
            r"\[space\]: unknown hyper-parameter 'zzz'; known are \['attention', ",
        ),
        ("dropout = 0.3", r"a range is low and high \(and log or step\), or values; found 0.3"),
        ("dropout = {low = 0.1}", r"a range is low and high .*; found \{'low': 0.1\}"),
        ("dropout = {low = 0.1, high = 0.2, steps = 3}", "a range is low and high"),
        ("dropout = {low = 0.1, high = 0.2, values = [0.1]}", "a range is low and high"),
        ("dropout = {low = '0.1', high = 0.2}", "a range is low and high"),
        ("dropout = {low = true, high = 0.2}", "a range is low and high"),
        ("dropout = {low = 0.1, high = 0.2, log = 1}", "a range is low and high"),
        ("dropout = {values = []}", "a range is low and high"),
        ("dropout = {values = 0.3}", "a range is low and high"),
        ("dropout = {low = 0.5, high = 0.2}", "needs low <= high and step > 0"),
        ("dropout = {low = nan, high = 0.2}", "needs low <= high and step > 0"),
        ("dropout = {low = 0.1, high = 0.2, step = 0}", "needs low <= high and step > 0"),
        ("learning_rate = {low = 0, high = 1, log = true}", "on a log scale low > 0 and no step"),
        (
            "learning_rate = {low = 1e-3, high = 1, log = true, step = 0.1}",
            "on a log scale low > 0",
        ),
        (
            "dropout = {values = ['high']}",
            r"\[space.dropout\]: Choice\(values=\('high',\)\) does not fit; the default is "
            r"Range",
        ),
        ("sampler = {low = 0, high = 1}", "does not fit; the default is Choice"),
        ("sampler = {values = ['none', 'adasyn']}", "does not fit; the default is Choice"),
        ("token_sampler = {values = ['smote']}", "does not fit; the default is Choice"),
        ("batch_size = {values = [32.0]}", "does not fit; the default is Choice"),
        ("attention = {values = [1]}", "does not fit; the default is Choice"),
        (
            "dropout = {low = 0, high = 1}",
            r"\[space.dropout\]: 1.0 is outside 0 to 0.95, which training can use; narrow the "
            r"range",
        ),
        ("batch_size = {values = [32, 0]}", "0 is outside 2 to 1e"),
        ("batch_size = {values = [1]}", "1 is outside 2 to"),
        ("ens_beta = {values = [1.0]}", "1.0 is outside 0 to"),
        ("augmented_views = {values = [-1]}", "-1 is outside 0 to"),
        ("learning_rate = {low = 0, high = 1}", "0.0 is outside 1e-09 to 10"),
        ("learning_rate = {low = 0.1, high = inf}", "inf is outside"),
        ("focal_gamma = {low = -1, high = 2}", "-1.0 is outside 0 to 10"),
    ],
)
def test_an_override_that_cannot_be_used_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_toml(f"[space]\n{text}")


def test_the_multimodal_task_has_no_sampler_for_tokens() -> None:
    with pytest.raises(DataError, match=r"unknown hyper-parameter 'token_sampler'"):
        of_toml("[space]\ntoken_sampler = {values = ['none']}", "multimodal")


@pytest.mark.parametrize("task", TASKS)
def test_a_search_can_tell_what_it_searched_of_a_trial_that_was_told(task: str) -> None:
    """TPE reads the distributions of finished trials, conditional ones included."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=3))
    for value in range(8):
        trial = study.ask()
        make_space(task, ranges_of(task))(trial)
        study.tell(trial, float(value))
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


# -- trainable blocks ------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_rate_of_the_tail_is_searched_where_blocks_are_trained_and_only_there(
    task: str,
) -> None:
    assert "tail_rate" not in default_ranges(task)
    assert default_ranges(task, 2)["tail_rate"] == Range(0.01, 1.0, log=True)
    assert set(default_ranges(task, "all")) - set(default_ranges(task, 2)) == {"augment_strength"}
    for blocks in (0, 2, "all"):
        trial = optuna.create_study().ask()
        make_space(task, default_ranges(task, blocks))(trial)
        assert ("tail_rate" in trial.params) == bool(blocks)


@pytest.mark.parametrize("blocks", [2, "all"])
def test_no_sampler_makes_rows_where_blocks_are_trained(blocks: int | str) -> None:
    for task in TASKS:
        assert default_ranges(task, blocks)["sampler"] == Choice(real_row_samplers())
    with pytest.raises(DataError, match=r"\[space.sampler\]: .*smote.* does not fit"):
        override_ranges("dbt", {"sampler": {"values": ["smote"]}}, blocks)


@pytest.mark.parametrize(
    ("name", "blocks", "message"),
    [
        ("tail_rate", 0, r"\[space.tail_rate\] has no effect while the encoder is frozen"),
        (
            "augment_strength",
            0,
            "has no effect while the encoder is frozen; add --trainable-blocks",
        ),
        ("augment_strength", 2, "has no effect with --trainable-blocks 2, which reads kept views"),
        (
            "augmented_views",
            "all",
            "has no effect with --trainable-blocks all, which changes images",
        ),
    ],
)
def test_ranges_without_effect_on_a_tail_are_refused(
    name: str, blocks: int | str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        override_ranges("dbt", {name: {"values": [1]}}, blocks)
