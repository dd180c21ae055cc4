from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outerfold.pipelines.encoders.backends import openvino_backend
from outerfold.pipelines.encoders.backends.openvino_library import installed_version
from outerfold.pipelines.encoders.backends.precision import Measured
from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.saved.files import encoder_card
from outerfold.pipelines.saved.model import Origin
from outerfold.storage.cache.files import read_json
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import StudyConfig
from outerfold.study.setup.encoder_backend import (
    attach_backend,
    resolve_encoder_backend,
    resolve_encoder_precision,
)
from outerfold.study.setup.provenance import write_provenance

NAME = "bundled:efficientnet_lite0"
AUTOMATIC = StudyConfig(task="multimodal", encoder=NAME, epochs=1, encoder_backend="auto")
needs_openvino = pytest.mark.skipif(not installed_version(), reason="openvino is not installed")


def resolve(config: StudyConfig, folder: Path, device: str = "cpu") -> tuple[StudyConfig, str]:
    return resolve_encoder_backend(
        config, RunFolder(folder), {NAME: build(NAME)}, cache=folder / "cache", device=device
    )


@needs_openvino
def test_auto_is_settled_once_and_a_started_run_keeps_what_it_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, why = resolve(AUTOMATIC, tmp_path)
    assert config.encoder_backend == "openvino"
    assert why.startswith("encoder backend openvino: on 16 photographs it differs from torch by")
    RunFolder(tmp_path).write_config(config.to_toml())
    monkeypatch.setattr(openvino_backend, "installed_version", lambda: "")
    assert resolve(AUTOMATIC, tmp_path) == (config, "")
    with pytest.raises(DataError, match=r"cannot be computed by OpenVINO here, since the package"):
        attach_backend(config, {NAME: build(NAME)}, tmp_path)


def test_where_a_gpu_encodes_auto_is_torch(tmp_path: Path) -> None:
    config, why = resolve(AUTOMATIC, tmp_path, device="cuda:0")
    assert config.encoder_backend == "torch"
    assert why == ("encoder backend torch: OpenVINO computes on the CPU, and cuda:0 is at hand")


def test_a_run_that_began_before_backends_had_names_goes_on_as_it_began(tmp_path: Path) -> None:
    former = replace(AUTOMATIC, encoder_backend="")
    table = {name: value for name, value in former.to_toml().items() if name != "encoder_backend"}
    RunFolder(tmp_path).write_config(table)
    config, why = resolve(AUTOMATIC, tmp_path)
    assert (config, why) == (former, "")
    encoder = build(NAME)
    assert attach_backend(config, {NAME: encoder}, tmp_path) == {NAME: encoder}


def test_a_backend_of_that_name_is_refused_where_there_is_none() -> None:
    with pytest.raises(DataError, match=r"--encoder-backend: unknown value 'openvin'; did you"):
        replace(AUTOMATIC, encoder_backend="openvin")


def test_auto_leaves_the_names_of_older_folders_alone_and_a_choice_does_not() -> None:
    former = replace(AUTOMATIC, encoder_backend="")
    assert AUTOMATIC.naming() == former.naming()
    assert replace(AUTOMATIC, encoder_backend="torch").naming() != former.naming()


@needs_openvino
def test_a_model_is_read_by_torch_where_openvino_is_absent_and_the_difference_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    own = attach_backend(
        replace(AUTOMATIC, encoder_backend="openvino"), {NAME: build(NAME)}, tmp_path
    )
    origin = Origin.of(encoder_card(own[NAME], "", 0.00006))
    assert origin.build_encoder(tmp_path, say=said.append).backend == "openvino"
    assert said == []
    monkeypatch.setattr(openvino_backend, "installed_version", lambda: "")
    assert origin.build_encoder(tmp_path, say=said.append).backend == "torch"
    assert len(said) == 1
    assert "torch computes them here (OpenVINO does not take bundled" in said[0]
    assert "the two differed by at most 6e-05 of the values' standard deviation" in said[0]


