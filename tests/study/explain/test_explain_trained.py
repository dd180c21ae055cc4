"""`outerfold explain` on an ensemble that trained a block of the encoder and averages over views.

One small run of image files; each promise of explain holds for it as for frozen encoders.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from outerfold.reports.explain.page import TABLE
from outerfold.storage.cache.files import write_json
from outerfold.storage.records import LeakError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import write_manifest
from outerfold.study.cli.main import main
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.explain.explain import case_with_heat_map, represent_by_fold
from outerfold.study.explain.finished_run import FinishedRun, open_finished_run
from tests.reports.small_pictures import draw_small
from tests.study.explain.test_explain import Made, case_of, refused, write_planted

WORDS = shlex.split(
    "--task multimodal --columns age --encoder bundled:efficientnet_lite0 --encoder-backend torch "
    "--trainable-blocks 1 --tta 1 --final ensemble --networks 2 --trials 1 --outer-folds 3 "
    "--inner-folds 2 --epochs 2 --batch-size 8 --workers 1 --quiet"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("trained")
    data = write_planted(root / "data", patients=18)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTERFOLD_CACHE", str(root / "cache"))
        space = root / "study.toml"
        space.write_text("[space.augmented_views]\nvalues = [0]\n", encoding="utf-8")
        draw_small(patch)
        where = ["--config", str(space), "--data", str(data), "--run", str(root / "run")]
        assert main([*WORDS, *where]) == 0
        assert main(["explain", str(root / "run"), "--cases", "2", "--device", "cpu"]) == 0
    return Made(root / "run", root / "cache")


@pytest.fixture(scope="module")
def finished(made: Made) -> FinishedRun:
    return open_finished_run(RunFolder(made.run), "cpu", cache=made.cache, say=print)


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to be spoiled."""
    monkeypatch.setenv("OUTERFOLD_CACHE", str(made.cache))
    shutil.copytree(made.run, tmp_path / "run")
    return tmp_path / "run"


def test_the_page_says_what_is_averaged_and_what_the_map_shows(made: Made) -> None:
    page = (made.report / "inside.html").read_text(encoding="utf-8")
    for sentence in (
        "The score is the mean over the image and 1 augmented view of it; the heat map is that "
        "of the image without augmentation.",
        "that of the mean of 2 networks. Each of them trained its own last blocks",
        "Grad-CAM adds up their last feature maps",
    ):
        assert sentence in page
    assert (made.report / f"{TABLE}.csv").exists()
    numbers = made.numbers()
    assert (numbers["trainable_blocks"], numbers["tta"], numbers["networks"]) == (1, 1, 2)
    assert {one["what"] for one in numbers["contribution"]["losses"]} == {"image", "columns", "age"}


def test_every_test_row_is_explained_by_an_outer_model_with_the_score_it_had(
    made: Made, finished: FinishedRun
) -> None:
    run = read_kept_run(RunFolder(made.run))
    assert run.ensemble is not None
    assert set(run.ensemble.members) == set(finished.models)
    for fold in run.outer:
        assert fold.test is not None
        shown = case_with_heat_map(finished, case_of(finished, str(fold.test.ids[0])))
        assert shown.method == "Grad-CAM"
        assert shown.case.fold == fold.name
        assert shown.case.id not in finished.folds[fold.name].train
    case = case_of(finished, made.numbers()["cases"][0]["id"])
    other = next(name for name in finished.models if name != case.fold)
    with pytest.raises(LeakError, match="may have trained on it"):
        case_with_heat_map(finished, replace(case, fold=other))


def test_what_stands_for_the_image_is_the_mean_of_each_networks_tail_over_its_training_rows(
    made: Made, finished: FinishedRun
) -> None:
    source = represent_by_fold(finished, cache=made.cache, device="cpu")["outer-1"]
    model, train = finished.models["outer-1"], finished.folds["outer-1"].train
    assert model.tails is not None
    found = model.mean_image(source, train)
    with torch.inference_mode():
        taken = torch.tensor(source.activations(train, 0))  # type: ignore[attr-defined]
        expected = [tail(taken)[0].mean(dim=0).numpy() for tail in model.tails.each]
    assert found.shape == (1, 2, 1, len(expected[0]))
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3, "networks differ"


def test_a_model_whose_tails_are_the_pretrained_ones_is_refused(
    copy: Path, finished: FinishedRun, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    source = represent_by_fold(finished, cache=made.cache, device="cpu")["outer-0"]
    path = copy / "outer-0" / "model.pt"
    state = torch.load(path, weights_only=True)
    own = source.tail().state_dict()  # type: ignore[attr-defined]
    pretrained = {f"tails.{k}.{name}": value for k in range(2) for name, value in own.items()}
    assert pretrained.keys() < state.keys()
    torch.save({**state, **pretrained}, path)
    write_manifest(path.parent, {})
    assert "predictions.csv holds" in refused(capsys, copy)


def test_a_score_without_its_views_or_with_other_views_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "outer-2" / "preprocessing.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**kept, "augmentation": "0" * 64})
    write_manifest(path.parent, {})
    assert "installed here make these views in another way" in refused(capsys, copy)
    write_json(path, {**kept, "tta": 0})
    write_manifest(path.parent, {})
    assert "predictions.csv holds" in refused(capsys, copy)
