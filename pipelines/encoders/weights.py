"""Where pretrained weights come from: a file, the local cache, the hub, or one clear error."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from outerfold.storage.records import DataError

NETWORK_SECONDS = 5.0
"""Longest wait for a hub's first answer. Name look-ups obey no time-out of their own."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions_of(*packages: str) -> tuple[str, ...]:
    """``package version`` of installed packages, without a build's local part (``+cpu``)."""
    return tuple(f"{package} {version(package).split('+')[0]}" for package in packages)


def given(weights: Path) -> Path:
    """The weights file the user named, or ``DataError``."""
    if not weights.is_file():
        raise DataError(f"--weights {weights}: no such file")
    return weights


def not_found(name: str, tried: Sequence[str]) -> DataError:
    """The error when weights are nowhere; ``tried`` says how each of the three places failed."""
    return DataError(
        f"{name}: no pretrained weights. Tried --weights FILE ({tried[0]}), the local cache "
        f"({tried[1]}) and the hub ({tried[2]}). Name a weights file with --weights, connect to "
        f"the network once, or use --encoder bundled:efficientnet_lite0, which needs neither"
    )


def mismatch(
    origin: str, name: str, own: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> DataError:
    """How a file's tensors differ from a model's own, the first three of each kind."""
    shapes = {key: tuple(value.shape) for key, value in own.items()}
    kinds = {
        "lacks {}": [key for key in own if key not in found],
        "has {} that the model lacks": [key for key in found if key not in own],
        "has {} of another shape": [
            f"{key} {tuple(found[key].shape)} instead of {shape}"
            for key, shape in shapes.items()
            if key in found and tuple(found[key].shape) != shape
        ],
    }
    parts = [
        f"{words.format(f'{len(keys)} tensor' + 's' * (len(keys) > 1))} ({', '.join(keys[:3])}"
        f"{', ...' * (len(keys) > 3)})"
        for words, keys in kinds.items()
        if keys
    ]
    return not_its(origin, name, f"it {', '.join(parts)}" if parts else "")


def not_its(origin: str, name: str, reason: str) -> DataError:
    """The error when a file is of another model."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why = lines[0] if len(lines) == 1 else "; ".join(lines[1:3])
    return DataError(f"{origin}: not the weights of {name}: {why[:600]}; name a file of that model")


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, of tensors only; nothing in the file is executed.

    A ``state_dict`` entry of a checkpoint is taken for it.

    Raises:
        DataError: not such a file.
    """
    try:
        loaded = _load(path)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "empty"
        raise DataError(
            f"{path}: not a file of weights alone ({type(error).__name__}: {reason}); "
            f"save it with torch.save(model.state_dict(), FILE)"
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not any(isinstance(v, Tensor) for v in state.values()):
        raise DataError(f"{path}: holds {type(state).__name__}, not named tensors")
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def reachable(url: str, seconds: float = NETWORK_SECONDS) -> str:
    """Why ``url`` does not answer within ``seconds``; empty when it does."""
    answer = ["no answer"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answer[0] = ""
        except urllib.error.HTTPError:
            answer[0] = ""  # it answered, if only to refuse this address
        except (OSError, ValueError) as error:
            answer[0] = str(getattr(error, "reason", error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answer[0]


def download_weights(url: str, target: Path, sha256: str) -> Path:
    """Fetch a file whole or not at all, and check what came.

    Raises:
        DataError: another file came.
        OSError: nothing, or only part, came.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with urllib.request.urlopen(url, timeout=30) as source, part.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    found = sha256_of(part)
    if found != sha256:
        part.unlink()
        raise DataError(f"{url}: SHA-256 is {found}, expected {sha256}; try again later")
    part.replace(target)
    return target
