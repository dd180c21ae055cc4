"""Options: the unknown and the inert are refused, files and the command line agree."""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
import torch

from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import PRUNERS
from outerfold.objectives.spaces import space_of
from outerfold.reports.results.levels import Aggregate, Level
from outerfold.storage.records import DataError
from outerfold.storage.tasks import TASKS
from outerfold.study.cli.main import VERBS, build_parser
from outerfold.study.cli.option_page import option_table
from outerfold.study.cli.options import add_run_options
from outerfold.study.config.execution import RECORDS, Execution, Shorthand
from outerfold.study.config.gather import (
    CACHE_VARIABLE,
    build_execution,
    build_study_config,
    cache_folder,
    gather_options,
    read_toml,
)
from outerfold.study.config.option import (
    MODEL,
    OptionField,
    option,
    options_of,
    stated_options,
)
from outerfold.study.config.presets import apply_preset
from outerfold.study.config.record import (
    AGGREGATES,
    LEVELS,
    PRUNER_NAMES,
    StudyConfig,
)

DATA = "/data/mine"


def config(**changes: Any) -> StudyConfig:
    return StudyConfig(**{"task": "multimodal", "encoder": "x:y", "epochs": 10, **changes})


def typed(*words: str) -> dict[str, Any]:
    _, verbs = build_parser()
    return vars(verbs["run"].parse_args(list(words)))


def merged(tmp_path: Path, text: str, *words: str) -> dict[str, Any]:
    """What a configuration file and a command line come to."""
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return gather_options(typed("--config", str(path), *words))


def whole(options: dict[str, Any]) -> tuple[Execution, StudyConfig]:
    return build_execution(options), build_study_config(options, DATA)


# -- records ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"columns": ("age", "density"), "classes": ("a", "b"), "positive": "malignant"},
        {"columns": ()},
        {"threshold": "sensitivity", "threshold_target": 0.95},
        {"space": {"dropout": {"low": 0.1, "high": 0.2}, "sampler": {"values": ["none", "over"]}}},
        {
            "task": "dbt",
            "weights": "/w.pt",
            "batch_size": 32,
            "seed": 2**40,
            "patient_regex": "(P.)",
        },
    ],
)
def test_a_configuration_survives_its_toml_file(changes: dict[str, Any]) -> None:
    chosen = config(**changes)
    again = StudyConfig.from_toml(tomllib.loads(tomli_w.dumps(chosen.to_toml())))
    assert again == chosen
    assert again.changes_from(chosen) == []


def test_changes_name_the_option_with_its_old_and_new_value() -> None:
    was, now = config(), config(trials=7, columns=("age",))
    assert now.changes_from(was) == ["columns was None, now ('age',)", "trials was 100, now 7"]
    assert replace(now, trials=100, columns=None).changes_from(was) == []


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("trails", "trials"),
        ("outer_fold", "outer_folds"),
        ("metrics", "metric"),
        ("sed", "seed"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(name: str, known: str) -> None:
    with pytest.raises(DataError, match=f"unknown key '{name}'; did you mean '{known}'"):
        StudyConfig.from_toml({"task": "dbt", name: 3})


def test_a_key_like_none_is_refused_with_all_known_names() -> None:
    with pytest.raises(
        DataError, match=r"unknown key 'zzzz'; known are \['ablated', 'aggregate', 'batch_size'"
    ):
        StudyConfig.from_toml({"zzzz": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials must be a whole number of at least 1, found 0"),
        ({"patience": -1}, "--patience must be a whole number of at least 0, found -1"),
        (
            {"trials": 10, "patience": 9},
            "--patience 9 has no effect with --trials 10, since no trial",
        ),
        ({"trials": True}, "--trials must be a whole number of at least 1, found True"),
        ({"trials": 2.0}, "--trials must be a whole number of at least 1, found 2.0"),
        ({"outer_folds": 1}, "--outer-folds must be a whole number of at least 2, found 1"),
        ({"inner_folds": 1}, "--inner-folds must be a whole number of at least 2, found 1"),
        ({"repeats": 0}, "--repeats must be a whole number of at least 1, found 0"),
        ({"seed": -1}, "--seed must be a whole number of at least 0, found -1"),
        ({"epochs": 0}, "--epochs must be a whole number of at least 1, found 0"),
        ({"patience_epochs": 0}, "--patience-epochs must be a whole number of at least 1"),
        ({"batch_size": -2}, "--batch-size must be a whole number of at least 0, found -2"),
        ({"batch_size": 1}, "--batch-size 1: batch normalisation needs at least two rows"),
        ({"task": "dbtt"}, "--task: unknown value 'dbtt'; did you mean 'dbt'?"),
        ({"metric": "rocauc"}, "--metric: unknown value 'rocauc'; did you mean 'roc_auc'?"),
        ({"pruner": "halfing"}, "--pruner: unknown value 'halfing'; did you mean 'halving'?"),
        ({"threshold": "zz"}, r"--threshold: unknown value 'zz'; known are \['prevalence', "),
        (
            {"threshold": "sensitivity", "threshold_target": 1.0},
            "--threshold-target must be between 0 and 1, found 1.0",
        ),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "dbt", "columns": ("age",)}, "--columns has no effect on the dbt task"),
        ({"threshold_target": 0.95}, "--threshold-target has no effect with --threshold prev"),
        (
            {"tta": 2, "trainable_blocks": "all"},
            "--tta averages over cached views, and --trainable-bl",
        ),
        ({"checkpointing": True}, "--checkpointing has no effect with --trainable-blocks 0"),
        ({"batch_size": "auto"}, "--batch-size auto has no effect with --trainable-blocks 0"),
        (
            {"batch_size": 32, "space": {"batch_size": {"values": [16]}}},
            r"--batch-size and \[space.batch_size\] both set the batch size; keep one",
        ),
    ],
)
def test_an_option_without_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        config(**changes)


