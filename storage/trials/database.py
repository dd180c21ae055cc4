"""A database that holds trials: its URL as it may be printed, and patience while it restarts."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from outerfold.storage.errors import DataError, first_line

_log = logging.getLogger("outerfold")

T = TypeVar("T")

DATABASE_SECONDS = 300.0
"""How long a run waits for a database that is restarted."""


def without_password(url: str) -> str:
    """A database URL as it may be printed and kept."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def retry(call: Callable[[], T], seconds: float = DATABASE_SECONDS) -> T:
    """What ``call`` returns, tried again while the database does not answer.

    Raises:
        DataError: it did not for ``seconds``.
    """
    until, told = time.monotonic() + seconds, False
    while True:
        try:
            return call()
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if not isinstance(cause, (OperationalError, InterfaceError)):
                raise
            reason = first_line(cause)
            if time.monotonic() > until:
                raise DataError(
                    f"--storage: the database has not answered for {seconds:.0f} s ({reason}); "
                    "ended trials are kept: start it, and give the same command again"
                ) from None
        if not told:
            _log.warning("the database of the trials does not answer (%s); trying on", reason)
        told = True
        time.sleep(1.0)
