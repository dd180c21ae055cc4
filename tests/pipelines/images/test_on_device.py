"""Inputs of tails are the same however they reach the device; a CPU stands in for a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from outerfold.pipelines.images.on_device import DeviceRows, device_rows
from tests.pipelines.training.tail_factories import tail_rows

CPU = torch.device("cpu")
ROWS = tail_rows()
IDS = ROWS.train.ids.tolist()
BATCHES = [
    (np.array([3, 0, 5, 5, 1]), np.array([0, 1, 1, 0, 2])),
    (np.array([2, 4]), np.array([0, 0])),
    (np.array([1, 1, 6]), np.array([2, 2, 1])),
]


def rows(*, room: int = 0, ahead: bool = False) -> DeviceRows:
    return DeviceRows(ROWS.source, IDS, CPU, room=room, ahead=ahead)  # type: ignore[arg-type]


def parts(found: DeviceRows) -> list[torch.Tensor]:
    return [read(part) for read in found.batches(BATCHES) for part in (slice(0, 2), slice(2, 9))]


@pytest.mark.parametrize(("room", "ahead"), [(0, True), (1 << 30, False)])
def test_rows_held_or_read_ahead_are_those_that_are_read_in_turn(room: int, ahead: bool) -> None:
    expected, found = rows(), rows(room=room, ahead=ahead)
    found.want([0, 1, 2])
    assert found.held == bool(room)
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(one, other)
    for view in (0, 2):
        assert torch.equal(found.scored(IDS[3:6], view), expected.scored(IDS[3:6], view))


def test_rows_are_held_only_where_all_views_fit() -> None:
    one = ROWS.source.activations(IDS[:1]).nbytes  # type: ignore[attr-defined]
    found = rows(room=2 * one * len(IDS))
    found.want([0, 1])
    assert found.held
    found.want([1])
    assert found.held
    found.want([2])
    assert not found.held


def test_views_wanted_later_join_those_that_are_held() -> None:
    found, expected = rows(room=1 << 30), rows()
    for view in (2, 0, 1):
        found.want([view])
    assert all(map(torch.equal, parts(found), parts(expected)))


def test_a_cpu_holds_nothing_and_reads_nothing_before_it_is_needed() -> None:
    found = device_rows(ROWS.source, IDS, CPU)  # type: ignore[arg-type]
    found.want([0])
    assert not found.held
