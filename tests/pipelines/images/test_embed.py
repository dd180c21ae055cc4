from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from outerfold.pipelines.augmentation.views import STYLES, Views, view_of
from outerfold.pipelines.encoders import registry
from outerfold.pipelines.encoders._base import UNNAMED_BATCH as BATCH
from outerfold.pipelines.encoders._base import Encoded, Encoder
from outerfold.pipelines.images import decoded as squares
from outerfold.pipelines.images import embed as module
from outerfold.pipelines.images.embed import Embeddings, embed
from outerfold.storage.images.framing import Framing
from outerfold.storage.images.read import content_hash, read_image
from outerfold.storage.records import DataError, Features
from tests.places import ROOT

STRETCHED = Framing("stretch")


@dataclass(frozen=True)
class Bands:
    """An encoder that can be reckoned by hand: means of the sixteenths of an image."""

    name: str = "test:bands"
    weights_sha256: str = "0" * 64
    versions: tuple[str, ...] = ("bands 1",)
    image_size: int = 32
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dim: int = 3
    token_dim: int = 3
    tokens: int = 16
    framing: Framing = STRETCHED
    pause: float = 0.0
    backend: str = ""
    precision: str = "float32"

    @property
    def libraries(self) -> tuple[str, ...]:
        return self.versions

    def batch(self, device: str) -> int:
        return BATCH

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        assert images.shape == (BATCH, self.image_size, self.image_size, 3)
        time.sleep(self.pause)
        cells = images.reshape(len(images), 4, 8, 4, 8, 3).mean(axis=(2, 4))
        tokens = cells.reshape(len(images), 16, 3)
        return Encoded(tokens.mean(axis=1).astype(np.float32), tokens.astype(np.float16))

    def to(self, device: str) -> Bands:
        return self


class Refuses(Bands):
    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        raise AssertionError("nothing was missing")


def make_images(folder: Path, count: int, *, side: int = 40) -> Features:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        pixels = rng.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
        paths.append(str(folder / f"{i:04d}.png"))
        Image.fromarray(pixels).save(paths[-1])
    ids = np.array([f"row{i}" for i in range(count)])
    return Features(ids, np.array(paths), np.zeros((count, 0)))


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Features:
    return make_images(tmp_path_factory.mktemp("images"), 40)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stored(cache: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cache)): p.read_bytes() for p in sorted(cache.rglob("rows.*"))}


def test_rows_hold_what_the_encoder_says_of_each_image(forty: Features, tmp_path: Path) -> None:
    kept = embed(forty, Bands(), cache=tmp_path, threads=1)
    asked = ["row7", "row0", "row39"]
    for i, name in enumerate(asked):
        path = forty.images[forty.positions([name])[0]]
        image = Image.fromarray(read_image(path)).resize((32, 32), Image.Resampling.BICUBIC)
        expected = np.asarray(image).mean(axis=(0, 1))
        np.testing.assert_allclose(kept.pooled(asked)[i], expected, rtol=1e-5)
    assert kept.tokens(asked).shape == (3, 16, 3)
    assert (kept.dim, kept.token_dim, kept.views) == (3, 3, 1)


def test_views_are_of_the_augmented_image_and_view_zero_of_the_untouched(
    forty: Features, tmp_path: Path
) -> None:
    kept = embed(forty, Bands(), cache=tmp_path, views=3, threads=1)
    path = str(forty.images[5])
    view = view_of(squares.read_square(path, 32, STRETCHED), content_hash(path), 2, STYLES[0])
    np.testing.assert_allclose(kept.pooled(["row5"], 2)[0], view.mean(axis=(0, 1)), rtol=1e-5)
    only = embed(forty, Bands(), cache=tmp_path / "other", threads=1)
    ids = forty.ids.tolist()
    np.testing.assert_array_equal(kept.pooled(ids), only.pooled(ids))


