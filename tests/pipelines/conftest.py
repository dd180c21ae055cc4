"""What tests of several pipelines share."""

from collections.abc import Iterator

import pytest
import torch

from pipelines.encoders import clip_encoder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products only wait for each other on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of CLIP towers that tests can make and run in no time, under the names of real ones."""
    towers = {
        "ViT-B/32": clip_encoder.Tower(32, 32, 2, 64, 8),
        "RN50": clip_encoder.Tower(16, 64, (1, 1, 1, 1), 8),
    }
    for name, tower in towers.items():
        monkeypatch.setitem(clip_encoder.TOWERS, name, tower)
