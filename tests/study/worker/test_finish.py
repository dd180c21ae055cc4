"""From image files through two encoders to a shipped model that reads new files by the winner."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.encoders.weights import sha256_of
from outerfold.pipelines.images.embed import embed
from outerfold.pipelines.rows.training_rows import SourcesByEncoder
from outerfold.pipelines.saved.files import read_encoder_card
from outerfold.pipelines.saved.predictor import new_features, read_shipped_model
from outerfold.reports.sections.model_card import model_card
from outerfold.storage.cache.files import write_json
from outerfold.storage.images.framing import Framing
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError, Features
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import open_studies
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.explain.explain import explain_run
from outerfold.study.setup.represent import build_encoders, represent
from outerfold.study.setup.run_directory import PreparedRun, make_splits, write_run_directory
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session
from tests.factories import make_config
from tests.storage.images.image_factories import class_folders, write_picture
from tests.study.driver.test_driver import OneProcess, drive

SEED = 1
"""With which the outer folds draw different encoders."""
NAMES = ("timm:mobilenetv3_small_050", "timm:mobilenetv3_small_075")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    open_session.cache_clear()
    quiet_optuna()
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    pairs = []
    for name in NAMES:
        torch.manual_seed(0)
        model = timm.create_model(name.partition(":")[2], pretrained=False, num_classes=0)
        path = tmp_path / f"{name[-3:]}.pt"
        torch.save(model.state_dict(), path)
        pairs.append(f"{name}={path}")
    space: dict[str, dict[str, object]] = {
        "batch_size": {"values": [32]},
        "augmented_views": {"values": [1]},
        "augmentation": {"values": ["strong"]},
        "attention": {"values": [False]},
    }
    return make_config(
        "dbt",
        encoder=",".join(NAMES),
        weights=",".join(pairs),
        fit="stretch",
        crop="breast",
        trials=4,
        epochs=2,
        outer_folds=2,
        inner_folds=2,
        networks=1,
        space=space,
    )


def begun(root: Path, config: StudyConfig) -> tuple[PreparedRun, WorkerContext]:
    """A run on image files, up to where its workers begin."""
    images = class_folders(root / "data", {"a": 8, "b": 8})
    data = read_dataset(images, task="dbt", positive="b")
    folder = RunFolder(root / "run")
    folder.path.mkdir()
    prepared = write_run_directory(folder, config, data, make_splits(config, data))
    found = represent(
        prepared,
        build_encoders(config),
        cache=root / "cache",
        device="cpu",
        progress=lambda done, total: None,
    )
    context = WorkerContext(folder.path, found)
    open_studies(prepared, context)
    return prepared, context


def test_the_winner_and_its_preprocessing_are_what_predict_reads_images_by(
    tmp_path: Path, config: StudyConfig
) -> None:
    prepared, context = begun(tmp_path, config)
    data, folder, found = prepared.data, prepared.folder, context.embeddings
    assert isinstance(found, SourcesByEncoder)
    encoders = build_encoders(config)
    ids = data.ids.tolist()
    for name in NAMES:
        source = found.of(name)
        assert source.pooled(ids).shape == (16, encoders[name].dim)
        assert not np.array_equal(source.pooled(ids, 2), source.pooled(ids))
        with pytest.raises(DataError, match=r"view 1 of .* was not embedded"):
            source.pooled(ids, 1)  # a light view, which this search does not draw
    for number in [*range(config.trials), None]:
        outcome = run_and_keep_job(Job(context, "final", number, "cpu"))
        assert not outcome.trace, outcome.trace
    chosen = json.loads((folder.study("final") / "best.json").read_text())["params"]["encoder"]
    shipped = read_shipped_model(folder)
    origin = shipped.members[0].origin
    assert origin.name == chosen
    assert origin.framing == Framing("stretch", "breast")
    assert origin.weights_sha256 == sha256_of(Path(config.weights_of(chosen)))
    assert origin.weights_sha256 == read_encoder_card(folder, chosen)["weights_sha256"]
    new = write_picture(tmp_path / "new.png", 999)
    scores, decided = shipped.score(new_features(shipped, [new], {}), tmp_path / "cache")
    assert scores.shape == (1, 2)
    assert decided.shape == (1,)
    other = next(name for name in NAMES if name != chosen)
    Path(config.weights_of(chosen)).write_bytes(Path(config.weights_of(other)).read_bytes())
    with pytest.raises(DataError, match="not the weights of"):
        origin.build_encoder(tmp_path, say=print)


def test_members_of_an_ensemble_read_images_each_by_the_encoder_of_its_own_fold(
    tmp_path: Path, config: StudyConfig
) -> None:
    config = replace(config, final="ensemble", trials=2, seed=SEED)
    prepared, context = begun(tmp_path, config)
    outer = [fold.name for fold in prepared.studies]
    drive(prepared, context, OneProcess())
    write_json(prepared.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    run, shipped = read_kept_run(prepared.folder), read_shipped_model(prepared.folder)
    chosen = [str(fold.params["encoder"]) for fold in run.outer]
    assert [member.origin.name for member in shipped.members] == chosen
    assert set(chosen) == set(NAMES)
    for fold, member in zip(run.outer, shipped.members, strict=True):
        assert fold.test is not None
        rows = prepared.data.features.select(fold.test.ids.tolist())
        alone, _ = replace(shipped, members=(member,)).score(rows, tmp_path / "elsewhere")
        np.testing.assert_allclose(alone, fold.test.probabilities, atol=1e-5)
    new = new_features(shipped, [write_picture(tmp_path / "new.png", 999)], {})
    each = [
        replace(shipped, members=(one,)).score(new, tmp_path / "c")[0] for one in shipped.members
    ]
    np.testing.assert_allclose(shipped.score(new, tmp_path / "c")[0], np.mean(each, axis=0))
    card = model_card(run)
    assert "each member uses the encoder that its search chose" in card
    assert all(f"Encoder {name}" in card for name in NAMES)
    inside = explain_run(
        prepared.folder, cases=1, device="cpu", cache=tmp_path / "c", say=lambda text: None
    )
    assert {shown.case.fold for shown in inside.shown} == set(outer)


def test_another_way_of_framing_gives_other_numbers_and_keeps_its_own_cache(
    tmp_path: Path,
) -> None:
    """Else a study with --fit stretch would be served what one with --fit pad had kept."""
    image = np.zeros((200, 80, 3), np.uint8)
    image[60:140, 20:60] = 200
    path = str(tmp_path / "tall.png")
    Image.fromarray(image).save(path)
    features = Features(np.array(["tall"]), np.array([path]), np.zeros((1, 0)))
    rows = [
        embed(
            features,
            build("bundled:efficientnet_lite0", framing=Framing(fit)),
            cache=tmp_path / "cache",
            tokens=False,
            threads=1,
        ).pooled(["tall"])
        for fit in ("pad", "stretch", "pad")
    ]
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    np.testing.assert_array_equal(rows[0], rows[2])
