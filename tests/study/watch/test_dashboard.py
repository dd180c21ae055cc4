"""The dashboard reads, on this machine; a button changes something only where that is allowed."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import open_trials
from outerfold.study.watch.dashboard import open_dashboard


@contextmanager
def served(path: Path, *, allow_changes: bool) -> Iterator[int]:
    storage = open_trials(RunFolder(path))
    optuna.create_study(study_name="outer-0", storage=storage, load_if_exists=True)
    server = open_dashboard(storage, 0, allow_changes=allow_changes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, str]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    line.request(method, path, headers=headers)
    answer = line.getresponse()
    return answer.status, answer.read().decode()


def studies(port: int) -> list[str]:
    return [
        s["study_name"] for s in json.loads(ask(port, "GET", "/api/studies")[1])["study_summaries"]
    ]


def test_nothing_is_changed_unless_that_is_allowed(tmp_path: Path) -> None:
    with served(tmp_path, allow_changes=False) as port:
        for method in ("DELETE", "PUT", "POST"):
            code, said = ask(port, method, "/api/studies/0")
            assert (code, "--allow-changes lifts that" in said.replace("`", "")) == (403, True)
        assert studies(port) == ["outer-0"]


def test_other_hosts_and_pages_of_other_sites_are_refused(tmp_path: Path) -> None:
    with served(tmp_path, allow_changes=True) as port:
        assert ask(port, "GET", "/api/studies", Host="evil.example")[0] == 403
        assert ask(port, "GET", "/api/studies", Host=f"localhost:{port}")[0] == 200
        assert ask(port, "DELETE", "/api/studies/0", Host="evil.example")[0] == 403
        assert ask(port, "DELETE", "/api/studies/0", Origin="http://evil.example")[0] == 403
        assert studies(port) == ["outer-0"]
        assert ask(port, "DELETE", "/api/studies/0")[0] == 204
        assert studies(port) == []


def test_a_port_that_is_in_use_is_one_sentence(tmp_path: Path) -> None:
    with (
        served(tmp_path, allow_changes=False) as port,
        pytest.raises(DataError, match=rf"--port {port}: another program uses it; name another"),
    ):
        open_dashboard(open_trials(RunFolder(tmp_path)), port, allow_changes=False)
    with pytest.raises(DataError, match="--port 99999: must be from 1 to 65535"):
        open_dashboard(open_trials(RunFolder(tmp_path)), 99999, allow_changes=False)
