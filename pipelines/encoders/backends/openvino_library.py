"""OpenVINO as a library: loaded without its telemetry, and one image a stream of one thread."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from outerfold.pipelines.encoders.backends.network import PixelNetwork
from outerfold.pipelines.encoders.frozen import Values

TELEMETRY = "openvino_telemetry"


def installed_version() -> str:
    """Version of the installed package, such as ``2026.4.1``; empty where there is none."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


def import_openvino() -> ModuleType:
    """Import OpenVINO, which then reports nothing to its makers.

    Its import and each conversion send usage data, unless the package ``openvino_telemetry`` cannot
    be imported; then OpenVINO takes its own stub (``openvino/tools/ovc/telemetry_stub.py``).

    Raises:
        ImportError: OpenVINO is not installed, or does not start on this machine.
    """
    with _without_module(TELEMETRY):
        library = import_module("openvino")
        import_module("openvino.tools.ovc.convert_impl")
    stub = import_module("openvino.tools.ovc.telemetry_stub")
    for name, module in list(sys.modules.items()):  # a script may have loaded it with telemetry
        if name.startswith("openvino.tools.ovc.") and hasattr(module, "tm"):
            vars(module)["tm"] = stub
    return library


def convert_network(network: PixelNetwork, side: int, path: Path) -> None:
    """Convert a network for batches of one image and save it as ``path`` with its weights beside.

    Args:
        network: the network, on the CPU.
        side: side of its square input images, in pixels.
        path: file to write, with suffix ``.xml``.

    Raises:
        Exception: whatever the converter raises for a network that it cannot take.
    """
    library = import_openvino()
    one = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, on shapes that are fixed here anyway
        model = library.convert_model(network, example_input=one, input=[1, side, side, 3])
    library.save_model(model, str(path), compress_to_fp16=False)


class StreamedModel:
    """Converted network that computes each image alone, on as many streams as torch has threads.

    A stream has one thread, and a batch is one image. So the values of an image depend neither on
    the other images nor on the number of threads, and no batch is ever padded. Per image that
    costs no more CPU time than batches of 2, 4 or 8 (EfficientNet-Lite0 and B0, ResNet-50 and CLIP
    ViT-B/32).

    Args:
        path: file that ``convert_network`` wrote.
    """

    def __init__(self, path: Path) -> None:
        self._library = import_openvino()
        self._core = self._library.Core()
        self._model = self._core.read_model(str(path))
        self._queues: dict[int, Any] = {}

    def __call__(self, images: NDArray[np.uint8]) -> Values:
        """Compute the values of 8-bit images (n, s, s, 3)."""
        shapes = [output.get_shape()[1:] for output in self._model.outputs]
        pooled, tokens = (np.empty((len(images), *shape), np.float32) for shape in shapes)

        def keep(request: Any, row: int) -> None:
            pooled[row] = request.get_output_tensor(0).data[0]
            tokens[row] = request.get_output_tensor(1).data[0]

        queue = self._open_queue(torch.get_num_threads())
        queue.set_callback(keep)
        for row in range(len(images)):
            queue.start_async({0: images[row : row + 1]}, row)
        queue.wait_all()
        return pooled, tokens

    def _open_queue(self, threads: int) -> Any:
        if threads not in self._queues:
            compiled = self._core.compile_model(
                self._model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the CPU has it
                    "NUM_STREAMS": threads,
                    "INFERENCE_NUM_THREADS": threads,
                    "ENABLE_CPU_PINNING": False,  # other processes use the same cores
                },
            )
            self._queues[threads] = self._library.AsyncInferQueue(compiled, threads)
        return self._queues[threads]


@contextmanager
def _without_module(name: str) -> Iterator[None]:
    """Let the import of a module fail; a module that is loaded already comes back afterwards."""
    hidden = {
        key: sys.modules.pop(key)
        for key in list(sys.modules)
        if key == name or key.startswith(f"{name}.")
    }
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(hidden)
