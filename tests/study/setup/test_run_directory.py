"""A run is found again by its options, and is not gone on with by other arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from outerfold.storage.cache.files import write_json
from outerfold.storage.records import DataError
from outerfold.storage.runs import numerics
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.numerics import NUMERICS, read_numerics
from outerfold.study.config.record import StudyConfig
from outerfold.study.setup.lock import lock_run
from outerfold.study.setup.run_directory import begin_or_resume, default_run, mend_folder
from outerfold.study.worker.session import Session
from tests.factories import begin_run, make_config, make_rows

DEMO_RUN = StudyConfig(task="multimodal", encoder="bundled:efficientnet_lite0", epochs=100)
CLINIC = StudyConfig(
    task="dbt",
    encoder="clip:ViT-B/32",
    epochs=30,
    data="/data/clinic",
    classes=("a", "b"),
    trials=7,
    space={"dropout": {"low": 0.1, "high": 0.5}},
)


@dataclass(frozen=True, kw_only=True)
class Later(StudyConfig):
    """The options of a version that has one more."""

    novelty: int = 3


def later(config: StudyConfig, **given: int) -> Later:
    return Later(**{name: getattr(config, name) for name in config.__dataclass_fields__}, **given)


@pytest.mark.parametrize(
    ("config", "data", "name"),
    [
        (DEMO_RUN, "multimodal-demo", "multimodal-demo-f22f84"),
        (CLINIC, "Clinic A", "dbt-clinic-a-2422de"),
    ],
)
def test_the_same_options_find_a_run_that_the_first_version_named(
    config: StudyConfig, data: str, name: str
) -> None:
    """The names are of the commit before the folders were divided into rooms."""
    config = replace(config, networks=5, threshold="youden", final="refit")  # its defaults
    assert default_run(config, data) == Path("runs") / name
    assert default_run(later(config), data) == Path("runs") / name


def test_a_later_option_names_another_folder_once_it_is_given() -> None:
    names = {default_run(later(DEMO_RUN, novelty=value), "demo") for value in (3, 4, 5)}
    assert len(names) == 3
    assert default_run(DEMO_RUN, "demo") in names


def test_every_option_has_a_part_in_the_name() -> None:
    others = {"trials": 99, "seed": 1, "metric": "brier", "tta": 1, "final": "ensemble"}
    names = {default_run(replace(DEMO_RUN, **{k: v}), "demo") for k, v in others.items()}  # type: ignore[arg-type]
    assert len(names | {default_run(DEMO_RUN, "demo")}) == len(others) + 1


def test_a_run_that_other_arithmetic_began_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, source = make_rows()
    config = make_config()
    prepared, context = begin_run(tmp_path / "run", data, source, config)
    assert read_numerics(prepared.folder) == NUMERICS
    begin_or_resume(prepared.folder, config, data)
    write_json(tmp_path / "run" / "numerics.json", {"numerics": NUMERICS + 1})
    said = rf"other arithmetic \(numerics {NUMERICS + 1}, here {NUMERICS}\)"
    with pytest.raises(DataError, match=said):
        begin_or_resume(prepared.folder, config, data)
    with pytest.raises(DataError, match=said):
        Session(context)
    monkeypatch.setattr(numerics, "NUMERICS", NUMERICS + 1)
    begin_or_resume(prepared.folder, config, data)


def test_a_run_without_the_number_counts_as_the_first(tmp_path: Path) -> None:
    assert read_numerics(RunFolder(tmp_path)) == 1


def test_drafts_that_kills_left_are_swept_and_other_files_stay(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "outer-0").mkdir()
    drafts = [tmp_path / ".best.json.ab_12xyz", tmp_path / "outer-0" / ".model.pt.zz_12xyz"]
    others = [tmp_path / ".lock", tmp_path / ".gitignore", tmp_path / "outer-0" / "model.pt"]
    for path in (*drafts, *others):
        path.write_text("x")
    mend_folder(folder, print)
    assert [path.exists() for path in (*drafts, *others)] == [False, False, True, True, True]


@pytest.mark.parametrize("place", ["report", "outer-0/model.pt"])
def test_a_symbolic_link_in_a_run_is_refused_and_the_run_stays_unlocked(
    tmp_path: Path, place: str
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / place).parent.mkdir(parents=True)
    (run / place).symlink_to(elsewhere)
    with pytest.raises(DataError, match=rf"{place}: is a symbolic link, and what is written"):
        lock_run(run)
    (run / place).unlink()
    lock_run(run).release()