def test_a_second_time_nothing_is_computed(forty: Features, tmp_path: Path) -> None:
    first = embed(forty, Bands(), cache=tmp_path, views=2, threads=1)
    told: list[tuple[int, int]] = []
    again = embed(
        forty,
        Refuses(),
        cache=tmp_path,
        views=2,
        threads=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == []
    assert again.name == first.name


def test_progress_ends_at_its_total(forty: Features, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    embed(
        forty,
        Bands(),
        cache=tmp_path,
        views=2,
        threads=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (120, 120)
    assert told == sorted(told)


def test_new_rows_are_added_to_those_already_there(forty: Features, tmp_path: Path) -> None:
    few = forty.select(["row3", "row9"])
    embed(few, Bands(), cache=tmp_path, threads=1)
    kept = embed(forty, Bands(), cache=tmp_path, threads=1)
    fresh = embed(forty, Bands(), cache=tmp_path / "fresh", threads=1)
    ids = forty.ids.tolist()
    np.testing.assert_array_equal(kept.pooled(ids), fresh.pooled(ids))


def test_rows_follow_the_content_and_not_the_name_or_place(forty: Features, tmp_path: Path) -> None:
    before = embed(forty, Bands(), cache=tmp_path, threads=1)
    order = np.arange(40)[::-1]
    renamed = Features(
        np.array([f"new{i}" for i in range(40)]), forty.images[order], np.zeros((40, 0))
    )
    after = embed(renamed, Refuses(), cache=tmp_path, threads=1)
    np.testing.assert_array_equal(after.pooled(["new0"]), before.pooled(["row39"]))


def test_a_file_whose_content_changed_is_embedded_anew(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "images", 2)
    before = embed(rows, Bands(), cache=tmp_path / "cache", threads=1)
    Image.new("RGB", (40, 40), (9, 8, 7)).save(rows.images[0])
    after = embed(rows, Bands(), cache=tmp_path / "cache", threads=1)
    np.testing.assert_allclose(after.pooled(["row0"])[0], (9, 8, 7))
    np.testing.assert_array_equal(after.pooled(["row1"]), before.pooled(["row1"]))


def test_one_image_under_two_ids_is_kept_once(forty: Features, tmp_path: Path) -> None:
    twice = Features(np.array(["a", "b"]), forty.images[[0, 0]], np.zeros((2, 0)))
    kept = embed(twice, Bands(), cache=tmp_path, threads=1)
    np.testing.assert_array_equal(kept.pooled(["a"]), kept.pooled(["b"]))
    assert {Path(k).name: len(v) for k, v in stored(tmp_path / "pooled").items()}["rows.bin"] == 12


@pytest.mark.parametrize(
    "other",
    [
        replace(Bands(), weights_sha256="1" * 64),
        replace(Bands(), name="test:other"),
        replace(Bands(), mean=(0.5, 0.0, 0.0)),
        replace(Bands(), std=(0.5, 1.0, 1.0)),
        replace(Bands(), versions=("bands 2",)),
        replace(Bands(), framing=Framing("pad")),
        replace(Bands(), framing=Framing("stretch", "breast")),
    ],
)
def test_anything_that_changes_the_values_changes_the_key(
    forty: Features, tmp_path: Path, other: Encoder
) -> None:
    rows = forty.select(["row0"])
    embed(rows, Bands(), cache=tmp_path, threads=1)
    embed(rows, other, cache=tmp_path, threads=1)
    assert len(list((tmp_path / "pooled").iterdir())) == 2


def test_without_a_named_backend_the_stores_are_those_of_earlier_versions(tmp_path: Path) -> None:
    pooled, tokens = module._open_stores(tmp_path, Bands(), "cuda:1")
    assert pooled.folder.name == "29e4ac0a5bc27cfe80b152aa"
    assert tokens.folder.name == "4cb127a1b43462267df4a664"


def test_a_named_backend_has_stores_of_its_own_on_the_device_that_computes(tmp_path: Path) -> None:
    named = [replace(Bands(), backend=name) for name in ("openvino", "torch")]
    stores = [module._open_stores(tmp_path, one, "cuda")[0] for one in (*named, Bands())]
    assert len({store.folder for store in stores}) == 3
    assert stores[0].folder == module._open_stores(tmp_path, named[0], "cpu")[0].folder


def test_a_named_backend_gets_images_without_padding(forty: Features, tmp_path: Path) -> None:
    sizes = []

    class Counts(Bands):
        def encode(self, images: NDArray[np.uint8]) -> Encoded:
            sizes.append(len(images))
            padded = np.zeros((BATCH, 32, 32, 3), np.uint8)
            found = [super(Counts, self).encode(np.stack([one, *padded[1:]])) for one in images]
            return Encoded(
                np.stack([one.pooled[0] for one in found]),
                np.stack([one.tokens[0] for one in found]),
            )

    kept = embed(forty, Counts(backend="torch"), cache=tmp_path, threads=1)
    assert sizes == [40]
    plain = embed(forty, Bands(), cache=tmp_path, threads=1)
    ids = forty.ids.tolist()
    np.testing.assert_array_equal(kept.pooled(ids), plain.pooled(ids))


def test_another_image_size_is_never_served_from_the_old_one(
    forty: Features, tmp_path: Path
) -> None:
    """Without preprocessing in its key, the store would hand out squares of the wrong side."""

    class Sixteen(Bands):
        def encode(self, images: NDArray[np.uint8]) -> Encoded:
            assert images.shape == (BATCH, 64, 64, 3)
            return Encoded(np.ones((BATCH, 3), np.float32), np.ones((BATCH, 16, 3), np.float16))

    rows = forty.select(["row0"])
    embed(rows, Bands(), cache=tmp_path, threads=1)
    kept = embed(rows, Sixteen(image_size=64), cache=tmp_path, threads=1)
    np.testing.assert_array_equal(kept.pooled(["row0"]), np.ones((1, 3)))
    assert len(list((tmp_path / "squares").iterdir())) == 2


def serves_stale_rows(rows: Features, cache: Path) -> bool:
    """Whether a change of preprocessing is answered with what was kept before it."""
    embed(rows, Bands(), cache=cache, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squares, "DECODE", squares.DECODE + 1)
        patch.setattr(
            squares, "read_square", lambda path, side, *more: np.full((side, side, 3), 7, "u1")
        )
        kept = embed(rows, Bands(), cache=cache, threads=1)
    return bool((kept.pooled(rows.ids.tolist()) != 7).any())


def test_planted_key_without_preprocessing_is_caught(
    forty: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = forty.select(["row0", "row1"])
    assert not serves_stale_rows(rows, tmp_path / "honest")
    monkeypatch.setattr(module, "square_key", lambda side, framing: {"side": side})
    assert serves_stale_rows(rows, tmp_path / "leaky")


def test_a_change_of_augmentation_leaves_view_zero_and_renews_the_rest(
    forty: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = forty.select(["row0", "row1"])
    embed(rows, Bands(), cache=tmp_path, views=2, threads=1)
    monkeypatch.setattr(module, "augmentation_key", lambda style: "another")
    told: list[int] = []
    embed(
        rows,
        Bands(),
        cache=tmp_path,
        views=2,
        threads=1,
        progress=lambda done, total: told.append(total),
    )
    assert told == [2]


def test_exactly_the_views_asked_for_are_made_and_in_the_way_asked_for(
    forty: Features, tmp_path: Path
) -> None:
    rows = forty.select(["row0", "row1"])
    told: list[int] = []
    kept = embed(
        rows,
        Bands(),
        cache=tmp_path,
        views=Views((0, 1, 3), "torchvision"),
        threads=1,
        progress=lambda done, total: told.append(total),
    )
    assert told[-1] == 2 + 2 * 3
    path = str(forty.images[0])
    view = view_of(squares.read_square(path, 32, STRETCHED), content_hash(path), 3, "torchvision")
    np.testing.assert_allclose(kept.pooled(["row0"], 3)[0], view.mean(axis=(0, 1)), rtol=1e-5)
    with pytest.raises(DataError, match=r"view 2 of \['row0'\] was not embedded"):
        kept.pooled(["row0"], 2)


def test_styles_are_kept_apart(forty: Features, tmp_path: Path) -> None:
    rows = forty.select(["row0"])
    one, other = (
        embed(rows, Bands(), cache=tmp_path, views=Views((0, 1), style), threads=1)
        for style in STYLES
    )
    np.testing.assert_array_equal(one.pooled(["row0"]), other.pooled(["row0"]))
    assert not np.array_equal(one.pooled(["row0"], 1), other.pooled(["row0"], 1))


def test_views_may_differ_by_row(forty: Features, tmp_path: Path) -> None:
    kept = embed(forty, Bands(), cache=tmp_path, views={"row1": 3, "row2": 2}, threads=1)
    assert kept.views == 3
    assert kept.pooled(["row1"], 2).shape == (1, 3)
    with pytest.raises(DataError, match=r"view 2 of \['row2', 'row0'\] was not embedded \(2 of 3"):
        kept.pooled(["row2", "row1", "row0"], 2)


def test_strangers_are_refused(forty: Features, tmp_path: Path) -> None:
    kept = embed(forty.select(["row1"]), Bands(), cache=tmp_path, threads=1)
    with pytest.raises(DataError, match=r"\['row9'\] were not embedded \(1 of 2\)"):
        kept.pooled(["row1", "row9"])
    with pytest.raises(DataError, match="unknown ids"):
        embed(forty, Bands(), cache=tmp_path, views={"who": 2}, threads=1)


@pytest.mark.parametrize("views", [0, {"row1": 0}])
def test_a_row_without_views_is_refused(
    forty: Features, tmp_path: Path, views: int | dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"must be 1 or more"):
        embed(forty, Bands(), cache=tmp_path, views=views, threads=1)


def test_tokens_are_kept_only_when_asked_for_and_can_follow(
    forty: Features, tmp_path: Path
) -> None:
    without = embed(forty, Bands(), cache=tmp_path, tokens=False, threads=1)
    assert stored(tmp_path / "tokens") == {}
    with pytest.raises(DataError, match="tokens=True"):
        without.tokens(["row0"])
    after = embed(forty, Bands(), cache=tmp_path, tokens=True, threads=1)
    assert after.tokens(["row0"]).dtype == np.float16
    np.testing.assert_array_equal(after.pooled(["row0"]), without.pooled(["row0"]))


def test_the_handle_pickles_small_and_opens_without_torch(forty: Features, tmp_path: Path) -> None:
    kept = embed(forty, Bands(), cache=tmp_path, views=2, threads=1)
    packed = pickle.dumps(kept)
    assert len(packed) < 600
    (tmp_path / "handle.pkl").write_bytes(packed)
    code = (
        "import pickle, sys; from pathlib import Path; "
        "kept = pickle.loads(Path(sys.argv[1]).read_bytes()); "
        "print(kept.pooled(['row3'], 1).tolist(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "handle.pkl")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{kept.pooled(['row3'], 1).tolist()} False"


def test_load_finds_what_embed_named_and_refuses_the_rest(forty: Features, tmp_path: Path) -> None:
    kept = embed(forty, Bands(), cache=tmp_path, threads=1)
    again = Embeddings.load(tmp_path, kept.name)
    np.testing.assert_array_equal(again.pooled(["row3"]), kept.pooled(["row3"]))
    assert Embeddings.load(tmp_path, kept.name) is again
    with pytest.raises(DataError, match="no table of embeddings"):
        Embeddings.load(tmp_path, "other")


def test_values_that_are_not_finite_are_refused_with_the_image(
    forty: Features, tmp_path: Path
) -> None:
    class Overflows(Bands):
        def encode(self, images: NDArray[np.uint8]) -> Encoded:
            out = super().encode(images)
            out.tokens[3] = np.inf
            return out

    with pytest.raises(DataError, match=r"0003\.png: test:bands gives values.* not finite"):
        embed(forty, Overflows(), cache=tmp_path, threads=1)
    assert not any(stored(tmp_path / "pooled").values())


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    rows = make_images(tmp_path / "images", 3)
    Path(rows.images[1]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0001\.png"):
        embed(rows, Bands(), cache=tmp_path / "cache", threads=1)


@pytest.mark.parametrize("kind", ["squares", "pooled", "tokens", "tables"])
def test_damage_to_a_cache_is_computed_anew_and_changes_no_value(
    forty: Features, tmp_path: Path, kind: str
) -> None:
    ids = forty.ids.tolist()
    whole = embed(forty, Bands(), cache=tmp_path, views=2, threads=1)
    expected = [whole.pooled(ids, 1), whole.tokens(ids, 1)]
    path = next(
        p
        for p in sorted((tmp_path / kind).rglob("*"))
        if p.name in ("rows.bin",) or (p.suffix == ".json" and kind == "tables")
    )
    body = bytearray(path.read_bytes())
    for at in range(7, len(body), 977):
        body[at] ^= 64
    path.write_bytes(body)
    if kind == "squares":  # which are needed for new views alone
        for other in ("pooled", "tokens"):
            shutil.rmtree(tmp_path / other)
    again = Embeddings(tmp_path, embed(forty, Bands(), cache=tmp_path, views=2, threads=1).name)
    np.testing.assert_array_equal(again.pooled(ids, 1), expected[0])
    np.testing.assert_array_equal(again.tokens(ids, 1), expected[1])


def test_an_image_that_is_replaced_between_hashing_and_decoding_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = make_images(tmp_path / "images", 3)
    honest = module._hash_images

    def replaced(*given: object) -> dict[str, str]:
        found = honest(*given)  # type: ignore[arg-type]
        Image.new("RGB", (40, 40)).save(features.images[1])
        return found

    monkeypatch.setattr(module, "_hash_images", replaced)
    with pytest.raises(DataError, match=r"0001\.png: was changed while the data were read"):
        embed(features, Bands(), cache=tmp_path / "cache", threads=1)


def test_torch_threads_are_put_back(forty: Features, tmp_path: Path) -> None:
    seen = []

    class Looks(Bands):
        def encode(self, images: NDArray[np.uint8]) -> Encoded:
            seen.append(torch.get_num_threads())
            return super().encode(images)

    embed(forty, Looks(), cache=tmp_path, threads=2)
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1


def test_a_real_row_does_not_depend_on_its_neighbours(forty: Features, tmp_path: Path) -> None:
    encoder = registry.build("bundled:efficientnet_lite0")
    few = forty.select([f"row{i}" for i in range(5)])
    together = embed(few, encoder, cache=tmp_path / "together", threads=1)
    alone = embed(few.select(["row4"]), encoder, cache=tmp_path / "alone", threads=1)
    one, other = alone.pooled(["row4"]), together.pooled(["row4"])
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.tokens(["row4"]), together.tokens(["row4"]), atol=1e-2)


INTERRUPTED = """
import sys
from pathlib import Path
from outerfold.pipelines.images import decoded as squares, embed as embeddings
from tests.pipelines.images.test_embed import Bands, make_images

embeddings.CHUNK = squares.CHUNK = 8
rows = make_images(Path(sys.argv[1]) / "images", 40)
print("started", flush=True)
embeddings.embed(rows, Bands(pause=0.05), cache=Path(sys.argv[2]), threads=1)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_and_resumed_the_cache_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(squares, "CHUNK", 8)
    rows = make_images(tmp_path / "images", 40)
    cache = tmp_path / "killed"
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(cache)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.stat().st_size for path in cache.glob("pooled/*/rows.index")):
            break
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    partly = stored(cache / "pooled")
    kept = embed(rows, Bands(), cache=cache, threads=1)
    whole = embed(rows, Bands(), cache=tmp_path / "whole", threads=1)
    assert 0 < sum(map(len, partly.values())) < sum(map(len, stored(cache / "pooled").values()))
    assert stored(cache) == stored(tmp_path / "whole")
    assert kept.name == whole.name
