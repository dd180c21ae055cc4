"""optuna-dashboard of one run, for this machine only; it changes nothing unless that is allowed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

from optuna.artifacts._protocol import ArtifactStore
from optuna.storages import BaseStorage
from optuna_dashboard import wsgi

from outerfold.storage.errors import DataError

HOST = "127.0.0.1"
READING = ("GET", "HEAD", "OPTIONS")

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def open_dashboard(
    storage: BaseStorage,
    port: int,
    *,
    allow_changes: bool,
    artifacts: ArtifactStore | None = None,
    update: Callable[[], None] = lambda: None,
) -> WSGIServer:
    """Server of the dashboard, which the caller lets run.

    Args:
        storage: the trials.
        port: port on this machine; 0 takes a free one.
        allow_changes: whether its buttons may rename, delete and annotate studies.
        artifacts: pictures of the studies; None for none.
        update: called before each request.

    Raises:
        DataError: the port is in use, or may not be used.
    """
    try:
        server = make_server(HOST, port, lambda *_: ())
    except OSError as error:
        used = error.errno == errno.EADDRINUSE
        reason = "another program uses it" if used else error.strerror
        raise DataError(f"--port {port}: {reason}; name another, such as --port 8081") from None
    except OverflowError:
        raise DataError(f"--port {port}: must be from 1 to 65535") from None
    pages = wsgi(storage, artifact_store=artifacts)

    def updated(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        update()
        answer: Iterable[bytes] = pages(environ, respond)
        return answer

    server.set_app(guard(updated, server.server_port, allow_changes=allow_changes))
    return server


def guard(app: App, port: int, *, allow_changes: bool) -> App:
    """The application, which answers pages of this machine only.

    A page of another site can let a browser send requests here; their host or origin is another.

    Args:
        app: the application.
        port: port on which it is served.
        allow_changes: whether requests that change something are passed on.
    """
    hosts = (f"{HOST}:{port}", f"localhost:{port}")
    origins = ("", *(f"http://{host}" for host in hosts))

    def guarded(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        refusal = ""
        if environ.get("HTTP_HOST") not in hosts:
            refusal = f"open http://{hosts[0]}: other hosts are refused"
        elif environ["REQUEST_METHOD"] not in READING and not allow_changes:
            refusal = "the dashboard only reads; `outerfold dashboard --allow-changes` lifts that"
        elif (
            environ["REQUEST_METHOD"] not in READING
            and environ.get("HTTP_ORIGIN", "") not in origins
        ):
            refusal = "a page of another site may change nothing"
        if not refusal:
            return app(environ, respond)
        respond("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [refusal.encode()]

    return guarded