def test_what_can_be_asked_for_is_what_there_is() -> None:
    for name in METRICS:
        assert config(metric=name).metric == name
    assert set(PRUNER_NAMES) == set(PRUNERS)
    assert set(LEVELS) == set(get_args(Level))
    assert set(AGGREGATES) == set(get_args(Aggregate))
    for task in TASKS:
        assert space_of(task)


# -- file and command line -------------------------------------------------------------------


def test_what_was_typed_wins_over_the_file(tmp_path: Path) -> None:
    text = 'task = "dbt"\ntrials = 7\nseed = 3\nworkers = 2\n[space.dropout]\nlow = 0\nhigh = 0.1\n'
    options = merged(tmp_path, text, "--trials", "9", "--workers", "1")
    chosen = build_study_config(options, DATA)
    assert (chosen.task, chosen.trials, chosen.seed) == ("dbt", 9, 3)
    assert chosen.space == {"dropout": {"low": 0, "high": 0.1}}
    assert build_execution(options).workers == 1


@pytest.mark.parametrize(
    ("text", "words", "quiet"),
    [
        ("quiet = true", (), True),
        ("quiet = false", (), False),
        ("", (), False),
        ("", ("--quiet",), True),
        ("quiet = false", ("--quiet",), True),
    ],
)
def test_quiet_is_heard_from_the_file_as_from_the_command_line(
    tmp_path: Path, text: str, words: tuple[str, ...], quiet: bool
) -> None:
    assert build_execution(merged(tmp_path, f'task = "dbt"\n{text}', *words)).quiet is quiet


def test_a_file_may_say_everything(tmp_path: Path) -> None:
    text = """
    task = "multimodal"
    data = "/some/where"
    classes = ["benign", "malignant"]
    columns = ["age"]
    run = "runs/mine"
    quiet = true
    threshold = "specificity"
    threshold_target = 0.8
    """
    options = merged(tmp_path, text)
    chosen = build_study_config(options, DATA)
    assert chosen.classes == ("benign", "malignant")
    assert chosen.columns == ("age",)
    assert (chosen.threshold, chosen.threshold_target) == ("specificity", 0.8)
    assert build_execution(options) == Execution(run=Path("runs/mine"), quiet=True)


@pytest.mark.parametrize(
    ("task", "data", "encoder", "epochs"),
    [
        ("dbt", DATA, "clip:ViT-B/32", 30),
        ("multimodal", DATA, "timm:efficientnet_b0", 100),
        ("dbt", "demo", "bundled:efficientnet_lite0", 30),
        ("multimodal", "demo", "bundled:efficientnet_lite0", 100),
    ],
)
def test_a_task_and_its_data_bring_their_defaults(
    task: str, data: str, encoder: str, epochs: int
) -> None:
    chosen = build_study_config(gather_options(typed("--task", task)), data)
    assert (chosen.encoder, chosen.epochs, chosen.data) == (encoder, epochs, data)
    named = build_study_config(
        gather_options(typed("--task", task, "--encoder", "a:b", "--epochs", "3")), data
    )
    assert (named.encoder, named.epochs) == ("a:b", 3)


