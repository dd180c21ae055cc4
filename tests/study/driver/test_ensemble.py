"""`--final ensemble`: what ships is the mean of the very models that the outer folds measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from outerfold.pipelines.fitted.calibration import middle_threshold
from outerfold.pipelines.saved.predictor import read_shipped_model
from outerfold.reports.results.results import results
from outerfold.reports.sections.model_card import model_card
from outerfold.reports.sections.summary import summary
from outerfold.storage.cache.files import read_json
from outerfold.storage.records import FINAL, DataError, Dataset
from outerfold.storage.runs.results import read_result
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.driver.driver import open_studies
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker.session import Session, WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows
from tests.study.driver.test_driver import OneProcess, drive, read

SMALL = {"outer_folds": 3, "inner_folds": 2, "epochs": 2, "trials": 3, "pruner": "none"}


def ensemble(
    path: Path, task: str = "multimodal", **changes: object
) -> tuple[PreparedRun, WorkerContext]:
    classes = ("other", "cancer") if task == "multimodal" else ("a", "b", "c")
    data, source = make_rows(patients=36, classes=classes, signal=0.3)
    config = make_config(task, **{**SMALL, "final": "ensemble", **changes})
    return begin_run(path, data, source, config)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedRun, WorkerContext]:
    """A finished run of two classes."""
    prepared, context = ensemble(tmp_path_factory.mktemp("ensemble") / "run")
    drive(prepared, context, OneProcess())
    read(prepared)
    return prepared, context


def data_of(context: WorkerContext) -> Dataset:
    open_session.cache_clear()
    return Session(context).data


def test_the_shipped_probability_is_the_mean_of_the_measured_models_calibrated_ones(
    made: tuple[PreparedRun, WorkerContext],
) -> None:
    """Each member scores its own outer test rows as `predictions.csv` has them."""
    prepared, context = made
    data, shipped = data_of(context), read_shipped_model(prepared.folder)
    each = [
        member.predict_calibrated(data.features, context.embeddings) for member in shipped.members
    ]
    for number, probabilities in enumerate(each):
        test = read_result(prepared.folder, f"outer-{number}", data.classes).test
        assert test is not None
        at = data.features.positions(test.ids.tolist())
        np.testing.assert_allclose(probabilities[at], test.probabilities, atol=1e-6)
    assert not np.allclose(each[0], each[1])
    calibrated, decided = shipped.score_from(data.features, context.embeddings)
    np.testing.assert_array_equal(calibrated, (each[0] + each[1] + each[2]) / 3)
    assert decided.tolist() == (calibrated[:, 1] >= shipped.threshold).tolist()


def test_members_keep_what_their_own_fold_chose_and_learnt(tmp_path: Path) -> None:
    """One member may read tokens where another reads pooled embeddings."""
    random = {"dropout": {"low": 0.4, "high": 0.6}}  # without the default, whose attention is off
    prepared, context = ensemble(tmp_path / "run", "dbt", trials=1, seed=0, space=random)
    drive(prepared, context, OneProcess())
    shipped = read_shipped_model(prepared.folder)
    params = [fold.params for fold in read(prepared).outer]
    assert [member.tokens for member in shipped.members] == [p["attention"] for p in params]
    assert [member.tokens for member in shipped.members] == [True, True, False], "of both kinds"
    assert shipped.threshold is None
    data = data_of(context)
    calibrated, decided = shipped.score_from(data.features, context.embeddings)
    assert np.allclose(calibrated.sum(axis=1), 1)
    assert (decided == calibrated.argmax(axis=1)).all()


def test_no_search_of_all_rows_is_made(made: tuple[PreparedRun, WorkerContext]) -> None:
    prepared, context = made
    assert list(open_studies(prepared, context)) == ["outer-0", "outer-1", "outer-2"]
    numbers = results(read_kept_run(prepared.folder))
    assert numbers["complete"]
    assert list(numbers["trials"]) == ["outer-0", "outer-1", "outer-2"]


def test_outer_folds_are_those_of_the_same_study_with_a_refit(tmp_path: Path) -> None:
    one, _ = ensemble(tmp_path / "one")
    other, _ = ensemble(tmp_path / "other", final="refit")
    assert one.studies == other.studies[:-1]
    assert other.studies[-1].name == FINAL


def test_the_file_of_weights_holds_tensors_alone(made: tuple[PreparedRun, WorkerContext]) -> None:
    path = made[0].folder.study(FINAL) / "model.pt"
    kept = torch.load(path, weights_only=True)
    assert list(kept) == ["outer-0", "outer-1", "outer-2"]
    assert all(torch.is_tensor(value) for member in kept.values() for value in member.values())


def test_the_threshold_is_the_middle_one_of_the_outer_folds(
    made: tuple[PreparedRun, WorkerContext],
) -> None:
    run = read_kept_run(made[0].folder)
    thresholds = sorted(fold.threshold or 0.0 for fold in run.outer)
    assert run.ensemble is not None
    assert run.ensemble.threshold == pytest.approx(thresholds[1])
    assert read_shipped_model(made[0].folder).threshold == run.ensemble.threshold


def test_the_middle_of_an_even_number_is_halfway_on_the_logit_scale() -> None:
    assert middle_threshold([0.2, 0.8, 0.01, 0.99]) == pytest.approx(0.5)
    assert middle_threshold([0.1, 0.3]) == pytest.approx(1 / (1 + (9 * 7 / 3) ** 0.5))
    assert 0 < middle_threshold([0.0, 1.0000001]) < 1


def test_a_run_stopped_before_it_ships_is_incomplete_and_ships_the_same_later(
    made: tuple[PreparedRun, WorkerContext], tmp_path: Path
) -> None:
    whole, _ = made
    prepared, context = ensemble(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        drive(prepared, context, OneProcess(11))
    cut = read(prepared)
    assert (cut.complete, cut.ships, len(cut.outer)) == (False, False, 2)
    assert "Not yet made: not every outer fold has finished." in model_card(cut)
    drive(prepared, context, OneProcess())
    for name in ("model.pt", "preprocessing.json", "best.json"):
        one, other = (each.folder.study(FINAL) / name for each in (whole, prepared))
        assert one.read_bytes() == other.read_bytes()


def test_all_repeats_are_members(tmp_path: Path) -> None:
    prepared, context = ensemble(tmp_path / "run", repeats=2, outer_folds=2, trials=1)
    drive(prepared, context, OneProcess())
    run = read(prepared)
    assert run.ensemble is not None
    assert run.ensemble.members == ("outer-0", "outer-1", "outer-2", "outer-3")
    assert (
        "50 % of the patients each; the delivered model is the mean of those 4 models"
        in model_card(run)
    )


def test_results_report_and_card_say_that_the_mean_ships_and_was_never_tested(
    made: tuple[PreparedRun, WorkerContext],
) -> None:
    run = read_kept_run(made[0].folder)
    final = results(run)["final"]
    assert final.keys() == {"made", "members", "threshold", "checkpoint"}
    assert (final["made"], len(final["members"])) == ("ensemble", 3)
    words = " ".join(getattr(block, "text", "") for block in summary(results(run)))
    for text in (words, model_card(run)):
        assert "the mean of the calibrated probabilities of the 3 outer models" in text
        assert "has itself never been tested on unseen data. It is expected to be no worse" in text
        assert "refitted on all rows" not in text.lower()
    assert "| Parameter | outer-0 | outer-1 | outer-2 |\n" in model_card(run)


def test_a_refit_says_that_it_is_one(tmp_path: Path) -> None:
    prepared, context = ensemble(tmp_path / "run", final="refit", trials=1)
    drive(prepared, context, OneProcess())
    run = read(prepared)
    assert results(run)["final"]["made"] == "refit"
    assert "the delivered model was refitted on all rows" in model_card(run)
    assert len(read_shipped_model(prepared.folder).members) == 1


def test_the_threshold_by_patient_is_the_middle_one_too(
    made: tuple[PreparedRun, WorkerContext],
) -> None:
    numbers = results(read_kept_run(made[0].folder))
    found = dict(numbers["levels"]["patient"]["thresholds"])
    final = found.pop(FINAL)
    assert final == pytest.approx(sorted(found.values())[1])


def test_outer_folders_hold_what_reading_their_model_needs(
    made: tuple[PreparedRun, WorkerContext],
) -> None:
    kept = read_json(made[0].folder.study("outer-1") / "preprocessing.json")
    assert {"task", "pipeline", "columns", "temperature", "encoder"} <= kept.keys()


def test_an_ensemble_without_outer_models_is_refused() -> None:
    with pytest.raises(DataError, match="averages outer models, and --protocol non-nested trains"):
        make_config(protocol="non-nested", inner_folds=4, final="ensemble")
    with pytest.raises(DataError, match="--final: unknown value 'mean'"):
        make_config(final="mean")
    assert replace(make_config(), final="ensemble").final == "ensemble"