@pytest.mark.parametrize(("backend", "said"), [("openvino", "openvino"), ("", "torch")])
def test_provenance_names_the_backend(tmp_path: Path, backend: str, said: str) -> None:
    seconds = dict.fromkeys(("wall_seconds", "search_seconds", "expected_seconds"), 1.0)
    write_provenance(
        RunFolder(tmp_path), devices=["cpu"], command=[], timing=seconds, backend=backend
    )
    kept = read_json(tmp_path / "provenance.json")["provenance"]
    assert (kept["encoder_backend"], kept["encoder_precision"]) == (said, "float32")
    assert kept["versions"]["openvino"] == (installed_version() or "absent")


def test_a_model_of_an_earlier_version_is_read_as_it_was_made(tmp_path: Path) -> None:
    origin = Origin.of(encoder_card(build(NAME), ""))
    assert origin.build_encoder(tmp_path, say=print).backend == ""


GPU_RUN = replace(AUTOMATIC, encoder_backend="torch", encoder_precision="auto")


def settle(config: StudyConfig, folder: Path, device: str) -> tuple[StudyConfig, str]:
    encoders = {NAME: build(NAME)}
    sha = encoders[NAME].weights_sha256
    measured = [Measured(NAME, sha, "float16", 0.0001, 0.0012)]
    return resolve_encoder_precision(
        config, RunFolder(folder), encoders, device=device, measured=measured
    )


def test_precision_is_settled_once_said_kept_and_refused_where_there_is_no_gpu(
    tmp_path: Path,
) -> None:
    config, why = settle(GPU_RUN, tmp_path, "cuda:0")
    assert config.encoder_precision == "float16"
    assert why.startswith("encoder precision float16: a linear probe loses at most 0.001 of")
    RunFolder(tmp_path).write_config(config.to_toml())
    assert settle(GPU_RUN, tmp_path, "cuda:0") == (config, "")
    with pytest.raises(DataError, match=r"--run .*: encodes in float16, which a GPU computes"):
        settle(GPU_RUN, tmp_path, "cpu")


def test_a_cpu_encodes_in_float32_and_says_nothing(tmp_path: Path) -> None:
    config, why = settle(GPU_RUN, tmp_path, "cpu")
    assert (config.encoder_precision, why) == ("float32", "")


def test_a_run_that_began_before_precisions_had_names_stays_in_float32(tmp_path: Path) -> None:
    former = replace(GPU_RUN, encoder_precision="")
    table = {name: v for name, v in former.to_toml().items() if name != "encoder_precision"}
    RunFolder(tmp_path).write_config(table)
    assert settle(GPU_RUN, tmp_path, "cuda:0") == (former, "")
    assert attach_backend(former, {NAME: build(NAME)}, tmp_path)[NAME].precision == "float32"


@pytest.mark.parametrize(
    ("changes", "device", "said"),
    [
        ({"encoder_precision": "bfloat16"}, "cuda:0", "bfloat16: it was not shown to keep"),
        ({"encoder_precision": "float16"}, "cpu", "float16, which a GPU computes"),
        (
            {"encoder_precision": "float16", "encoder_backend": "openvino"},
            "cuda:0",
            "float16, and --encoder-backend openvino computes float32 alone",
        ),
    ],
)
def test_a_precision_that_cannot_be_or_was_not_measured_is_refused(
    tmp_path: Path, changes: dict[str, str], device: str, said: str
) -> None:
    with pytest.raises(DataError, match=f"--encoder-precision {said}"):
        settle(replace(GPU_RUN, **changes), tmp_path, device)  # type: ignore[arg-type]


def test_a_model_is_read_in_float32_where_no_gpu_is_and_the_difference_is_said(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    settled = replace(GPU_RUN, encoder_precision="float16")
    own = attach_backend(settled, {NAME: build(NAME)}, tmp_path)
    origin = Origin.of(encoder_card(own[NAME], "", 0.02))
    assert origin.build_encoder(tmp_path, device="cuda", say=said.append).precision == "float16"
    assert said == []
    assert origin.build_encoder(tmp_path, say=said.append).precision == "float32"
    assert "computed in float16 on a GPU, and float32 computes them here" in said[0]
    assert "the two differed by at most 0.02 of the values' standard deviation" in said[0]