@pytest.mark.parametrize(
    ("words", "pruner"),
    [
        (("--trainable-blocks", "0"), "halving"),
        (("--trainable-blocks", "2"), "paired"),
        (("--trainable-blocks", "all"), "paired"),
        (("--trainable-blocks", "2", "--pruner", "halving"), "halving"),
        (("--trainable-blocks", "0", "--pruner", "paired"), "paired"),
    ],
)
def test_trained_blocks_have_a_pruner_of_their_own_unless_one_is_named(
    words: tuple[str, ...], pruner: str
) -> None:
    chosen = build_study_config(gather_options(typed("--task", "dbt", *words)), DATA)
    assert chosen.pruner == chosen.to_toml()["pruner"] == chosen.naming()["pruner"] == pruner


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("words", [(), ("--final", "refit"), ("--final", "ensemble")])
def test_the_same_words_give_the_same_study_with_a_gpu_and_without(
    monkeypatch: pytest.MonkeyPatch, task: str, words: tuple[str, ...]
) -> None:
    found = []
    for gpus in (0, 1, 4):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr(os, "cpu_count", lambda gpus=gpus: 1 + 15 * gpus)
        found.append(build_study_config(gather_options(typed("--task", task, *words)), DATA))
    assert found[0] == found[1] == found[2]
    assert (found[0].trainable_blocks, found[0].in_flight) == (0, 1)
    assert found[0].networks == (5 if words else 1)


def test_a_refit_of_trained_blocks_is_one_network() -> None:
    words = typed("--task", "dbt", "--trainable-blocks", "2", "--final", "refit")
    assert build_study_config(gather_options(words), DATA).networks == 1


def preset(*words: str) -> StudyConfig:
    return build_study_config(
        gather_options(typed("--task", "multimodal", "--preset", "published", *words)), "demo"
    )


def test_the_preset_is_the_published_recipe_and_gives_way_to_what_is_typed() -> None:
    whole = preset()
    assert (whole.encoder, whole.trainable_blocks, whole.epochs) == (
        "timm:efficientnet_b0",
        2,
        100,
    )
    assert (whole.pruner, whole.networks) == ("paired", 1)
    assert preset("--epochs", "7") == replace(whole, epochs=7)
    assert preset("--encoder", "a:b", "--epochs", "7") == replace(whole, encoder="a:b", epochs=7)
    frozen = preset("--trainable-blocks", "0")
    assert (frozen.trainable_blocks, frozen.pruner) == (0, "halving")


