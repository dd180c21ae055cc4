"""`--tta`: one rule for the search, the decision, the test, the shipped model and `predict`."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outerfold.pipelines.augmentation.views import scoring_views
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.saved.predictor import new_features, read_shipped_model
from outerfold.reports.results.results import results
from outerfold.reports.sections.model_card import model_card
from outerfold.reports.sections.summary import protocol_section
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.records import FINAL, DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_result
from outerfold.study.cli.main import main
from outerfold.study.config.search_space import build_ranges, build_views
from outerfold.study.worker.session import Session, open_session
from tests.factories import make_config, make_rows
from tests.reports.small_pictures import draw_small
from tests.storage.images.image_factories import class_folders
from tests.study.driver.test_driver import OneProcess, begun, drive, read

SMALL = {"outer_folds": 2, "inner_folds": 2, "epochs": 2, "trials": 2, "networks": 2}


def test_test_rows_score_over_the_views_as_the_search_and_the_decision_did(tmp_path: Path) -> None:
    ready, place = begun(tmp_path / "run", tta=2, final="ensemble", **SMALL)
    drive(ready, place, OneProcess())
    run = read(ready)
    open_session.cache_clear()
    session = Session(place)
    assert not [note for fold in run.outer for note in fold.notes if "when run again" in note]
    for number, member in enumerate(read_shipped_model(ready.folder).members):
        result = read_result(ready.folder, f"outer-{number}", session.data.classes)
        assert result.test is not None
        test = session.data.select(result.test.ids.tolist())
        found = member.predict_calibrated(test.features, place.embeddings)
        np.testing.assert_allclose(found, result.test.probabilities, atol=1e-6)
        plain = replace(member, decision=Decision(1.0, None))
        with_views, alone = (
            replace(plain, tta=tta).predict_calibrated(test.features, place.embeddings)
            for tta in (2, 0)
        )
        assert not np.allclose(with_views, alone, atol=1e-4)


def test_a_search_scores_otherwise_with_the_views(tmp_path: Path) -> None:
    scores = []
    for tta in (0, 1):
        ready, place = begun(tmp_path / str(tta) / "run", tta=tta, **SMALL)
        drive(ready, place, OneProcess())
        scores.append([fold.inner_score for fold in read(ready).outer])
    assert scores[0] != scores[1]


def test_report_and_card_say_what_is_averaged(tmp_path: Path) -> None:
    ready, place = begun(tmp_path / "run", tta=1, **SMALL)
    drive(ready, place, OneProcess())
    run = read(ready)
    words = " ".join(getattr(block, "text", "") for block in protocol_section(results(run)))
    for text in (words, model_card(run)):
        assert "is the mean over the image and 1 augmented view of it." in text
    plain = replace(run, protocol={**run.protocol, "tta": 0})
    assert "Test-time augmentation" not in model_card(plain)
    kept = read_json(ready.folder.study(FINAL) / "preprocessing.json")
    assert (kept["tta"], len(kept["augmentation"])) == (1, 64)


def test_views_that_are_averaged_are_computed_even_if_none_is_drawn() -> None:
    data, _ = make_rows()
    space = {"augmented_views": {"values": [0]}}
    for tta, views in ((0, (0,)), (2, (0, 1, 3))):
        config = make_config(tta=tta, space=space)
        assert (
            build_views(config, build_ranges(config, data)).numbers == scoring_views(tta) == views
        )
    light = {"augmentation": {"values": ["strong"]}, "augmented_views": {"values": [0, 1]}}
    config = make_config(tta=1, space=light)
    assert build_views(config, build_ranges(config, data)).numbers == (0, 1, 2)


def test_a_strength_that_nothing_draws_is_inert_even_where_views_score() -> None:
    data, _ = make_rows()
    space = {"augmented_views": {"values": [0]}, "augmentation": {"values": ["strong"]}}
    with pytest.raises(DataError, match="augmentation] has no effect"):
        build_ranges(make_config(tta=2, space=space), data)


def test_fewer_than_no_views_are_refused() -> None:
    with pytest.raises(DataError, match="--tta must be a whole number of at least 0, found -1"):
        make_config(tta=-1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of images in files: an ensemble that averages over one view."""
    root = tmp_path_factory.mktemp("tta")
    data = class_folders(root / "data", {"benign": 6, "cancer": 6})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTERFOLD_CACHE", str(root / "cache"))
        draw_small(patch)
        words = [
            "--task",
            "multimodal",
            "--data",
            str(data),
            "--patient-regex",
            "(P[0-9]+)_",
            "--encoder",
            "bundled:efficientnet_lite0",
            "--trials",
            "1",
            "--outer-folds",
            "2",
            "--inner-folds",
            "2",
            "--epochs",
            "2",
            "--networks",
            "2",
            "--tta",
            "1",
            "--final",
            "ensemble",
            "--workers",
            "1",
            "--quiet",
            "--run",
            str(root / "run"),
        ]
        assert main(words) == 0
    return RunFolder(root / "run")


def test_a_new_image_scores_as_the_same_image_did_in_the_run(
    finished: RunFolder, tmp_path: Path
) -> None:
    """Its views are computed anew, from the file alone."""
    shipped, data = read_shipped_model(finished), finished.read_dataset()
    for number, member in enumerate(shipped.members):
        test = read_result(finished, f"outer-{number}", data.classes).test
        assert test is not None
        images = data.features.select(test.ids.tolist()).images.tolist()
        features = new_features(shipped, [Path(image) for image in images], {})
        alone = replace(shipped, members=(member,), threshold=member.decision.threshold)
        probabilities, decided = alone.score(features, tmp_path / "cache")
        np.testing.assert_allclose(probabilities, test.probabilities, atol=1e-6)
        assert decided.tolist() == test.predicted.tolist()


def test_explain_shows_the_untouched_image_and_says_that_the_score_is_a_mean_over_views(
    finished: RunFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    assert main(["explain", str(copy), "--cases", "1", "--device", "cpu"]) == 0
    page = (copy / "report" / "inside.html").read_text(encoding="utf-8")
    assert (
        "The score is the mean over the image and 1 augmented view of it; the heat map is that "
        "of the image without augmentation."
    ) in page
    assert "trained its own last blocks" not in page


def test_predict_prints_the_mean_of_the_members(
    finished: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path))
    images = finished.read_dataset().features.images.tolist()[:3]
    assert main(["predict", str(finished.path), *images]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    shipped = read_shipped_model(finished)
    features = new_features(shipped, [Path(image) for image in images], {})
    each = [
        replace(shipped, members=(member,)).score(features, tmp_path)[0]
        for member in shipped.members
    ]
    mean = np.mean(each, axis=0)
    assert [float(row["p_cancer"]) for row in rows] == pytest.approx(mean[:, 1], abs=1e-6)
    assert shipped.threshold is not None
    names = ["cancer" if p >= shipped.threshold else "other" for p in mean[:, 1]]
    assert [row["predicted"] for row in rows] == names


def test_views_made_by_other_code_are_refused(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    (path / FINAL).mkdir(parents=True)
    (path / FINAL / "model.pt").write_bytes((finished.study(FINAL) / "model.pt").read_bytes())
    kept = read_json(finished.study(FINAL) / "preprocessing.json")
    write_json(path / FINAL / "preprocessing.json", {**kept, "augmentation": "0" * 64})
    image = finished.read_dataset().features.images.tolist()[0]
    assert main(["predict", str(path), image]) == 2
    assert "in another way than at the time of its training" in capsys.readouterr().err
