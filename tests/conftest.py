"""What all tests share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def converted_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder of converted encoders for all caches of a session; a conversion takes seconds."""
    from outerfold.pipelines.encoders.backends import openvino_backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_backend, "FOLDER", str(tmp_path_factory.mktemp("converted")))
        yield


@pytest.fixture(autouse=True, scope="session")
def drawn_here() -> Iterator[None]:
    """No process is started to draw a report's figures, for each takes 2 s; tests of that ask."""
    from outerfold.storage import processes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "MOST_BESIDE", 0)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no process works alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
