"""Pretrained weights: reading and checking files, download from the hub, and error messages."""

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

from outerfold.storage.network import offline_reason
from outerfold.storage.records import DataError

NETWORK_SECONDS = 5.0
"""Longest wait for a hub's first answer; name look-ups have no time-out themselves."""


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions_of(*packages: str) -> tuple[str, ...]:
    """List installed packages as ``package version``, without a build's local part (``+cpu``)."""
    return tuple(f"{package} {version(package).split('+')[0]}" for package in packages)


def check_file(weights: Path) -> Path:
    """Return the weights file that the user named.

    Raises:
        DataError: there is no such file.
    """
    if not weights.is_file():
        raise DataError(f"--weights {weights}: no such file")
    return weights


def no_weights_error(name: str, tried: Sequence[str]) -> DataError:
    """Make the error for an encoder without weights.

    Args:
        name: name of the encoder.
        tried: reasons why the file, the local cache and the hub failed, in this order.
    """
    return DataError(
        f"{name}: no pretrained weights. Tried --weights FILE ({tried[0]}), the local cache "
        f"({tried[1]}) and the hub ({tried[2]}). Name a weights file with --weights, connect to "
        f"the network once, or use --encoder bundled:efficientnet_lite0, which needs neither"
    )


def mismatch_error(
    origin: str, name: str, own: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> DataError:
    """Make the error for a file whose tensors differ from a model's; it names three of each kind.

    Args:
        origin: where the weights came from.
        name: name of the encoder.
        own: tensors of the model, by name.
        found: tensors of the file, by name.
    """
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
    return wrong_weights_error(origin, name, f"it {', '.join(parts)}" if parts else "")


def wrong_weights_error(origin: str, name: str, reason: str) -> DataError:
    """Make the error for a weights file of another model.

    Args:
        origin: where the weights came from.
        name: name of the encoder.
        reason: evidence that they are of another model; of several lines, two are shown.
    """
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why = lines[0] if len(lines) == 1 else "; ".join(lines[1:3])
    return DataError(f"{origin}: not the weights of {name}: {why[:600]}; name a file of that model")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, tensors by name, from a file; nothing in the file is executed.

    Where the file is a checkpoint with an entry ``state_dict``, this entry is read.

    Raises:
        DataError: the file is not a state dict.
    """
    try:
        loaded = _load_file(path)
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


def _load_file(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def find_failure(url: str, seconds: float = NETWORK_SECONDS) -> str:
    """Return why ``url`` does not answer within ``seconds``; empty when it answers.

    Offline, it is not asked.
    """
    if offline_reason():
        return offline_reason()
    answer = ["no answer"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answer[0] = ""
        except urllib.error.HTTPError:
            answer[0] = ""  # the server answered, even if it refused this address
        except (OSError, ValueError) as error:
            answer[0] = str(getattr(error, "reason", error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answer[0]


def download_weights(url: str, target: Path, sha256: str) -> Path:
    """Download a file and check its SHA-256; ``target`` is written whole or not at all.

    Args:
        url: address of the file.
        target: path to write.
        sha256: expected SHA-256, 64 hex digits.

    Raises:
        DataError: the downloaded file has another SHA-256.
        OSError: the file could not be downloaded, or not all of it.
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
