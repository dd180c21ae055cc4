"""Backend of OpenVINO in float32, for encoders of which it gives the same values as torch."""

from __future__ import annotations

import platform
import shutil
import tempfile
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from outerfold.pipelines.encoders._base import FLOAT32, TOKEN_GRID
from outerfold.pipelines.encoders.backends.network import PixelNetwork
from outerfold.pipelines.encoders.backends.openvino_library import (
    StreamedModel,
    convert_network,
    installed_version,
)
from outerfold.pipelines.encoders.backends.probe import Verdict, compare, probe_images
from outerfold.pipelines.encoders.frozen import Compute, FrozenEncoder, Values
from outerfold.pipelines.encoders.weights import sha256_of
from outerfold.storage.cache.files import make_cache_folder, read_kept, write_kept
from outerfold.storage.cache.row_store import digest
from outerfold.storage.records import DataError

FOLDER = "converted"
"""Folder of the cache with converted encoders."""
MODEL = "model.xml"
HASHES = "sha256.json"
"""File with the SHA-256 of the files of a converted encoder."""


@dataclass(frozen=True)
class OpenVinoBackend:
    """Computation by OpenVINO on the CPU.

    Attributes:
        cache: folder that keeps converted encoders and how they compared with torch, so that a
            conversion, which takes seconds, and the comparison are made once.
    """

    cache: Path
    name: str = "openvino"
    precision: str = FLOAT32

    @property
    def version(self) -> str:
        """The library and its version."""
        return f"openvino {installed_version()}"

    def batch(self, encoder: str, device: str) -> int:
        """Each image is computed alone."""
        return 1

    def prepare(self, encoder: FrozenEncoder) -> Compute:
        """Return the function that computes the values of 8-bit images (n, s, s, 3).

        Raises:
            DataError: OpenVINO does not compute this encoder as torch does.
        """
        verdict = self.verdict(encoder)
        if not verdict.alike:
            raise DataError(
                f"--encoder-backend openvino: OpenVINO cannot compute {encoder.name} here, since "
                f"{verdict.reason}; use --encoder-backend torch"
            )
        return StreamedModel(self._home(encoder) / MODEL)

    def verdict(self, encoder: FrozenEncoder) -> Verdict:
        """Compare the values of 16 photographs with those of torch, once for each kind of CPU.

        The encoder is converted first, if the cache does not have it. One that cannot be converted
        is not tried again.
        """
        if not installed_version():
            return Verdict(False, None, "the package openvino is not installed")
        home = self._home(encoder)
        kept = home / f"cpu-{digest({'cpu': describe_cpu()})[:12]}.json"
        make_cache_folder(home)
        with FileLock(home / "lock"):
            found = read_kept(kept)
            if found is None or not _is_whole(home):
                write_kept(kept, asdict(self._compare(encoder, home)))
        return Verdict(**(read_kept(kept) or {}))

    def _compare(self, encoder: FrozenEncoder, home: Path) -> Verdict:
        network = _network_on_cpu(encoder)
        try:
            if not ((home / MODEL).exists() and _is_whole(home)):
                _convert_whole(network, encoder.image_size, home)
            images = probe_images(encoder.image_size)
            found = StreamedModel(home / MODEL)(images)
        except (OSError, MemoryError):
            raise  # a full disk says nothing about the encoder
        # The tracer, the converter and the library raise errors of many types, some of their own;
        # whatever the reason, torch computes this encoder, and the reason is kept.
        except Exception as error:  # noqa: BLE001
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Verdict(False, None, f"it does not convert ({lines[0][:160]})")
        with torch.inference_mode():
            pooled, tokens = network(torch.from_numpy(images))
        expected: Values = pooled.numpy(), tokens.numpy()
        return compare(expected, found)

    def _home(self, encoder: FrozenEncoder) -> Path:
        of = {
            "encoder": encoder.name,
            "weights": encoder.weights_sha256,
            "versions": list(encoder.libraries),
            "image_size": encoder.image_size,
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "token_grid": TOKEN_GRID,
        }
        return self.cache / FOLDER / digest({**of, "by": self.version})[:24]


@lru_cache(maxsize=1)
def describe_cpu() -> str:
    """Model and features of the CPU, by which libraries choose their kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    wanted = ("model name", "flags", "Features")
    found = dict.fromkeys(line for line in lines if line.startswith(wanted))
    return "\n".join(found) or f"{platform.machine()} {platform.processor()}"


def _is_whole(home: Path) -> bool:
    """Whether a converted encoder, if there is one, consists of the bytes that were written."""
    if not (home / MODEL).exists():
        return True
    state = tuple((path.name, *_times(path)) for path in sorted(home.glob("model.*")))
    return _has_hashes(home, state)


def _times(path: Path) -> tuple[int, int, int]:
    now = path.stat()
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns


@lru_cache(maxsize=64)
def _has_hashes(home: Path, state: tuple[tuple[str | int, ...], ...]) -> bool:
    # ``state`` (names, sizes, times) is part of the cache's key: changed files are read again.
    kept = read_kept(home / HASHES)
    return kept == {str(name): sha256_of(home / str(name)) for name, *_ in state}


def _network_on_cpu(encoder: FrozenEncoder) -> PixelNetwork:
    if encoder.device.type == "cpu":
        return PixelNetwork(encoder)
    network = PixelNetwork(encoder)
    return deepcopy(network).to("cpu")


def _convert_whole(network: PixelNetwork, side: int, home: Path) -> None:
    """Convert a network into ``home``; a killed process leaves no part under the final names."""
    draft = Path(tempfile.mkdtemp(dir=home, prefix=".draft-"))
    try:
        convert_network(network, side, draft / MODEL)
        files = sorted(draft.iterdir())  # the weights, .bin, before the .xml that names them
        hashes = {path.name: sha256_of(path) for path in files}
        for path in files:
            path.replace(home / path.name)
        write_kept(home / HASHES, hashes)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
