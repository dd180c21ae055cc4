"""The protocols beside the nested one: what usual practice claims, and one study a level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from outerfold.objectives.metrics import METRICS
from outerfold.reports.figures.catalogue import pictures
from outerfold.reports.results.results import results
from outerfold.reports.sections.summary import summary
from outerfold.reports.sections.tables import overall_table
from outerfold.reports.wording import stamps
from outerfold.storage.cache.files import write_json
from outerfold.storage.records import DataError, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.cli.main import build_parser
from outerfold.study.config.gather import gather_options
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges, default_of
from outerfold.study.driver.ablation import ablate, factor_levels, with_level
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


def carried_out(path: Path, config: StudyConfig, *, signal: float = 0.3) -> tuple[Run, Session]:
    """The whole run in this process."""
    open_session.cache_clear()
    data, source = make_rows(patients=48, images=2, signal=signal)
    prepared, context = begin_run(path, data, source, config)
    for study in prepared.studies:
        for number in [*range(config.trials), None]:
            assert run_and_keep_job(Job(context, study.name, number, "cpu")).state != "failed"
    write_json(path / "provenance.json", {"timing": {}, "provenance": {}})
    return read_kept_run(prepared.folder), Session(context)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Session]:
    """A finished run that is not nested."""
    quiet_optuna()
    config = make_config(protocol="non-nested", inner_folds=4, networks=1)
    return carried_out(tmp_path_factory.mktemp("flat") / "run", config)


def test_non_nested_reports_the_scores_of_the_folds_that_chose(flat: tuple[Run, Session]) -> None:
    run, session = flat
    best = max(
        (trial for trial in session.study("final").get_trials() if trial.state.name == "COMPLETE"),
        key=lambda trial: (trial.value or 0.0, -trial.number),
    )
    score = METRICS["roc_auc"].score
    claims = [score(f.test.labels, f.test.probabilities) for f in run.outer if f.test is not None]
    assert claims == pytest.approx(best.user_attrs["fold_scores"], abs=1e-12)
    assert [study.name for study in session.folds.values()] == ["final"]
    numbers = results(run)
    assert numbers["trials"].keys() == {"final"}
    assert numbers["overall"]["roc_auc"]["estimate"] == pytest.approx(float(np.mean(claims)))


def test_non_nested_scores_the_rows_that_the_nested_run_tests_fold_by_fold(
    flat: tuple[Run, Session], tmp_path: Path
) -> None:
    """Else the two could not be compared in pairs."""
    claim, _ = flat
    nested, _ = carried_out(tmp_path / "nested", make_config(trials=1))
    assert [fold.name for fold in claim.outer] == [fold.name for fold in nested.outer]
    for one, other in zip(claim.outer, nested.outer, strict=True):
        assert one.test is not None
        assert other.test is not None
        assert sorted(one.test.ids.tolist()) == sorted(other.test.ids.tolist())
        assert set(one.validation.ids.tolist()).isdisjoint(one.test.ids.tolist())
        assert one.train_patients == other.train_patients
        assert one.test_images == other.test_images


def test_a_non_nested_report_is_stamped_as_biased_and_claims_no_optimism(
    flat: tuple[Run, Session],
) -> None:
    run, _ = flat
    numbers = results(run)
    assert stamps(numbers)[0] == "BIASED: NOT NESTED"
    assert numbers["protocol"]["protocol"] == "non-nested"
    assert numbers["optimism"]["estimate"] is None
    words = " ".join(getattr(block, "text", "") for block in summary(numbers))
    assert words.startswith("BIASED. The folds that gave the scores also chose the configuration")
    assert "cross-validation that is not nested" in words
    assert "of the whole procedure that the outer folds measured" not in words
    everything = [words, str(overall_table(numbers, "test")), str(pictures(numbers))]
    assert all("These intervals do not cover" in text for text in everything)
    assert not any("intervals cover patient sampling" in text for text in everything)


@pytest.mark.parametrize("changes", [{"inner_folds": 3}, {"inner_folds": 4, "repeats": 2}])
def test_options_that_non_nested_does_not_read_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(DataError, match="have no effect with --protocol non-nested"):
        make_config(protocol="non-nested", **changes)


def test_ablation_runs_every_level_on_the_same_splits_and_compares_with_the_first(
    tmp_path: Path,
) -> None:
    data, _ = make_rows(patients=48, images=2, signal=0.3)
    space = {"batch_size": {"values": [32]}, "sampler": {"values": ["none", "weighted", "over"]}}
    config = make_config(trials=1, outer_folds=2, inner_folds=2, space=space)
    done: list[str] = []

    def study(chosen: StudyConfig, path: Path) -> int:
        done.append(path.name)
        carried_out(path, chosen)
        return 0

    console = Console(width=200, record=True, quiet=True)
    assert ablate(["attention", "sampler"], config, data, tmp_path / "a", study, console) == 0
    assert done == [
        "attention-off",
        "attention-on",
        "sampler-none",
        "sampler-weighted",
        "sampler-over",
    ]
    trials = session_of(tmp_path / "a" / "sampler-over").study("outer-0").get_trials()
    assert {trial.params["sampler"] for trial in trials} == {"over"}
    lines = (tmp_path / "a" / "comparison.csv").read_text().splitlines()
    pairs = {tuple(line.split(",")[:2]) for line in lines[1:]}
    assert pairs == {
        ("attention on", "attention off"),
        ("sampler weighted", "sampler none"),
        ("sampler over", "sampler none"),
    }


def session_of(path: Path) -> Session:
    """A finished run's session, for its trials."""
    _, source = make_rows(patients=48, images=2, signal=0.3)
    return Session(WorkerContext(path, source))


