"""Several encoders: the search chooses one, from the training side, and ships it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from outerfold.pipelines.rows.training_rows import SourcesByEncoder
from outerfold.pipelines.saved.files import read_encoder_card
from outerfold.reports.results.results import results
from outerfold.storage.cache.files import write_json
from outerfold.storage.records import DataError, Dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.encoders import encoder_names, format_weights, weights_by_encoder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges
from outerfold.study.driver.ablation import ablate, factor_levels, with_level
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import ArraySource, begin_run, make_config, make_rows, scrambled, splits_of
from tests.study.worker.test_blindness import FOLD, what_a_study_did

BLIND, SEES = "test:blind", "test:sees"
NARROW = 4


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


def both(source: ArraySource) -> SourcesByEncoder:
    """Noise of four numbers, and the rows' own embeddings."""
    noise = np.random.default_rng(0).normal(size=(*source.values.shape[:-1], NARROW))
    return SourcesByEncoder(
        ((BLIND, ArraySource(source.ids, noise.astype(np.float32))), (SEES, source))
    )


def config_of(task: str = "multimodal", **changes: object) -> StudyConfig:
    return make_config(task, encoder=f"{BLIND},{SEES}", **changes)


def searched(path: Path, data: Dataset, config: StudyConfig, source: SourcesByEncoder) -> Session:
    prepared, context = begin_run(path, data, source, config)
    for study in prepared.studies:
        for number in [*range(config.trials), None]:
            outcome = run_and_keep_job(Job(context, study.name, number, "cpu"))
            assert not outcome.trace, outcome.trace
    write_json(path / "provenance.json", {"timing": {}, "provenance": {}})
    return Session(context)


def test_the_search_draws_every_encoder_reads_each_by_its_own_source_and_ships_the_better(
    tmp_path: Path,
) -> None:
    """On images alone: one encoder sees the classes, the other noise."""
    data, source = make_rows(patients=48, images=2, classes=("a", "b", "c"), signal=1.0)
    config = config_of("dbt", trials=6, outer_folds=2, inner_folds=2)
    session = searched(tmp_path / "run", data, config, both(source))
    trials = session.study("final").get_trials()
    assert {trial.params["encoder"] for trial in trials} == {BLIND, SEES}
    best = json.loads((tmp_path / "run" / "final" / "best.json").read_text())
    shipped = json.loads((tmp_path / "run" / "final" / "preprocessing.json").read_text())
    chosen = best["params"]["encoder"]
    assert chosen == SEES
    assert shipped["encoder"]["name"] == chosen
    assert shipped["pipeline"]["encoder"] == chosen
    assert shipped["image_width"] == source.dim != NARROW
    numbers = results(read_kept_run(RunFolder(tmp_path / "run")))
    assert numbers["final"]["params"]["encoder"] == chosen
    assert {fold["params"]["encoder"] for fold in numbers["outer"]} <= {BLIND, SEES}
    assert numbers["protocol"]["encoder"] == f"{BLIND},{SEES}"
    assert set(numbers["provenance"]["encoders"]) == {BLIND, SEES}


def test_the_card_of_each_encoder_is_found(tmp_path: Path) -> None:
    data, source = make_rows()
    prepared, _ = begin_run(tmp_path / "run", data, both(source), config_of())
    assert [read_encoder_card(prepared.folder, name)["name"] for name in ("", BLIND, SEES)] == [
        BLIND,
        BLIND,
        SEES,
    ]
    assert "others" not in read_encoder_card(prepared.folder, BLIND)


def test_splits_do_not_depend_on_the_encoders() -> None:
    data, _ = make_rows()
    one = splits_of(data, make_config(encoder=BLIND))
    assert one.studies == splits_of(data, config_of()).studies


def test_the_choice_of_an_encoder_ignores_the_test_side(tmp_path: Path) -> None:
    data, source = make_rows(patients=48, images=2, signal=0.3)
    config = config_of(trials=6)
    splits = splits_of(data, config)
    test = next(fold for fold in splits.outer if fold.name == FOLD).test
    noisy, noise = scrambled(data, source, test)
    plain = what_a_study_did(tmp_path / "plain", data, both(source), config, splits)
    _, other = scrambled(data, dict(both(source).sources)[BLIND], test)  # type: ignore[arg-type]
    changed = SourcesByEncoder(((BLIND, other), (SEES, noise)))
    assert what_a_study_did(tmp_path / "noisy", noisy, changed, config, splits) == plain
    drawn = {params["encoder"] for _, _, params, *_ in plain["trials"]}
    assert drawn == {BLIND, SEES}


