"""Offline, nothing asks the network: with sockets blocked, weights and data get one sentence."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from outerfold.pipelines.encoders import clip_encoder, timm_encoder
from outerfold.storage.datasets.kaggle import availability
from outerfold.storage.network import OF_LIBRARIES, VARIABLE, go_offline, offline_reason
from outerfold.storage.records import DataError
from outerfold.study.cli.main import main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Attempts to reach another machine, none of which succeeds."""
    found: list[str] = []

    def refuse(*words: Any, **more: Any) -> Any:
        found.append(str(words))
        raise OSError("blocked")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in (VARIABLE, *OF_LIBRARIES):
        monkeypatch.setenv(name, "")
    return found


def test_offline_weights_and_data_are_not_asked_for(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(clip_encoder, "CACHE", tmp_path)
    monkeypatch.setattr(timm_encoder, "try_to_load_from_cache", lambda *words: None)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    go_offline()
    assert all(os.environ[name] == "1" for name in OF_LIBRARIES)
    assert offline_reason() == "--offline was given"
    for build, name in ((timm_encoder.build, "resnet18"), (clip_encoder.build, "ViT-B/32")):
        with pytest.raises(DataError, match=r"no pretrained weights.*--offline was given"):
            build(name)
    found = availability("dbt")
    assert found.state == "unavailable"
    assert found.reason.endswith("cannot be reached: --offline was given")
    assert asked == []


def test_without_it_they_are_asked_for(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The blocked sockets would notice a call."""
    monkeypatch.setattr(clip_encoder, "CACHE", tmp_path)
    with pytest.raises(DataError, match="no pretrained weights"):
        clip_encoder.build("ViT-B/32")
    assert asked


def test_the_option_stands_before_any_work(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: Any
) -> None:
    monkeypatch.setattr(clip_encoder, "CACHE", tmp_path)
    words = ["run", "--task", "dbt", "--data", "demo", "--encoder", "clip:ViT-B/32", "--offline"]
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "outerfold.study.driver.begin.find_source", lambda *w, **m: clip_encoder.build("ViT-B/32")
    )
    assert main([*words, "--run", str(tmp_path / "run"), "--workers", "1"]) == 2
    assert "--offline was given" in capsys.readouterr().err
    assert asked == []