def test_a_level_that_is_not_the_defaults_leaves_no_default_and_says_so() -> None:
    data, _ = make_rows(patients=48, images=2)
    space = {"batch_size": {"values": [32, 64]}}
    config = make_config(encoder="timm:b,timm:a", space=space)
    found = {}
    for factor in ("attention", "batch_size", "encoder", "augmentation"):
        for level in factor_levels(config, data, factor):
            held = with_level(config, data, factor, level)
            found[factor, level] = default_of(held, build_ranges(held, data))
            assert StudyConfig.from_toml(held.to_toml()) == held
    with_default = {key for key, default in found.items() if default.params}
    assert with_default == {
        ("attention", False),
        ("batch_size", 64),
        ("encoder", "timm:b"),
        ("augmentation", "light"),  # which the default does not draw, for it has no views
        ("augmentation", "strong"),
    }
    assert found["attention", True].reason == (
        "the ablation holds attention at True, which is not its value in the default configuration"
    )
    assert "the ablation holds encoder at timm:a" in found["encoder", "timm:a"].reason
    assert found["encoder", "timm:b"].params["batch_size"] == 64


def test_no_configuration_file_names_an_ablated_factor(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('task = "dbt"\nablated = "attention"\n', encoding="utf-8")
    options = build_parser()[1]["run"].parse_args(["--config", str(file)])
    with pytest.raises(DataError, match="unknown key 'ablated'"):
        gather_options(vars(options))


def test_an_ablation_that_is_stopped_ends_with_the_code_of_the_run_that_stopped(
    tmp_path: Path,
) -> None:
    data, _ = make_rows(patients=48, images=2)
    codes = iter([0, 130])
    found = ablate(
        ["attention"],
        make_config(),
        data,
        tmp_path,
        lambda config, path: next(codes),
        Console(quiet=True),
    )
    assert found == 130
    assert not (tmp_path / "comparison.csv").exists()


def test_levels_of_the_dbt_sampler_are_those_that_attention_can_draw_too() -> None:
    data, _ = make_rows(classes=("a", "b", "c", "d"))
    config = make_config("dbt")
    assert factor_levels(config, data, "sampler") == ("none", "weighted", "over")
    held = with_level(config, data, "sampler", "over").space
    assert held["sampler"] == held["token_sampler"] == {"values": ["over"]}
    off = make_config("dbt", space={"attention": {"values": [False]}})
    assert "smote" in factor_levels(off, data, "sampler")
    assert "token_sampler" not in with_level(off, data, "sampler", "smote").space


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (["atention"], "unknown factor 'atention'; did you mean 'attention'"),
        (["learning_rate"], r"learning_rate is a range without levels; list some with"),
        (["batch_size"], r"only \[32\] can be drawn, and a comparison needs two levels"),
        (["attention", "attention"], "names a factor twice"),
    ],
)
def test_a_factor_that_cannot_be_ablated_is_refused_before_any_run(
    tmp_path: Path, factors: list[str], message: str
) -> None:
    data, _ = make_rows()
    with pytest.raises(DataError, match=message):
        ablate(factors, make_config(), data, tmp_path, _never, Console(quiet=True))


def test_ablation_keeps_out_of_a_single_run_and_of_biased_estimates(tmp_path: Path) -> None:
    data, _ = make_rows()
    RunFolder(tmp_path).write_config(make_config().to_toml())
    with pytest.raises(DataError, match="holds a single run; name another folder"):
        ablate(["attention"], make_config(), data, tmp_path, _never, Console(quiet=True))
    flat = make_config(protocol="non-nested", inner_folds=4)
    with pytest.raises(DataError, match="compares honest estimates"):
        ablate(["attention"], flat, data, tmp_path / "b", _never, Console(quiet=True))


def _never(config: StudyConfig, path: Path) -> int:
    raise AssertionError("no run may begin")
