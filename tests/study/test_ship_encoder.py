"""From image files through two encoders to a shipped model that reads new files by the winner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pipelines.embeddings import embed
from pipelines.encoders.registry import build
from pipelines.encoders.weights import sha256_of
from pipelines.rows import ByEncoder
from storage.framing import Framing
from storage.readers.read import read
from storage.records import DataError, Features
from storage.run_folder import RunFolder
from study.config import StudyConfig
from study.drive import open_studies
from study.engines import quiet_optuna
from study.prepare import cut, encoders_of, lay_out, represent
from study.session import Place, open_session
from study.ship import read_encoder_card
from study.shipped import new_features, read_shipped
from study.work import Job, carry_out
from tests.factories import make_config
from tests.storage.image_factories import class_folders, write_picture

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
        "batch_size": {"values": [32]}, "augmented_views": {"values": [1]},
        "augmentation": {"values": ["strong"]}, "attention": {"values": [False]},
    }  # fmt: skip
    return make_config(
        "dbt", encoder=",".join(NAMES), weights=",".join(pairs), fit="stretch", crop="breast",
        trials=4, epochs=2, outer_folds=2, inner_folds=2, networks=1, space=space,
    )  # fmt: skip


def test_the_winner_and_its_preprocessing_are_what_predict_reads_images_by(
    tmp_path: Path, config: StudyConfig
) -> None:
    data = read(class_folders(tmp_path / "data", {"a": 8, "b": 8}), task="dbt")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    ready = lay_out(folder, config, data, cut(config, data))
    encoders = encoders_of(config)
    found = represent(
        ready, encoders, cache=tmp_path / "cache", device="cpu", progress=lambda done, total: None
    )
    assert isinstance(found, ByEncoder)
    ids = data.ids.tolist()
    for name in NAMES:
        source = found.of(name)
        assert source.pooled(ids).shape == (16, encoders[name].dim)
        assert not np.array_equal(source.pooled(ids, 2), source.pooled(ids))
        with pytest.raises(DataError, match=r"view 1 of .* was not embedded"):
            source.pooled(ids, 1)  # a light view, which this search does not draw
    place = Place(folder.path, found)
    open_studies(ready, place)
    for number in [*range(config.trials), None]:
        outcome = carry_out(Job(place, "final", number, "cpu"))
        assert not outcome.trace, outcome.trace
    chosen = json.loads((folder.study("final") / "best.json").read_text())["params"]["encoder"]
    shipped = read_shipped(folder)
    assert shipped.encoder_name == chosen
    assert shipped.framing == Framing("stretch", "breast")
    assert shipped.weights_sha256 == sha256_of(Path(config.weights_of(chosen)))
    assert shipped.weights_sha256 == read_encoder_card(folder, chosen)["weights_sha256"]
    new = write_picture(tmp_path / "new.png", 999)
    scores, decided = shipped.score(new_features(shipped, [new], {}), tmp_path / "cache")
    assert scores.shape == (1, 2)
    assert decided.shape == (1,)
    other = next(name for name in NAMES if name != chosen)
    Path(config.weights_of(chosen)).write_bytes(Path(config.weights_of(other)).read_bytes())
    with pytest.raises(DataError, match="not the weights of"):
        shipped.encoder()


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
            cache=tmp_path / "cache", tokens=False, threads=1,
        ).pooled(["tall"])
        for fit in ("pad", "stretch", "pad")
    ]  # fmt: skip
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    np.testing.assert_array_equal(rows[0], rows[2])
