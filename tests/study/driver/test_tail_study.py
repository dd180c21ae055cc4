"""Studies that train blocks of the encoder keep every promise of those that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from outerfold.pipelines.encoders import registry
from outerfold.pipelines.encoders.divide import Tail
from outerfold.pipelines.saved.ensemble import ship_ensemble
from outerfold.pipelines.saved.predictor import new_features, read_shipped_model
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import FINAL, DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.driver import open_studies
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.explain.explain import explain_run
from outerfold.study.setup.batch_size import CPU_CAP, resolve_batch_size
from outerfold.study.setup.represent import build_encoders, check_disk_space, represent
from outerfold.study.setup.run_directory import PreparedRun, make_splits, write_run_directory
from outerfold.study.worker import session as sessions
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, WorkerContext
from outerfold.study.worker.trial_model import make_model
from tests.factories import begin_run, make_config, make_rows, scrambled, splits_of
from tests.pipelines.training.tail_factories import SmallTail, save_clip, small_towers, with_tail
from tests.storage.images.image_factories import class_folders, write_picture

pytestmark = pytest.mark.usefixtures("one_thread")
FOLD = "outer-1"


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    sessions.open_session.cache_clear()
    quiet_optuna()


@pytest.fixture(autouse=True)
def _small_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    small_towers(monkeypatch)


def small(task: str = "multimodal", **changes: Any) -> StudyConfig:
    chosen = {"trainable_blocks": 1, "networks": 1, "trials": 3, "epochs": 3, **changes}
    return make_config(task, **chosen)


def done(path: Path, config: StudyConfig, names: Sequence[str], noise: bool = False) -> Session:
    """Studies of small rows carried out in this process, test rows of ``FOLD`` noise if asked."""
    sessions.open_session.cache_clear()
    classes = ("a", "b", "c", "d") if config.task == "dbt" else ("other", "cancer")
    data, source = make_rows(patients=36, classes=classes, signal=0.3)
    splits = splits_of(data, config)
    if noise:
        test = next(fold for fold in splits.outer if fold.name == FOLD).test
        data, source = scrambled(data, source, test)
    _, context = begin_run(path, data, with_tail(source), config, splits)
    for number in [*range(config.trials), None]:
        for name in names:
            outcome = run_and_keep_job(Job(context, name, number, "cpu"))
            assert not outcome.trace, outcome.trace
    return Session(context)


def kept(session: Session, name: str) -> dict[str, Any]:
    """What a study decided and delivered, its scores of test rows apart."""
    folder = session.folder.study(name)
    best = json.loads((folder / "best.json").read_text())
    trials = session.study(name).get_trials()
    return {
        "trials": [(t.params, t.values, t.intermediate_values, t.user_attrs) for t in trials],
        **{key: best[key] for key in ("params", "epochs", "inner_score", "temperature", "notes")},
        "validation": (folder / "validation.csv").read_text(),
        "weights": (folder / "model.pt").read_bytes(),
    }


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_search_refit_and_decision_ignore_the_test_side(tmp_path: Path, task: str) -> None:
    plain = done(tmp_path / "plain", small(task), [FOLD])
    noisy = done(tmp_path / "noisy", small(task), [FOLD], noise=True)
    assert kept(plain, FOLD) == kept(noisy, FOLD)
    tables = [s.folder.study(FOLD) / "predictions.csv" for s in (plain, noisy)]
    assert tables[0].read_text() != tables[1].read_text(), "the noise reaches the scores"


def test_a_study_ends_alike_alone_and_between_others(tmp_path: Path) -> None:
    """Workers differ in nothing but which jobs they get, and in what order."""
    alone = done(tmp_path / "alone", small(), [FOLD])
    beside = done(tmp_path / "beside", small(), ["outer-0", FOLD, "final"])
    assert kept(alone, FOLD) == kept(beside, FOLD)


def test_the_chosen_trial_run_again_scores_what_it_scored(tmp_path: Path) -> None:
    session = done(tmp_path / "run", small(), [FOLD])
    best = kept(session, FOLD)
    assert not [note for note in best["notes"] if "when run again" in note]
    trial = session.study(FOLD).best_trial
    chosen = make_model(session.objective(FOLD, "cpu"), trial, session.config)
    assert chosen.replay.score == trial.value


@pytest.mark.parametrize(("final", "models"), [("refit", 2), ("folds", 6)])
def test_as_many_networks_ship_as_are_asked_for(tmp_path: Path, final: str, models: int) -> None:
    """With three inner folds, two networks of each are six."""
    session = done(tmp_path / "run", small(networks=2, final=final), [FINAL])
    state = torch.load(session.folder.study(FINAL) / "model.pt", weights_only=True)
    found = {name.split(".")[1] for name in state if name.startswith("tails")}
    assert found == {str(number) for number in range(models)}
    assert not torch.equal(state["tails.0.conv.weight"], state["tails.1.conv.weight"])


# -- memory ----------------------------------------------------------------------------------


def test_a_study_whose_memory_runs_out_in_a_trial_completes_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, sizes = SmallTail.forward, []

    def full_once(self: SmallTail, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            sizes.append(len(x))
        if self.training and len(sizes) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, x)

    monkeypatch.setattr(SmallTail, "forward", full_once)
    session = done(tmp_path / "run", small(trials=1), [FOLD])
    (trial,) = session.study(FOLD).get_trials()
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["micro_batch"] == sizes[3] // 2
    assert sizes[4] + sizes[5] + (sizes[6] if sizes[3] % 2 else 0) == sizes[3]
    assert trial.params["batch_size"] == 32
    notes = " ".join(kept(session, FOLD)["notes"])
    assert "memory ran out in 1 of 1 trials, so their batches were divided into parts of" in notes
    assert "batch normalisation used the parts" in notes
    assert "when run again" not in notes, "the replay takes the same parts"


def test_a_trial_that_fits_in_no_part_fails_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.open_session.cache_clear()
    data, source = make_rows(patients=36, signal=0.3)
    _, context = begin_run(tmp_path / "run", data, with_tail(source), small())
    with monkeypatch.context() as patch:
        patch.setattr(SmallTail, "forward", _never_fits)
        outcome = run_and_keep_job(Job(context, FOLD, 0, "cpu"))
    assert outcome.state == "failed"
    assert outcome.reason.startswith("OutOfMemoryError: CUDA out of memory")
    assert run_and_keep_job(Job(context, FOLD, 1, "cpu")).state == "complete"
    assert run_and_keep_job(Job(context, FOLD, None, "cpu")).state == "finished"


def _never_fits(self: SmallTail, x: Tensor) -> tuple[Tensor, Tensor]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


# -- real images -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def on_images(root: Path, weights: Path, **changes: Any) -> tuple[PreparedRun, WorkerContext]:
    """A run on image files, up to where its workers begin."""
    data = read_dataset(
        class_folders(root / "data", {"benign": 10, "cancer": 10}, views=2),
        task="multimodal",
        patient_regex="(P[0-9]+)_",
    )
    config = small(
        encoder="clip:ViT-B/32",
        weights=str(weights),
        trials=1,
        outer_folds=2,
        inner_folds=2,
        **changes,
    )
    root.mkdir(exist_ok=True)
    folder = RunFolder(root / "run")
    folder.path.mkdir()
    prepared = write_run_directory(folder, config, data, make_splits(config, data))
    encoders = build_encoders(config)
    assert bool(check_disk_space(prepared, encoders, cache=root / "cache", device="cpu")) == (
        config.trainable_blocks != "all"
    )
    handle = represent(
        prepared, encoders, cache=root / "cache", device="cpu", progress=lambda done, total: None
    )
    context = WorkerContext(folder.path, handle)
    open_studies(prepared, context)
    return prepared, context


@pytest.mark.parametrize("blocks", [1, "all"])
def test_the_shipped_model_scores_new_images_as_the_refit_did(
    tmp_path: Path, weights: Path, blocks: int | str
) -> None:
    prepared, context = on_images(tmp_path, weights, trainable_blocks=blocks, checkpointing=True)
    for number in (0, None):
        outcome = run_and_keep_job(Job(context, FINAL, number, "cpu"))
        assert not outcome.trace, outcome.trace
    about = read_json(prepared.folder.study(FINAL) / "preprocessing.json")
    assert about["trainable_blocks"] == blocks
    assert ("augment_strength" in outcome_params(prepared)) == (blocks == "all")
    shipped = read_shipped_model(prepared.folder)
    seen = Path(prepared.data.features.images[0])
    copy = tmp_path / "elsewhere.png"
    copy.write_bytes(seen.read_bytes())
    new = write_picture(tmp_path / "new.png", 9999)
    scores, decided = shipped.score(new_features(shipped, [copy, new], {}), tmp_path / "other")
    assert scores.shape == (2, 2)
    assert set(decided.tolist()) <= {0, 1}
    session = Session(context)
    best = session.study(FINAL).best_trial
    second = session.second_objective(FINAL, "cpu")
    chosen = make_model(session.objective(FINAL, "cpu"), best, session.config, second=second)
    row = prepared.data.features.select(prepared.data.ids[:1].tolist())
    expected = chosen.decision.calibrate(chosen.fitted.predict(row))
    np.testing.assert_allclose(scores[0], expected[0], atol=1e-6)


def shipped_together(prepared: PreparedRun, context: WorkerContext) -> list[str]:
    """Carry out a trial and the end of every study; the names of those that ship as an ensemble."""
    outer = [fold.name for fold in prepared.studies]
    for name in outer:
        for number in (0, None):
            outcome = run_and_keep_job(Job(context, name, number, "cpu"))
            assert not outcome.trace, outcome.trace
    ship_ensemble(prepared.folder, outer)
    return outer


def outcome_params(prepared: PreparedRun) -> dict[str, Any]:
    params: dict[str, Any] = read_json(prepared.folder.study(FINAL) / "best.json")["params"]
    return params


def test_an_ensemble_averages_the_outer_models_each_with_its_own_tail_over_all_views(
    tmp_path: Path, weights: Path
) -> None:
    prepared, context = on_images(tmp_path, weights, final="ensemble", tta=1)
    outer = shipped_together(prepared, context)
    shipped = read_shipped_model(prepared.folder)
    assert FINAL not in outer
    assert len(shipped.members) == len(outer) == 2
    new = write_picture(tmp_path / "new.png", 9999)
    features = new_features(shipped, [new], {})
    scores, _ = shipped.score(features, tmp_path / "other")
    apart = [
        replace(shipped, members=(member,)).score(features, tmp_path / "other")[0]
        for member in shipped.members
    ]
    assert not np.allclose(*apart, atol=1e-5)
    np.testing.assert_allclose(scores, np.mean(apart, axis=0), atol=1e-12)
    once = replace(shipped, members=tuple(replace(m, tta=0) for m in shipped.members))
    assert not np.allclose(once.score(features, tmp_path / "other")[0], scores, atol=1e-6)


def test_the_weights_that_ship_are_not_the_pretrained_ones(tmp_path: Path, weights: Path) -> None:
    prepared, context = on_images(tmp_path, weights)
    for number in (0, None):
        run_and_keep_job(Job(context, FINAL, number, "cpu"))
    state = torch.load(prepared.folder.study(FINAL) / "model.pt", weights_only=True)
    tail = context.embeddings.tail().state_dict()  # type: ignore[attr-defined]
    moved = [name for name in tail if not torch.equal(tail[name], state[f"tails.0.{name}"])]
    assert any("resblocks.1" in name for name in moved)
    assert any("ln_post" in name for name in moved)
    assert not any("resblocks.0" in name for name in state)


def test_an_encoder_with_fewer_blocks_is_refused_before_anything_is_written(
    weights: Path,
) -> None:
    config = small(encoder="clip:ViT-B/32", weights=str(weights), trainable_blocks=3)
    with pytest.raises(DataError, match="--trainable-blocks 3: clip:ViT-B/32 has 2 blocks"):
        build_encoders(config)


@pytest.mark.parametrize(("blocks", "tta"), [(1, 1), ("all", 0)])
def test_trained_transformers_are_explained_by_roll_out_with_the_scores_they_had(
    tmp_path: Path, weights: Path, blocks: int | str, tta: int
) -> None:
    prepared, context = on_images(
        tmp_path, weights, trainable_blocks=blocks, tta=tta, networks=2, final="ensemble"
    )
    shipped_together(prepared, context)
    write_json(prepared.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    inside = explain_run(
        prepared.folder, cases=2, device="cpu", cache=tmp_path / "cache", say=lambda text: None
    )
    assert len(inside.shown) >= 4
    assert {shown.method for shown in inside.shown} == {"attention roll-out"}
    assert all((shown.peak or 0) > 1 for shown in inside.shown)


# -- what is chosen where nothing is said ----------------------------------------------------


def test_an_automatic_batch_size_is_measured_once_and_kept_with_the_run(
    tmp_path: Path, weights: Path
) -> None:
    encoders = {"clip:ViT-B/32": registry.build("clip:ViT-B/32", weights=weights)}
    config = small(encoder="clip:ViT-B/32", weights=str(weights), batch_size="auto", space={})
    folder = RunFolder(tmp_path)
    found, why = resolve_batch_size(config, folder, encoders, images=100_000, device="cpu")
    assert found.batch_size == CPU_CAP
    assert why == "batch size 64: the largest that is tried on a CPU with 100000 images"
    assert (
        resolve_batch_size(config, folder, encoders, images=130, device="cpu")[0].batch_size == 16
    )
    folder.write_config(replace(config, batch_size=48).to_toml())
    assert resolve_batch_size(config, folder, encoders, images=10, device="cpu") == (
        replace(config, batch_size=48),
        "",
    )


def test_an_automatic_batch_size_is_the_largest_that_fits(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Tail.forward

    def limited(self: Tail, x: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, x)

    encoders = {"clip:ViT-B/32": registry.build("clip:ViT-B/32", weights=weights)}
    config = small(encoder="clip:ViT-B/32", weights=str(weights), batch_size="auto", space={})
    monkeypatch.setattr(Tail, "forward", limited)
    found, why = resolve_batch_size(
        config, RunFolder(tmp_path), encoders, images=5000, device="cpu"
    )
    assert (found.batch_size, why) == (16, "batch size 16: a larger one does not fit in memory")
