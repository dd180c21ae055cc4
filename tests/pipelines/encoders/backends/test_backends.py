from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outerfold.pipelines.encoders._base import Encoder, recipe
from outerfold.pipelines.encoders.backends import openvino_backend, openvino_library
from outerfold.pipelines.encoders.backends.choose import (
    check_openvino,
    choose_backend,
    largest_difference,
    with_backend,
)
from outerfold.pipelines.encoders.backends.openvino_backend import OpenVinoBackend
from outerfold.pipelines.encoders.backends.probe import ALIKE, compare, probe_images
from outerfold.pipelines.encoders.backends.torch_backend import BATCHES
from outerfold.pipelines.encoders.divide import divide, frozen_parts
from outerfold.pipelines.encoders.frozen import FrozenEncoder, frozen
from outerfold.storage.records import DataError
from tests.contracts.encoder_contract import EncoderContract, pictures
from tests.pipelines.conftest import encoder_of
from tests.places import ROOT

LITE0 = "bundled:efficientnet_lite0"
needs_openvino = pytest.mark.skipif(
    not openvino_library.installed_version(), reason="openvino is not installed"
)


@pytest.fixture(scope="module")
def lite0() -> FrozenEncoder:
    return encoder_of(LITE0)


class SmallTrunk(nn.Module):
    """Trunk that a test can convert in no time; ``odd`` plants what a conversion cannot carry."""

    def __init__(self, odd: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.odd, self.layer = odd, nn.Conv2d(3, 8, 8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spatial = self.layer(x)
        if self.odd == "round":  # as DINOv2 sizes its map
            spatial = spatial * round(x.shape[2] / 32)
        if self.odd == "other" and torch.jit.is_tracing():
            spatial = spatial + 0.01
        return spatial.mean((2, 3)), spatial


def small(odd: str = "") -> FrozenEncoder:
    return frozen(
        SmallTrunk(odd),
        name=f"test:small{odd}",
        weights_sha256="0" * 64,
        versions=("torch 0",),
        image_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


@needs_openvino
class TestOpenVino(EncoderContract):
    @pytest.fixture
    def encoder(self, lite0: FrozenEncoder, tmp_path: Path) -> Encoder:
        return with_backend(lite0, "openvino", tmp_path)


class TestTorch(EncoderContract):
    @pytest.fixture
    def encoder(self, lite0: FrozenEncoder, tmp_path: Path) -> Encoder:
        return with_backend(lite0, "torch", tmp_path)


@needs_openvino
def test_openvino_gives_the_same_bits_for_every_batch_and_number_of_threads(
    lite0: FrozenEncoder, tmp_path: Path, one_thread: None
) -> None:
    encoder, images = with_backend(lite0, "openvino", tmp_path), probe_images(224)
    whole = encoder.encode(images)
    for threads, size in ((1, 1), (2, 1), (2, 5), (3, 16), (4, 8)):
        torch.set_num_threads(threads)
        parts = [encoder.encode(images[at : at + size]) for at in range(0, 16, size)]
        pooled = np.concatenate([part.pooled for part in parts])
        tokens = np.concatenate([part.tokens for part in parts])
        np.testing.assert_array_equal(pooled, whole.pooled)
        np.testing.assert_array_equal(tokens, whole.tokens)


def test_torch_gives_the_same_bits_among_any_neighbours(
    lite0: FrozenEncoder, tmp_path: Path, one_thread: None
) -> None:
    encoder, images = with_backend(lite0, "torch", tmp_path), probe_images(224)
    whole = encoder.encode(images)
    for rows in ([3], [9, 3], list(range(3, 3 + BATCHES["cpu"]))):
        found = encoder.encode(images[rows])
        np.testing.assert_array_equal(found.pooled[rows.index(3)], whole.pooled[3])
        np.testing.assert_array_equal(found.tokens[rows.index(3)], whole.tokens[3])


def test_torch_leaves_the_weights_of_the_encoder_as_they_lie(
    lite0: FrozenEncoder, tmp_path: Path
) -> None:
    """Blocks that are trained are copies of them, and their layout decides how products round."""
    before = {name: value.stride() for name, value in lite0.trunk.state_dict().items()}
    with_backend(lite0, "torch", tmp_path).encode(pictures(1, 224))
    assert {name: value.stride() for name, value in lite0.trunk.state_dict().items()} == before


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_backend_gives_nearly_the_values_of_the_trunk_as_it_is(
    lite0: FrozenEncoder, tmp_path: Path, name: str
) -> None:
    if name == "openvino" and not openvino_library.installed_version():
        pytest.skip("openvino is not installed")
    images = probe_images(224)[:4]
    expected, found = lite0.encode(images), with_backend(lite0, name, tmp_path).encode(images)
    assert np.abs(found.pooled - expected.pooled).max() < 2 * ALIKE * expected.pooled.std()
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=5e-3, rtol=2e-3)


@needs_openvino
def test_a_trunk_cut_at_a_block_goes_the_same_way(lite0: FrozenEncoder, tmp_path: Path) -> None:
    trunk = divide(with_backend(lite0, "openvino", tmp_path), 2).trunk
    plain = divide(lite0, 2).trunk
    assert trunk is not None
    assert plain is not None
    assert trunk.backend == "openvino"
    images = probe_images(224)[:2]
    expected, found = plain.encode(images).tokens.astype(float), trunk.encode(images).tokens
    assert np.abs(found - expected).max() < 0.01 * expected.std()
    assert (largest_difference([trunk], tmp_path) or 1) < ALIKE


@needs_openvino
@pytest.mark.parametrize("name", ["vit", "clip"])
def test_transformers_convert_too(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A map whose side is a number in torch must stay one where the network is traced."""
    assert check_openvino(request.getfixturevalue(name), tmp_path).alike


@needs_openvino
def test_openvino_is_chosen_where_it_gives_the_same_values(
    lite0: FrozenEncoder, tmp_path: Path
) -> None:
    chosen = choose_backend(frozen_parts(lite0, 0), cache=tmp_path, device="cpu")
    assert chosen.backend == "openvino"
    assert chosen.difference is not None
    assert 0 < chosen.difference < ALIKE


@needs_openvino
@pytest.mark.parametrize(
    ("odd", "reason"),
    [("round", "it does not convert"), ("other", "its values differ by .* of their standard dev")],
)
def test_what_openvino_cannot_compute_is_left_to_torch_and_the_reason_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str, reason: str
) -> None:
    monkeypatch.setattr(openvino_backend, "FOLDER", "converted")
    chosen = choose_backend([small(), small(odd)], cache=tmp_path, device="cpu")
    assert chosen.backend == "torch"
    assert f"OpenVINO does not take test:small{odd}: " in chosen.reason
    monkeypatch.setattr(openvino_backend, "convert_network", None)  # nothing converts again
    again = check_openvino(small(odd), tmp_path)
    assert again.reason in chosen.reason
    with pytest.raises(DataError, match=f"test:small{odd} cannot be .*since {reason}"):
        with_backend(small(odd), "openvino", tmp_path)


@needs_openvino
def test_an_encoder_is_converted_once_and_compared_once_for_each_kind_of_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "FOLDER", "converted")
    first = check_openvino(small(), tmp_path)
    monkeypatch.setattr(openvino_backend, "convert_network", None)
    assert check_openvino(small(), tmp_path) == first
    monkeypatch.setattr(openvino_backend, "describe_cpu", lambda: "another")
    assert check_openvino(small(), tmp_path) == first
    (home,) = (tmp_path / "converted").iterdir()
    assert len(list(home.glob("cpu-*.json"))) == 2
    with_backend(small(), "openvino", tmp_path).encode(pictures(3, 64))
    monkeypatch.setattr(openvino_library, "version", lambda name: "1999.1")
    assert not check_openvino(small(), tmp_path).alike  # a new version is converted anew: refused


@needs_openvino
def test_a_full_disk_says_nothing_about_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(openvino_backend, "FOLDER", "converted")
    with monkeypatch.context() as patch:
        patch.setattr(openvino_backend, "convert_network", fill)
        with pytest.raises(OSError, match="No space"):
            check_openvino(small(), tmp_path)
    assert check_openvino(small(), tmp_path).alike


def test_without_openvino_torch_computes(
    lite0: FrozenEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "installed_version", lambda: "")
    chosen = choose_backend([lite0], cache=tmp_path, device="cpu")
    assert (chosen.backend, chosen.difference) == ("torch", None)
    assert "openvino is not installed" in chosen.reason
    with pytest.raises(DataError, match="the package openvino is not installed; install what is"):
        with_backend(lite0, "openvino", tmp_path)


def test_a_gpu_computes_with_torch(lite0: FrozenEncoder, tmp_path: Path) -> None:
    assert choose_backend([lite0], cache=tmp_path, device="cuda:0").backend == "torch"


def test_the_key_names_the_backend_and_without_one_it_is_the_former(
    lite0: FrozenEncoder, tmp_path: Path
) -> None:
    assert with_backend(lite0, "", tmp_path) is lite0
    assert "backend" not in recipe(lite0)
    named = replace(lite0, computed_by=OpenVinoBackend(tmp_path))
    assert recipe(named)["backend"] == "openvino"
    version = f"openvino {openvino_library.installed_version()}"
    assert recipe(named)["versions"] == [*lite0.versions, version]
    rest = {key: value for key, value in recipe(named).items() if key != "backend"}
    assert {**rest, "versions": list(lite0.versions)} == recipe(lite0)
    assert (lite0.batch("cpu"), named.batch("cpu")) == (16, 1)


def test_the_sixteen_photographs_differ_and_stay_the_same() -> None:
    images = probe_images(32)
    assert images.shape == (16, 32, 32, 3)
    assert len({image.tobytes() for image in images}) == 16
    np.testing.assert_array_equal(images, probe_images(32))


def test_values_are_compared_in_standard_deviations_and_not_a_number_is_no_match() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(0, 5, (16, 4)).astype(np.float32)
    tokens = np.ones((16, 2, 3), np.float32) * np.arange(3, dtype=np.float32)
    near, far, broken = pooled.copy(), pooled.copy(), pooled.copy()
    near[0, 0] += np.float32(0.9 * ALIKE * pooled.std())
    far[0, 0] += np.float32(1.1 * ALIKE * pooled.std())
    broken[0, 0] = np.nan
    assert compare((pooled, tokens), (near, tokens)).alike
    assert not compare((pooled, tokens), (far, tokens)).alike
    assert not compare((pooled, tokens), (broken, tokens)).alike
    assert not compare((pooled, tokens), (pooled, tokens + np.float32(0.01))).alike


LISTEN = """
import sys
from pathlib import Path
import torch
from outerfold.pipelines.encoders.backends.choose import check_openvino
from tests.pipelines.encoders.backends.test_backends import small

found = []
watched = ("socket.", "subprocess.Popen", "os.fork", "os.posix_spawn", "urllib.Request")
sys.addaudithook(lambda event, _: found.append(event) if event.startswith(watched) else None)
if sys.argv[2] == "plain":
    import openvino
print(check_openvino(small(), Path(sys.argv[1])).alike, "openvino" in sys.modules)
print("openvino_telemetry" in sys.modules, sorted(set(found)))
"""


@needs_openvino
@pytest.mark.parametrize("how", ["inert", "plain"])
def test_openvino_opens_no_socket_and_its_telemetry_is_not_loaded(tmp_path: Path, how: str) -> None:
    """The plain import shows that the test would see it; the home folder there refuses consent."""
    refusal = tmp_path / "intel" / "openvino_telemetry"
    refusal.parent.mkdir()
    if how == "plain":
        refusal.write_text("0", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTEN, str(tmp_path / "cache"), how],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    loaded, events = done.stdout.splitlines()[-2:]
    assert loaded == "True True", done.stderr
    if how == "inert":
        assert events == "False []"
        assert list(refusal.parent.iterdir()) == []
    else:
        assert events.startswith("True ")
