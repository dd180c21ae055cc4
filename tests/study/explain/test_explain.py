"""`outerfold explain` on a small run of image files by the bundled encoder."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.explain.load import fold_model
from outerfold.pipelines.images.embed import embed
from outerfold.pipelines.saved.files import encoder_card, write_encoder_cards
from outerfold.reports.explain.page import TABLE
from outerfold.reports.write import write_report
from outerfold.storage.cache.files import read_hashed, write_hashed, write_json
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import Dataset, LeakError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import write_manifest
from outerfold.study.cli.main import main
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.exit_codes import EXIT_USAGE
from outerfold.study.explain.explain import case_with_heat_map
from outerfold.study.explain.finished_run import FinishedRun, open_finished_run
from outerfold.study.explain.permutation import permutation_importance
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session
from tests.factories import ArraySource, begin_run, make_config, make_rows

ENCODER = "bundled:efficientnet_lite0"
SIDE, SQUARE = 96, 36
PATIENTS = 30
SPACE = {
    "batch_size": {"values": [32]},
    "augmented_views": {"values": [0]},
    "learning_rate": {"values": [3e-3]},
    "dropout": {"values": [0.1]},
    "sampler": {"values": ["none"]},
    "focal_gamma": {"values": [0.0]},
}


def write_planted(root: Path, patients: int = PATIENTS) -> Path:
    """Grey noise, half of it with a bright square somewhere: cancer. Age says nothing."""
    rng = np.random.default_rng(0)
    lines = ["file,patient_id,age"]
    for number in range(patients):
        cancer = number % 2 == 1
        pixels = rng.integers(40, 120, (SIDE, SIDE), dtype=np.uint8)
        if cancer:
            top, left = place_of(number)
            pixels[top : top + SQUARE, left : left + SQUARE] = 235
        name = f"{'cancer' if cancer else 'benign'}/P{number:03d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
        lines.append(f"{name},P{number:03d},{rng.integers(40, 80)}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def place_of(number: int) -> tuple[int, int]:
    """Top and left of the square: one of four corners."""
    far = SIDE - SQUARE - 6
    return (6, 6, far, far)[number // 2 % 4], (6, far, 6, far)[number // 2 % 4]


def carried_out(
    path: Path, data: Dataset, source: object, encoder: Encoder | None = None, **changes: object
) -> WorkerContext:
    open_session.cache_clear()
    name = {"encoder": encoder.name} if encoder else {}
    prepared, context = begin_run(path, data, source, make_config(**name, **changes))  # type: ignore[arg-type]
    if encoder:
        write_encoder_cards(prepared.folder, [encoder_card(encoder, "")])
    for study in prepared.studies:
        for number in [*range(prepared.config.trials), None]:
            assert run_and_keep_job(Job(context, study.name, number, "cpu")).state != "failed"
    write_json(path / "provenance.json", {"timing": {}, "provenance": {}})
    return context


@dataclass(frozen=True)
class Made:
    """A finished run of image files, explained, and where its cache is."""

    run: Path
    cache: Path

    @property
    def report(self) -> Path:
        return self.run / "report"

    def numbers(self) -> dict:  # type: ignore[type-arg]
        return dict(json.loads((self.report / "inside.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    quiet_optuna()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("inside")
    data = read_dataset(write_planted(root / "data"), task="multimodal", columns=("age",))
    encoder = build(ENCODER)
    source = embed(data.features, encoder, cache=root / "cache", tokens=False)
    run = root / "run"
    carried_out(
        run,
        data,
        source,
        encoder,
        columns=("age",),
        trials=1,
        epochs=12,
        space=SPACE,
    )
    (run / "report").mkdir()
    (run / "report" / "report.html").write_text("<nav><!-- inside --></nav>", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTERFOLD_CACHE", str(root / "cache"))
        assert main(["explain", str(run), "--cases", "2", "--device", "cpu"]) == 0
    return Made(run, root / "cache")


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to be spoiled."""
    monkeypatch.setenv("OUTERFOLD_CACHE", str(made.cache))
    shutil.copytree(made.run, tmp_path / "run")
    return tmp_path / "run"


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main(["explain", *map(str, words)]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_the_page_and_its_files_are_there_and_linked(made: Made) -> None:
    for name in ("Figure_Inside_Cancer", "Figure_Inside_Other"):
        with Image.open(made.report / f"{name}.jpg") as image:
            assert round(image.info["dpi"][0]) == 300
        assert (made.report / f"{name}.docx").stat().st_size > 10_000
    for kind in ("csv", "docx", "jpg"):
        assert (made.report / f"{TABLE}.{kind}").exists()
    page = (made.report / "inside.html").read_text(encoding="utf-8")
    for word in ("does not show a cause", "did not train", "n = 30 patients", "Grad-CAM"):
        assert word in page
    report = made.report / "report.html"
    assert report.read_text(encoding="utf-8").count('href="inside.html"') == 1
    write_report(read_kept_run(RunFolder(made.run)), made.report)
    assert report.read_text(encoding="utf-8").count('href="inside.html"') == 1


def test_cases_are_what_the_predictions_say(made: Made) -> None:
    run = read_kept_run(RunFolder(made.run))
    by_id = {}
    for fold in run.outer:
        assert fold.test is not None
        for at, name in enumerate(fold.test.ids.tolist()):
            by_id[name] = (fold, fold.test, at)
    cases = made.numbers()["cases"]
    assert {case["kind"] for case in cases} >= {"right", "borderline"}
    for case in cases:
        fold, rows, at = by_id[case["id"]]
        assert case["fold"] == fold.name
        assert case["class"] == rows.classes[rows.labels[at]]
        assert case["predicted"] == rows.classes[rows.predicted[at]]
        assert case["probabilities"]["cancer"] == rows.probabilities[at, 1]
        assert (case["kind"] == "right") <= (case["class"] == case["predicted"])
        assert (case["kind"] == "wrong") <= (case["class"] != case["predicted"])


def test_every_image_is_explained_by_a_model_that_saw_neither_it_nor_its_patient(
    made: Made,
) -> None:
    folder = RunFolder(made.run)
    data = folder.read_dataset()
    folds = {fold.name: fold for fold in folder.read_splits(data)}
    for case in made.numbers()["cases"]:
        fold = folds[case["fold"]]
        assert case["id"] in fold.test
        assert case["id"] not in fold.train
        assert case["patient"] not in fold.train_patients


def test_a_planted_square_gets_the_heat(made: Made) -> None:
    finished = open_finished_run(RunFolder(made.run), "cpu", cache=made.cache, say=print)
    case = made.numbers()["cases"]
    right = [c for c in case if (c["class"], c["kind"]) == ("cancer", "right")]
    assert len(right) == 2
    for one in right:
        shown = case_with_heat_map(finished, case_of(finished, one["id"]))
        top, left = (round(edge * 224 / SIDE) for edge in place_of(int(one["patient"][1:])))
        size = round(SQUARE * 224 / SIDE)
        inside = np.zeros((224, 224), dtype=bool)
        inside[top : top + size, left : left + size] = True
        assert shown.heat[inside].mean() > 1.5 * shown.heat[~inside].mean()


def case_of(finished: FinishedRun, name: str):  # type: ignore[no-untyped-def]
    from outerfold.reports.explain.cases import choose_cases
    from outerfold.reports.results.predictions import join_predictions

    rows = join_predictions(finished.tests.values())
    assert rows is not None
    cuts = {fold: model.decision.threshold for fold, model in finished.models.items()}
    return next(case for case in choose_cases(rows, cuts, len(rows)) if case.id == name)


def test_a_model_that_trained_on_the_image_may_not_explain_it(made: Made) -> None:
    finished = open_finished_run(RunFolder(made.run), "cpu", cache=made.cache, say=print)
    case = case_of(finished, made.numbers()["cases"][0]["id"])
    other = next(name for name in finished.folds if name not in (case.fold, "final"))
    with pytest.raises(LeakError, match="may have trained on it"):
        case_with_heat_map(finished, replace(case, fold=other))


def test_a_planted_model_of_all_rows_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.pt", "preprocessing.json"):
        shutil.copy(copy / "final" / name, copy / "outer-1" / name)
    write_manifest(copy / "outer-1", {})
    assert "predictions.csv holds" in refused(capsys, copy)


def test_a_model_that_is_gone_or_another_versions_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "outer-0" / "preprocessing.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**kept, "pipeline": {**kept["pipeline"], "of_tomorrow": 1}})
    write_manifest(path.parent, {})
    assert "run the study again with this version" in refused(capsys, copy)
    path.unlink()
    write_manifest(path.parent, {})
    assert "outer-0/preprocessing.json: this file is missing" in refused(capsys, copy)


def test_each_outer_model_reads_images_by_the_encoder_that_its_search_chose(
    copy: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "tiny.pt"
    torch.save(timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict(), weights)
    other = build("timm:mobilenetv3_small_050", weights=weights)
    path = copy / "outer-1" / "preprocessing.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**kept, "encoder": encoder_card(other, str(weights))})
    write_manifest(path.parent, {})
    encoders = open_finished_run(RunFolder(copy), "cpu", cache=tmp_path, say=print).encoders
    assert encoders["outer-1"].name == other.name
    assert encoders["outer-0"].name == ENCODER
    assert encoders["outer-0"] is encoders["outer-2"]


def test_moved_images_are_refused_in_one_sentence(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = read_hashed(copy / "dataset.json")
    kept["images"] = [path.replace("data/cancer/P003", "data/P903") for path in kept["images"]]
    write_hashed(copy / "dataset.json", kept)
    said = refused(capsys, copy)
    assert "1 of 30 images are no longer where the run read them" in said


def test_changed_pixels_are_refused(
    made: Made, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = read_hashed(copy / "dataset.json")
    Image.fromarray(np.full((SIDE, SIDE), 9, np.uint8)).save(tmp_path / "other.png")
    first = made.numbers()["cases"][0]["id"]
    kept["images"][kept["ids"].index(first)] = str(tmp_path / "other.png")
    write_hashed(copy / "dataset.json", kept)
    assert "means another model or image" in refused(capsys, copy)


def test_an_unfinished_run_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "outer-2" / "best.json").unlink()
    assert "is not finished; give its command again" in refused(capsys, copy)
    assert "not a run directory" in refused(capsys, copy / "outer-1")


def test_a_run_that_is_not_nested_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, config = (
        (copy / "config.toml").read_text(encoding="utf-8").split("\n", 1)
    )  # without its hash
    flat = config.replace('protocol = "nested"', 'protocol = "non-nested"')
    flat = flat.replace("inner_folds = 3", "inner_folds = 4")
    (copy / "config.toml").write_text(flat, encoding="utf-8")
    assert "is not nested and keeps no outer models" in refused(capsys, copy)


def test_too_many_cases_a_device_and_a_package_that_are_not_there_are_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--cases must be a whole number from 1 to 6, found 7" in refused(
        capsys, copy, "--cases", "7"
    )
    assert "--device tpu9: is not available" in refused(capsys, copy, "--device", "tpu9")
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert "pip install 'outerfold[explain]'" in refused(capsys, copy)


def test_a_synthetic_run_is_stamped_everywhere(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = read_hashed(copy / "dataset.json")
    write_hashed(copy / "dataset.json", {**kept, "synthetic": True})
    assert main(["explain", str(copy), "--cases", "1", "--device", "cpu"]) == 0
    page = (copy / "report" / "inside.html").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA</aside>" in page
    assert page.count("[SYNTHETIC DATA]") >= 4  # two figures, two tables
    assert json.loads((copy / "report" / "inside.json").read_text())["synthetic_data"] is True


@pytest.fixture(scope="module")
def by_age(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinishedRun, dict[str, ArraySource]]:
    """A run in which age alone tells the classes."""
    quiet_optuna()
    data, source = make_rows(patients=60, images=1, signal=0.0)
    table = data.features.tabular.copy()
    table[:, 0] = 50 + 12 * data.labels + np.random.default_rng(1).normal(scale=6, size=len(data))
    data = replace(data, features=replace(data.features, tabular=table))
    path = tmp_path_factory.mktemp("age") / "run"
    context = carried_out(path, data, source, trials=1, epochs=20, networks=2, space=SPACE)
    folder, run, config = (
        RunFolder(context.run),
        read_kept_run(RunFolder(path)),
        make_config(epochs=20, space=SPACE),
    )
    folds = {fold.name: fold for fold in folder.read_splits(data)}
    models = {one.name: fold_model(folder, data, folds[one.name]) for one in run.outer}
    tests = {one.name: one.test for one in run.outer if one.test is not None}
    finished = FinishedRun(run, config, data, {}, folds, models, tests)
    return finished, dict.fromkeys(models, source)


def test_the_only_column_with_a_signal_is_worth_something_and_noise_is_not(
    by_age: tuple[FinishedRun, dict[str, ArraySource]],
) -> None:
    found = permutation_importance(*by_age)
    losses = {one["what"]: one["loss"] for one in found["losses"]}
    assert list(losses) == ["image", "columns", "age", "family_history", "tissue"]
    assert losses["age"]["estimate"] > 0.1
    assert losses["age"]["low"] > 0
    assert losses["columns"]["low"] > 0
    for noise in ("family_history", "tissue", "image"):
        assert losses[noise]["low"] < 0 < losses[noise]["high"]
    assert permutation_importance(*by_age) == found