def test_one_encoder_is_no_parameter_and_several_are() -> None:
    data, _ = make_rows()
    assert "encoder" not in build_ranges(make_config(), data)
    assert build_ranges(config_of(), data)["encoder"].values == (BLIND, SEES)  # type: ignore[union-attr]


def test_ablation_gives_each_encoder_a_study_of_its_own_with_its_weights(tmp_path: Path) -> None:
    data, source = make_rows(patients=48, images=2, classes=("a", "b", "c"), signal=1.0)
    config = config_of("dbt", trials=1, outer_folds=2, inner_folds=2, weights=f"{SEES}=/w/b.pt")
    assert factor_levels(config, data, "encoder") == (BLIND, SEES)
    held = with_level(config, data, "encoder", SEES)
    assert (held.encoder, held.weights, held.space) == (SEES, "/w/b.pt", config.space)
    assert with_level(config, data, "encoder", BLIND).weights == ""
    sources = dict(both(source).sources)

    def study(chosen: StudyConfig, path: Path) -> int:
        open_session.cache_clear()
        searched(path, data, chosen, sources[chosen.encoder])  # type: ignore[arg-type]
        return 0

    assert ablate(["encoder"], config, data, tmp_path, study, Console(quiet=True)) == 0
    lines = (tmp_path / "comparison.csv").read_text().splitlines()
    assert {tuple(line.split(",")[:2]) for line in lines[1:]} == {
        (f"encoder {SEES}", f"encoder {BLIND}")
    }
    auc = next(line.split(",") for line in lines if ",roc_auc," in line)
    assert float(auc[3]) > float(auc[4])


def test_one_encoder_cannot_be_ablated() -> None:
    data, _ = make_rows()
    with pytest.raises(DataError, match=r"name several with --encoder A,B"):
        factor_levels(make_config(), data, "encoder")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip:RN50,", "a name is missing"),
        ("clip:RN50,clip:RN50", "names clip:RN50 twice"),
        ("", "a name is missing"),
    ],
)
def test_encoders_that_are_no_choice_are_refused(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        encoder_names(text)
    with pytest.raises(DataError, match=said):
        make_config(encoder=text)


def test_weights_of_the_only_encoder_are_a_file() -> None:
    assert weights_by_encoder(("timm:a",), "/w/a,b=c.pt") == {"timm:a": "/w/a,b=c.pt"}
    assert weights_by_encoder(("timm:a",), "timm:a=/w/a.pt") == {"timm:a": "/w/a.pt"}
    assert weights_by_encoder(("timm:a",), "") == {}
    assert format_weights(("timm:a",), {"timm:a": "/w/a.pt"}) == "/w/a.pt"


def test_weights_of_several_encoders_are_pairs() -> None:
    names = ("clip:ViT-B/32", "timm:a", "timm:a.b")
    text = "timm:a=/w/a,1.pt,clip:ViT-B/32=/w/c=2.pt"
    files = {"timm:a": "/w/a,1.pt", "clip:ViT-B/32": "/w/c=2.pt"}
    assert weights_by_encoder(names, text) == files
    assert format_weights(names, files) == text
    config = make_config(encoder=",".join(names), weights=text)
    assert [config.weights_of(name) for name in names] == ["/w/c=2.pt", "/w/a,1.pt", ""]
    assert config.with_encoder("timm:a") == replace(config, encoder="timm:a", weights="/w/a,1.pt")


@pytest.mark.parametrize("text", ["/w/a.pt", "timm:c=/w/a.pt", "/w/a.pt,timm:b=/w/b.pt"])
def test_weights_of_no_one_in_particular_are_refused(text: str) -> None:
    said = "does not name one of the 2 encoders for each file; write timm:a=FILE"
    with pytest.raises(DataError, match=said):
        make_config(encoder="timm:a,timm:b", weights=text)


def test_the_only_source_is_taken_whatever_the_encoder_is_called(tmp_path: Path) -> None:
    data, source = make_rows(patients=24)
    _, context = begin_run(tmp_path / "run", data, source, make_config(trials=1))
    session = Session(WorkerContext(context.run, source))
    objective = session.objective("final", "cpu")
    from optuna.trial import FixedTrial

    params = {
        "learning_rate": 1e-3,
        "dropout": 0.2,
        "focal_gamma": 0.0,
        "sampler": "none",
        "attention": False,
        "weight_decay": 1e-3,
        "batch_size": 32,
        "label_smoothing": 0.1,
        "ens_beta": 0.0,
        "augmented_views": 0,
    }
    pipeline = session.space(FixedTrial(params))
    assert pipeline.encoder == ""
    assert objective.source_of(pipeline) is source