def test_a_file_may_name_the_preset_and_replace_a_value_of_it(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('task = "multimodal"\npreset = "published"\nepochs = 9\n')
    assert build_study_config(gather_options(typed("--config", str(path))), "demo") == preset(
        "--epochs", "9"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"task": "dbt", "preset": "published"},
            "--preset published is a recipe of --task multimodal, and --task is dbt; leave "
            "--preset out, or choose --task multimodal",
        ),
        (
            {"preset": "published", "encoder": "a:b", "trainable_blocks": 1, "epochs": 3},
            "--preset published has no effect, since all of --encoder, --trainable-blocks, "
            "--epochs are given; leave it or one of them out",
        ),
        ({"preset": "publishd"}, "--preset: unknown value 'publishd'; did you mean 'published'"),
        ({"preset": 3}, "preset must be text, found 3"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        apply_preset({"task": "multimodal", **given})


def test_a_weights_file_is_kept_as_a_whole_path(tmp_path: Path) -> None:
    chosen = build_study_config(
        gather_options(typed("--task", "dbt", "--weights", "a/../w.pt")), DATA
    )
    assert chosen.weights == str(Path.cwd() / "w.pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails = 3", r"--config .*study.toml: unknown key 'trails'; did you mean 'trials'\?"),
        ("worker = 3", "unknown key 'worker'; did you mean 'workers'"),
        ("trials = ", r"--config .*study.toml: not valid TOML \("),
        ('trials = "many"', "--trials must be a whole number of at least 1, found 'many'"),
        ("task = 5", "task must be text, found 5"),
        ("data = 5", "data must be text, found 5"),
        ("encoder = ['a']", r"encoder must be text, found \['a'\]"),
        ("run = 5", "run must be text, found 5"),
        ("quiet = 'yes'", "quiet must be true or false, found 'yes'"),
        ("classes = 'benign'", "classes must be a list of texts, found 'benign'"),
        ("columns = [1, 2]", r"columns must be a list of texts, found \[1, 2\]"),
        ("threshold_target = '0.9'", "threshold_target must be a number, found '0.9'"),
        ("space = 3", "space must be a table, found 3"),
        ("engine = 'cloud'", r"--engine: unknown value 'cloud'; known are \['dask', 'local'\]"),
        ("workers = -1", "--workers must be a whole number of at least 0, found -1"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    head = "" if text.startswith("task") else 'task = "multimodal"\n'
    with pytest.raises(DataError, match=message):
        whole(merged(tmp_path, head + text))


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--config .*none.toml: cannot be read \(No such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"--config .*picture.toml: not valid TOML"):
        read_toml(tmp_path / "picture.toml")


@pytest.mark.parametrize("words", [(), ("--trials", "3")])
def test_a_run_without_a_task_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(
        DataError, match=r"--task must be one of \['dbt', 'multimodal'\], found not"
    ):
        gather_options(typed(*words))


def test_every_field_of_a_record_is_an_option_and_numbers_have_two_bounds() -> None:
    for record in RECORDS:
        assert [one.name for one in options_of(record)] == [f.name for f in fields(record)]
        for one in options_of(record):
            assert one.kind is not int or one.option.most > one.option.least >= 0, one.name
            assert one.option.about or not one.option.typed, one.name
    every = [one for record in RECORDS for one in options_of(record)]
    assert set(typed()) == {one.name for one in every if one.option.typed}


NUMBERS = [one for record in RECORDS for one in options_of(record) if one.kind is int]


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.name)
@pytest.mark.parametrize("exponent", [0, 40, 5000])
def test_a_number_of_any_size_is_refused_above_its_bound_in_a_sentence(
    one: OptionField, exponent: int
) -> None:
    value = (one.option.most + 1) * 10**exponent
    with pytest.raises(DataError) as refused:
        whole({"task": "dbt", "encoder": "a:b", one.name: value})
    bound = f"{one.flag} must be a whole number of at most {one.option.most}, found "
    assert str(refused.value).startswith(bound)
    assert len(str(refused.value)) < 180


def test_a_file_with_a_number_of_too_many_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"study.toml: not valid TOML \("):
        merged(tmp_path, f'task = "dbt"\ntta = 1{"0" * 5000}\n')


# -- a new option ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Extended(StudyConfig):
    """The options with one more; this field is all that is added."""

    shades: int = field(
        default=3,
        metadata=option(about="shades of grey", group=MODEL, least=1, most=9, before="fit"),
    )


EXTENDED = (Extended, Shorthand, Execution)


def test_a_new_field_is_an_option_of_parser_help_file_and_checks(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_run_options(parser, EXTENDED)
    assert re.search(r"--shades N +shades of grey \(3\)\n +--fit", parser.format_help())
    options = vars(parser.parse_args(["--task", "dbt", "--shades", "4"]))
    assert build_study_config(gather_options(options, EXTENDED), DATA, Extended) == Extended(
        task="dbt",
        data=DATA,
        encoder="clip:ViT-B/32",
        epochs=30,
        encoder_backend="auto",
        encoder_precision="auto",
        train_on="auto",
        shades=4,
    )
    path = tmp_path / "study.toml"
    path.write_text('task = "dbt"\nshades = 10\n')
    table = gather_options({"config": path}, EXTENDED)
    refusal = "--shades must be a whole number of at most 9, found 10"
    with pytest.raises(DataError, match=refusal):
        build_study_config(table, DATA, Extended)
    with pytest.raises(DataError, match="unknown key 'shades'"):
        gather_options({"config": path})


def test_a_new_field_is_in_the_table_of_options_and_in_the_protocol() -> None:
    assert "| `--shades N` | `3` | shades of grey |\n| `--fit F` " in option_table(EXTENDED)
    assert set(stated_options(Extended)) == {*stated_options(StudyConfig), "shades"}


def test_a_new_field_renames_no_folder_unless_it_has_another_value() -> None:
    options = {"task": "dbt", "encoder": "a:b", "epochs": 3}
    assert Extended(**options).naming() == StudyConfig(**options).naming()
    assert Extended(**options, shades=4).naming()["shades"] == 4


def test_the_cache_is_where_the_environment_says_or_in_the_home() -> None:
    assert cache_folder({CACHE_VARIABLE: "/somewhere"}) == Path("/somewhere")
    assert cache_folder({}) == Path.home() / ".cache" / "outerfold"


def test_every_verb_has_a_parser_and_help() -> None:
    parser, verbs = build_parser()
    assert tuple(verbs) == VERBS
    for verb in VERBS:
        assert verb in parser.format_help()
        assert "-h" in verbs[verb].options()
