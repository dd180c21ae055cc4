"""Inputs of tails where they train: held on a GPU where they fit, else read ahead of the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.images.ahead import results_ahead
from outerfold.storage.records import IntArray

HELD_SHARE = 0.25
"""Largest share of a GPU's free memory that inputs may take; training needs most of the rest, and
several workers may share a GPU. 7,800 images in 3 views before the last two blocks of
EfficientNet-B0 are 1 GB."""
LEAD = 2
"""Batches that are read ahead of the step that trains."""
CHUNK = 1024
"""Rows copied at once to a GPU that holds them."""

Rows = tuple[IntArray, IntArray]
"""Positions (n,) of rows in the training side, and the number of the view (n,) of each."""
Read = Callable[[slice], Tensor]
"""Function that returns a part of a batch's inputs, (k, ...), on the device."""


class DeviceRows:
    """Inputs of a tail for the rows of a training side, on the device that trains.

    On a CPU they are read from disk batch by batch. On a GPU all views that ``want`` named are held
    there if they fit; else a thread reads the next batches into memory from which the GPU copies
    while it trains. The values are the same each way.

    Args:
        source: images or activations that a tail reads.
        ids: rows of the training side.
        device: device that trains.
        room: bytes that inputs may take on the device; None for a share of a GPU's free memory, and
            nothing on a CPU.
        ahead: whether to read ahead what is not held; None for a GPU alone.
    """

    def __init__(
        self,
        source: TailRows,
        ids: Sequence[str],
        device: torch.device,
        *,
        room: int | None = None,
        ahead: bool | None = None,
    ) -> None:
        self.source, self.ids, self.device, self._room = source, np.asarray(ids), device, room
        self._ahead = device.type == "cuda" if ahead is None else ahead
        self._at = {name: position for position, name in enumerate(self.ids.tolist())}
        self._views: IntArray = np.zeros(0, dtype=np.int64)
        self._bank: Tensor | None = None  # (views x rows, ...), view after view

    @property
    def held(self) -> bool:
        """Whether the device holds the inputs."""
        return self._bank is not None

    def want(self, views: Sequence[int]) -> None:
        """Hold these views, and those held before, if all of them fit; else hold none."""
        wanted = np.union1d(self._views, np.array(views, dtype=np.int64))
        if self.held and len(wanted) == len(self._views):
            return
        self._bank, self._views = None, np.zeros(0, dtype=np.int64)
        room = self._free()
        if not room:
            return
        one = self._read(np.zeros(1, dtype=np.int64), wanted[:1])
        if one.nbytes * len(self.ids) * len(wanted) > room:
            return
        rows = (len(wanted) * len(self.ids), *one.shape[1:])
        bank = torch.empty(rows, dtype=one.dtype, device=self.device)
        for slot, view in enumerate(wanted.tolist()):
            for start in range(0, len(self.ids), CHUNK):
                names = self.ids[start : start + CHUNK].tolist()
                values = torch.from_numpy(
                    np.ascontiguousarray(self.source.activations(names, view))
                )
                begin = slot * len(self.ids) + start
                bank[begin : begin + len(names)] = values.to(self.device)
        self._bank, self._views = bank, wanted

    def batches(self, batches: Sequence[Rows]) -> Iterator[Read]:
        """Yield the function that reads each batch, in their order."""
        if self._bank is not None:
            bank, ids = self._bank, len(self.ids)
            index = [np.searchsorted(self._views, views) * ids + at for at, views in batches]
            # One copy an epoch: a copy a step would wait for the step before.
            everything = torch.from_numpy(np.concatenate(index)).to(self.device)
            for own in torch.split(everything, [len(each) for each in index]):
                yield partial(_select, bank, own)
        elif self._ahead:
            yield from self._read_ahead(batches)
        else:
            for batch in batches:
                yield partial(_send, self._read(*batch), self.device)

    def scored(self, names: Sequence[str], view: int) -> Tensor:
        """Return the inputs (n, ...) of one view of rows, on any device."""
        if self._bank is None or view not in self._views:
            return torch.from_numpy(np.ascontiguousarray(self.source.activations(names, view)))
        slot = int(np.searchsorted(self._views, view)) * len(self.ids)
        index = torch.tensor([slot + self._at[name] for name in names])
        return self._bank.index_select(0, index.to(self.device))

    def _read_ahead(self, batches: Sequence[Rows]) -> Iterator[Read]:
        with ThreadPoolExecutor(1) as pool:
            for host in results_ahead(lambda batch: pool.submit(self._read, *batch), batches, LEAD):
                yield partial(_send, host, self.device)

    def _read(self, at: IntArray, views: IntArray) -> Tensor:
        """Inputs (n, ...) of a batch in main memory, pinned for a GPU."""
        parts = [(np.flatnonzero(views == view), view) for view in np.unique(views).tolist()]
        read = [
            (where, self.source.activations(self.ids[at[where]].tolist(), view))
            for where, view in parts
        ]
        images = np.empty((len(at), *read[0][1].shape[1:]), read[0][1].dtype)
        for where, values in read:
            images[where] = values
        found = torch.from_numpy(images)
        return found.pin_memory() if self.device.type == "cuda" else found

    def _free(self) -> float:
        if self._room is not None:
            return self._room
        if self.device.type != "cuda":
            return 0
        torch.cuda.empty_cache()  # what an earlier training held is free again
        return HELD_SHARE * torch.cuda.mem_get_info(self.device)[0]


def device_rows(source: TailRows, ids: Sequence[str], device: torch.device) -> DeviceRows:
    """Inputs of a training side; the last ones stay on a GPU for the next training of the rows."""
    if device.type == "cpu":
        return DeviceRows(source, ids, device)
    return _kept_rows(source, tuple(ids), str(device))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def _kept_rows(source: TailRows, ids: tuple[str, ...], device: str) -> DeviceRows:
    return DeviceRows(source, ids, torch.device(device))


def _select(bank: Tensor, index: Tensor, part: slice) -> Tensor:
    return bank.index_select(0, index[part])


def _send(host: Tensor, device: torch.device, part: slice) -> Tensor:
    return host[part].to(device, non_blocking=True)
