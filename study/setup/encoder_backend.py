"""Choice for `--encoder-backend auto`: the library that computes the frozen encoders of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from outerfold.pipelines.encoders._base import Encoder
from outerfold.pipelines.encoders.backends.choose import choose_backend, with_backend
from outerfold.pipelines.encoders.divide import frozen_parts
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import AUTO, StudyConfig


def resolve_encoder_backend(
    config: StudyConfig,
    folder: RunFolder,
    encoders: Mapping[str, Encoder],
    *,
    cache: Path,
    device: str,
) -> tuple[StudyConfig, str]:
    """Configuration with a backend in place of ``auto``, and a phrase on why it is this one.

    The phrase is empty if nothing was chosen. A started run keeps its backend, so that its
    embeddings stay the same on another machine; one that began before backends had names keeps
    none.

    Args:
        config: options of the run.
        folder: directory of the run.
        encoders: encoders of the run by name.
        cache: folder that keeps converted encoders.
        device: device that encodes, such as ``cuda:0`` or ``cpu``.
    """
    if config.encoder_backend != AUTO:
        return config, ""
    if folder.started():
        kept = folder.read_config().get("encoder_backend", "")
        return replace(config, encoder_backend=kept), ""
    parts = [
        part
        for name in config.encoders
        for part in frozen_parts(encoders[name], config.trainable_blocks)
    ]
    chosen = choose_backend(parts, cache=cache, device=device)
    if chosen.difference is None:
        why = chosen.reason
    else:
        why = f"on 16 photographs it differs from torch by {chosen.difference:.1g} of the spread"
    found = replace(config, encoder_backend=chosen.backend)
    return found, f"encoder backend {chosen.backend}: {why}"


def attach_backend(
    config: StudyConfig, encoders: Mapping[str, Encoder], cache: Path
) -> dict[str, Encoder]:
    """Encoders of a run by name, with the backend of its settled configuration.

    Args:
        config: options of the run, without ``auto``.
        encoders: encoders of the run by name.
        cache: folder that keeps converted encoders.

    Raises:
        DataError: the backend is absent here, or does not compute an encoder as torch does.
    """
    return {
        name: with_backend(encoder, config.encoder_backend, cache)
        for name, encoder in encoders.items()
    }
